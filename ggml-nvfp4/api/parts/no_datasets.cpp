// Replaces data/ in a build without GNV_WITH_DATASETS.
#include "api/parts/left_out.h"

using namespace gnv::api;

static gnv_status left_out(gnv_engine_t * engine) { return left_out(engine, "data sets", "GNV_WITH_DATASETS"); }

gnv_status gnv_dataset_open(gnv_engine_t * engine, const gnv_tokenizer_t *, const gnv_dataset_options *,
                            gnv_dataset_t ** out) {
    clear(out);
    return left_out(engine);
}
void gnv_dataset_destroy(gnv_dataset_t *) {}
uint64_t gnv_dataset_size(const gnv_dataset_t *) { return 0; }
gnv_status gnv_dataset_sequence(gnv_dataset_t *, uint64_t, gnv_sequence *) { return GNV_INVALID_ARGUMENT; }
gnv_status gnv_dataset_text(const gnv_dataset_t *, gnv_text_format, gnv_text_t ** out) {
    clear(out);
    return GNV_INVALID_ARGUMENT;
}
gnv_status gnv_dataset_save_tokens(const gnv_dataset_t *, const char *) { return GNV_INVALID_ARGUMENT; }
