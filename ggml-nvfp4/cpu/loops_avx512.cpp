#define GNV_LOOPS_VARIANT avx512
#define GNV_LOOPS_TABLE   loops_avx512
#define GNV_LOOPS_NAME    "avx512"
#include "cpu/loops_variant.h"
