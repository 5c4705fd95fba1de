// Replaces hub/ in a build without GNV_WITH_HUB.
#include "api/parts/left_out.h"

using namespace gnv::api;

static gnv_status left_out(gnv_engine_t * engine) { return left_out(engine, "access to the hub", "GNV_WITH_HUB"); }

gnv_status gnv_hub_fetch_model(gnv_engine_t * engine, const char *, const gnv_hub_options *, gnv_text_t ** folder) {
    clear(folder);
    return left_out(engine);
}
gnv_status gnv_hub_stream_open(gnv_engine_t * engine, const char *, const gnv_hub_options *, uint64_t,
                               gnv_hub_stream_t ** out) {
    clear(out);
    return left_out(engine);
}
const char * gnv_hub_stream_folder(const gnv_hub_stream_t *) { return nullptr; }
void gnv_hub_stream_destroy(gnv_hub_stream_t *) {}
gnv_status gnv_hub_fetch_dataset(gnv_engine_t * engine, const char *, const gnv_hub_options *, gnv_text_t ** folder) {
    clear(folder);
    return left_out(engine);
}
gnv_status gnv_hub_upload(gnv_engine_t * engine, const char *, const char *, const gnv_hub_options *,
                          const gnv_hub_upload_options *, gnv_text_t ** url) {
    clear(url);
    return left_out(engine);
}
