// Replaces verify/, inspect/, evaluate/ and canary/ in a build without GNV_WITH_VERIFY.
#include "api/parts/left_out.h"

using namespace gnv::api;

static gnv_status left_out(gnv_engine_t * engine) {
    return left_out(engine, "checks and comparisons", "GNV_WITH_VERIFY");
}

gnv_status gnv_verify(gnv_engine_t * engine, const char *, const char *, const gnv_verify_options *,
                      gnv_report_t ** out) {
    clear(out);
    return left_out(engine);
}
void gnv_report_destroy(gnv_report_t *) {}
gnv_status gnv_report_get_info(const gnv_report_t *, gnv_report_info *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_report_text(const gnv_report_t *, gnv_text_format, gnv_text_t ** out) {
    clear(out);
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_report_write(const gnv_report_t *, const char *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_verify_self_test(gnv_engine_t * engine, const char *, const char *, const gnv_verify_options *,
                                gnv_text_format, gnv_text_t ** report, uint64_t *) {
    clear(report);
    return left_out(engine);
}
gnv_status gnv_evaluate(gnv_engine_t * engine, const char *, const char *, const gnv_evaluate_options *,
                        gnv_evaluation_t ** out) {
    clear(out);
    return left_out(engine);
}
void gnv_evaluation_destroy(gnv_evaluation_t *) {}
gnv_status gnv_evaluation_remove_state(gnv_evaluation_t *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_evaluate_check(gnv_engine_t * engine, const gnv_evaluate_options *) { return left_out(engine); }
gnv_status gnv_evaluation_get_info(const gnv_evaluation_t *, gnv_evaluation_info *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_evaluation_get_line(const gnv_evaluation_t *, gnv_line, gnv_evaluation_line *) {
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_evaluation_text(const gnv_evaluation_t *, gnv_text_format, gnv_text_t ** out) {
    clear(out);
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_report_add_evaluation(gnv_report_t *, const gnv_evaluation_t *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_canary(gnv_engine_t * engine, const char *, const char *, const gnv_canary_options *,
                      gnv_canary_t ** out) {
    clear(out);
    return left_out(engine);
}
void gnv_canary_destroy(gnv_canary_t *) {}
gnv_status gnv_canary_check(gnv_engine_t * engine, const char *, const gnv_canary_options *) {
    return left_out(engine);
}
gnv_status gnv_canary_get_info(const gnv_canary_t *, gnv_canary_info *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_canary_get_line(const gnv_canary_t *, gnv_line, gnv_canary_line *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_canary_text(const gnv_canary_t *, gnv_text_format, gnv_text_t ** out) {
    clear(out);
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_report_add_canary(gnv_report_t *, const gnv_canary_t *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_checkpoint_open(gnv_engine_t * engine, const char *, gnv_checkpoint_t ** out) {
    clear(out);
    return left_out(engine);
}
void gnv_checkpoint_close(gnv_checkpoint_t *) {}
uint64_t gnv_checkpoint_tensor_count(const gnv_checkpoint_t *) { return 0; }
uint64_t gnv_checkpoint_module_count(const gnv_checkpoint_t *) { return 0; }
gnv_status gnv_checkpoint_tensor_info(gnv_checkpoint_t *, uint64_t, gnv_tensor_info *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_checkpoint_find_tensor(gnv_checkpoint_t *, const char *, uint64_t *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_checkpoint_module_info(gnv_checkpoint_t *, uint64_t, gnv_module_info *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_checkpoint_find_module(gnv_checkpoint_t *, const char *, uint64_t *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_checkpoint_read(gnv_checkpoint_t *, uint64_t, uint64_t, void *, uint64_t) {
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_checkpoint_values(gnv_checkpoint_t *, const char *, uint64_t, uint64_t, double *) {
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_checkpoint_measure(gnv_checkpoint_t *, const char *, gnv_statistics *, gnv_text_format,
                                  gnv_text_t ** text) {
    clear(text);
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_checkpoint_text(gnv_checkpoint_t *, const gnv_contents_options *, gnv_text_format, gnv_text_t ** out) {
    clear(out);
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_checkpoint_compare(gnv_checkpoint_t *, gnv_checkpoint_t *, const gnv_compare_options *,
                                  gnv_comparison_t ** out) {
    clear(out);
    return GNV_INVALID_ARGUMENT;
}
void gnv_comparison_destroy(gnv_comparison_t *) {}
gnv_status gnv_comparison_get_info(const gnv_comparison_t *, gnv_comparison_info *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_comparison_text(const gnv_comparison_t *, gnv_text_format, gnv_text_t ** out) {
    clear(out);
    return GNV_INVALID_ARGUMENT;
}
