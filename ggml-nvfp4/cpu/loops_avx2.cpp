#define GNV_LOOPS_VARIANT avx2
#define GNV_LOOPS_TABLE   loops_avx2
#define GNV_LOOPS_NAME    "avx2"
#include "cpu/loops_variant.h"
