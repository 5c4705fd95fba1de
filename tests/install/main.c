/* The public header as a C99 program meets it. */
#include <ggml-nvfp4.h>

#include <stdio.h>
#include <string.h>

int main(void) {
    gnv_engine_options options;
    gnv_engine_t * engine = NULL;
    gnv_engine_options_init(&options);
    if (options.struct_size != sizeof options) return 1;
    options.threads = 2;
    if (gnv_engine_create(&options, &engine) != GNV_OK || engine == NULL) return 2;
    if (strcmp(gnv_last_error(engine), "") != 0) return 3;
    gnv_engine_destroy(engine);

    options.threads = -1;
    engine = NULL;
    if (gnv_engine_create(&options, &engine) != GNV_INVALID_ARGUMENT || engine != NULL) return 4;
    printf("ggml-nvfp4 %s, %s, %s\n", gnv_version(), gnv_cpu_kernels(), gnv_status_string(GNV_NO_SPACE));
    return 0;
}
