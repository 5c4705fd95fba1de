#define GNV_COMPARE_VARIANT portable
#include "cpu/nvfp4_compare_loops.h"
