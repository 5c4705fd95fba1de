#define GNV_SEARCH_VARIANT portable
#define GNV_SEARCH_WIDTH   4
#include "codec/nvfp4_search_loops.h"
