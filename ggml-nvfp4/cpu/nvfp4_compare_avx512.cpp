#include <immintrin.h>

#define GNV_COMPARE_VARIANT              avx512
#define GNV_COMPARE_WIDTH                16
#define GNV_COMPARE_LOOKUP(table, index) Floats(_mm512_permutexvar_ps(__m512i(index), __m512(table)))
#include "cpu/nvfp4_compare_loops.h"
