#include <immintrin.h>

#define GNV_COMPARE_VARIANT              avx2
#define GNV_COMPARE_WIDTH                8
#define GNV_COMPARE_LOOKUP(table, index) Floats(_mm256_permutevar8x32_ps(__m256(table), __m256i(index)))
#include "cpu/nvfp4_compare_loops.h"
