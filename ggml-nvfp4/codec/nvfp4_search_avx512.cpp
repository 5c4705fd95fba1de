#define GNV_SEARCH_VARIANT avx512
#define GNV_SEARCH_WIDTH   16
#include "codec/nvfp4_search_loops.h"
