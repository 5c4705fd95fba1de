// Replaces quantize/ in a build without GNV_WITH_QUANTIZE.
#include "api/parts/left_out.h"

using namespace gnv::api;

static gnv_status left_out(gnv_engine_t * engine) { return left_out(engine, "quantizer", "GNV_WITH_QUANTIZE"); }

gnv_status gnv_plan_create(gnv_engine_t * engine, const char *, const gnv_plan_options *, gnv_plan_t ** out) {
    clear(out);
    return left_out(engine);
}
void gnv_plan_destroy(gnv_plan_t *) {}
gnv_status gnv_plan_text(const gnv_plan_t *, gnv_text_format, gnv_text_t ** out) {
    clear(out);
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_plan_get_info(const gnv_plan_t *, gnv_plan_info *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_calibration_load(gnv_engine_t * engine, const char * const *, size_t, gnv_calibration_t ** out) {
    clear(out);
    return left_out(engine);
}
void gnv_calibration_destroy(gnv_calibration_t *) {}
gnv_status gnv_calibration_text(const gnv_calibration_t *, gnv_text_format, gnv_text_t ** out) {
    clear(out);
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_plan_add_calibration(gnv_plan_t *, const gnv_quantize_options *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_plan_add_estimate(gnv_plan_t *, const gnv_quantize_options *, const gnv_estimate_options *,
                                 gnv_estimate *) {
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_quantize(const gnv_plan_t *, const char *, const gnv_quantize_options *, gnv_text_t ** report) {
    clear(report);
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_card_write(gnv_engine_t * engine, const char *, const gnv_card_options *) { return left_out(engine); }
gnv_status gnv_card_measure(gnv_engine_t * engine, const char *, const char *) { return left_out(engine); }
