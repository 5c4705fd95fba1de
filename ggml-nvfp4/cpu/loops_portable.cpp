#define GNV_LOOPS_VARIANT portable
#define GNV_LOOPS_TABLE   loops_portable
#define GNV_LOOPS_NAME    "portable"
#include "cpu/loops_variant.h"
