#include <immintrin.h>

#define GNV_COMPARE_VARIANT              avx512
#define GNV_COMPARE_WIDTH                16
#define GNV_COMPARE_LOOKUP(table, index) Floats(_mm512_permutexvar_ps(__m512i(index), __m512(table)))
#define GNV_COMPARE_FUSED(a, b, c)       Floats(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c)))
#define GNV_COMPARE_WIDEN(address)       Words(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(address))))
#include "codec/nvfp4_compare_loops.h"
