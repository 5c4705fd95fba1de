/* The public header alone, as strict C11: it compiles without a warning, and every function that it declares exists. */
#include "ggml-nvfp4.h"

typedef void (*any_function)(void);

/* Made from the lines of the header that start with GNV_API: FUNCTION(gnv_version) and so on. */
#define FUNCTION(name) (any_function) name,
const any_function api_functions[] = {
#include <api_functions.inc>
};
const size_t api_function_count = sizeof api_functions / sizeof *api_functions;

/* A C program's use of the inline functions. */
uint64_t c_engine_options_size(void) {
    gnv_engine_options options;
    gnv_engine_options_init(&options);
    return options.threads == 0 && options.log == NULL ? options.struct_size : 0;
}
