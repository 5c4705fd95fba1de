#define GNV_SEARCH_VARIANT avx2
#define GNV_SEARCH_WIDTH   8
#include "codec/nvfp4_search_loops.h"
