#define GNV_COMPARE_VARIANT portable
#define GNV_COMPARE_WIDTH   4
#include "codec/nvfp4_compare_loops.h"
