/* quantize SRC DST: a BF16 checkpoint to NVFP4 (weights only), with progress; Ctrl-C stops it in good order. */
#include <ggml-nvfp4.h>

#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t interrupted;

static void interrupt(int number) {
    (void)number;
    interrupted = 1;
}

/* Called several times a second; not 0 stops the run. */
static int show_progress(void * user, const gnv_progress * now) {
    FILE * const out = user;
    const double share = now->bytes_total ? (double)now->bytes / (double)now->bytes_total : 1;
    fprintf(out, "\r%5.1f %%, %.1f s", 100 * share, now->seconds);
    if (now->tensors == now->tensors_total) fputc('\n', out);
    return interrupted;
}

static void show_warning(void * user, gnv_log_level level, const char * message) {
    if (level == GNV_LOG_WARNING) fprintf(user, "warning: %s\n", message);
}

/* Prints what will be done, then does it. */
static gnv_status run(const gnv_plan_t * plan, const char * destination) {
    gnv_plan_info info = {.struct_size = sizeof info};
    gnv_quantize_options options;
    gnv_text_t * report = NULL;
    gnv_status status = gnv_plan_get_info(plan, &info);
    if (status != GNV_OK) return status;
    printf("%llu modules to quantize, %.1f MB to read, %.1f MB to write\n", (unsigned long long)info.quantized_modules,
           (double)info.bytes_read / 1e6, (double)info.disk_bytes / 1e6);

    gnv_quantize_options_init(&options);
    options.progress = show_progress;
    options.user = stderr;
    status = gnv_quantize(plan, destination, &options, &report);
    if (status == GNV_OK) printf("%s", gnv_text_data(report));
    gnv_text_destroy(report);
    return status;
}

int main(int argc, char ** argv) {
    gnv_engine_options engine_options;
    gnv_plan_options plan_options;
    gnv_engine_t * engine = NULL;
    gnv_plan_t * plan = NULL;
    gnv_status status;
    if (argc != 3) {
        fprintf(stderr, "usage: %s SRC DST\n", argv[0]);
        return 2;
    }
    signal(SIGINT, interrupt);

    gnv_engine_options_init(&engine_options);
    engine_options.log = show_warning;
    engine_options.user = stderr;
    status = gnv_engine_create(&engine_options, &engine);
    if (status != GNV_OK) {
        fprintf(stderr, "error: %s\n", gnv_status_string(status));
        return 2;
    }

    gnv_plan_options_init(&plan_options);
    plan_options.scheme = GNV_SCHEME_NVFP4A16;
    status = gnv_plan_create(engine, argv[1], &plan_options, &plan);
    if (status == GNV_OK) status = run(plan, argv[2]);
    if (status != GNV_OK) fprintf(stderr, "error: %s\n", gnv_last_error(engine));
    gnv_plan_destroy(plan); /* NULL is fine; handles go before their engine */
    gnv_engine_destroy(engine);
    return status == GNV_OK ? 0 : 2;
}
