#define GNV_COMPARE_VARIANT avx2
#include "cpu/nvfp4_compare_loops.h"
