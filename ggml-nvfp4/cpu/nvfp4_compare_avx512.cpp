#define GNV_COMPARE_VARIANT avx512
#include "cpu/nvfp4_compare_loops.h"
