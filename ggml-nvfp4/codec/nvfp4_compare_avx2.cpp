#include <immintrin.h>

#define GNV_COMPARE_VARIANT              avx2
#define GNV_COMPARE_WIDTH                8
#define GNV_COMPARE_LOOKUP(table, index) Floats(_mm256_permutevar8x32_ps(__m256(table), __m256i(index)))
#define GNV_COMPARE_FUSED(a, b, c)       Floats(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c)))
#define GNV_COMPARE_WIDEN(address)       Words(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(address))))
#include "codec/nvfp4_compare_loops.h"
