#include "api/dataset_handle.h"
#include "api/tokenizer_handle.h"
#include "data/tokens_file.h"
#include "formats/file.h"

using namespace gnv;

static Result<CalibrationOptions> translate_options(const gnv_dataset_options * given) {
    gnv_dataset_options options;
    gnv_dataset_options_init(&options);
    if (!api::take_options(given, options))
        return Status(Code::invalid_argument, "gnv_dataset_open: struct_size of the options is not set");
    if (!options.sources && options.source_count > 0)
        return Status(Code::invalid_argument, "gnv_dataset_open: sources is NULL");
    CalibrationOptions out;
    for (size_t i = 0; i < options.source_count; i++) {
        if (!options.sources[i]) return fail(Code::invalid_argument, "gnv_dataset_open: sources[", i, "] is NULL");
        out.sources.emplace_back(options.sources[i]);
    }
    if (options.tokens_file) out.tokens_file = options.tokens_file;
    GNV_ASSIGN(out.form, parse_text_form(options.text_template ? options.text_template : ""));
    out.samples = options.samples;
    out.sequence_length = options.sequence_length;
    out.seed = options.seed;
    out.shuffle = !options.no_shuffle;
    out.pad = options.pad != 0;
    out.pack = options.pack != 0;
    return out;
}

gnv_status gnv_dataset_open(gnv_engine_t * engine, const gnv_tokenizer_t * tokenizer, const gnv_dataset_options * given,
                            gnv_dataset_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        if (!tokenizer || !out) return Status(Code::invalid_argument, "gnv_dataset_open: an argument is NULL");
        GNV_ASSIGN(const CalibrationOptions options, translate_options(given));
        GNV_ASSIGN(CalibrationSet set, build_calibration_set(options, tokenizer->tokenizer, *engine->threads));
        for (const std::string & warning : set.warnings) engine->log(GNV_LOG_WARNING, warning);
        *out = new gnv_dataset_t{engine, std::move(set), options, {}};
        return {};
    });
}

void gnv_dataset_destroy(gnv_dataset_t * dataset) { delete dataset; }

uint64_t gnv_dataset_size(const gnv_dataset_t * dataset) { return dataset ? dataset->set.sequences.size() : 0; }

gnv_status gnv_dataset_sequence(gnv_dataset_t * dataset, uint64_t index, gnv_sequence * out) {
    return api::call(dataset ? dataset->engine : nullptr, [&]() -> Status {
        if (index >= dataset->set.sequences.size())
            return fail(Code::invalid_argument, "gnv_dataset_sequence: ", index, " is not below the ",
                        dataset->set.sequences.size(), " sequences");
        const CalibrationSequence & sequence = dataset->set.sequences[size_t(index)];
        dataset->documents.clear();
        for (const CalibrationDocument & document : sequence.documents)
            dataset->documents.push_back({document.begin, document.source, document.row});
        gnv_sequence view = {};
        view.length = sequence.ids.size();
        view.ids = sequence.ids.data();
        view.mask = sequence.mask.empty() ? nullptr : sequence.mask.data();
        view.documents = dataset->documents.data();
        view.document_count = dataset->documents.size();
        if (!api::give_struct(view, out))
            return Status(Code::invalid_argument, "gnv_dataset_sequence: struct_size is not set");
        return {};
    });
}

gnv_status gnv_dataset_text(const gnv_dataset_t * dataset, gnv_text_format format, gnv_text_t ** out) {
    if (out) *out = nullptr;
    return api::call(dataset ? dataset->engine : nullptr, [&]() -> Status {
        if (!out) return Status(Code::invalid_argument, "gnv_dataset_text: out is NULL");
        if (format != GNV_TEXT_PLAIN && format != GNV_TEXT_JSON)
            return Status(Code::invalid_argument, "gnv_dataset_text: unknown format");
        *out =
            api::make_text(format == GNV_TEXT_JSON ? calibration_json(dataset->set) : calibration_text(dataset->set));
        return {};
    });
}

gnv_status gnv_dataset_save_tokens(const gnv_dataset_t * dataset, const char * path) {
    return api::call(dataset ? dataset->engine : nullptr, [&]() -> Status {
        if (!path) return Status(Code::invalid_argument, "gnv_dataset_save_tokens: path is NULL");
        return write_file_synced(path, tokens_file_text(dataset->set.sequences, dataset->set.sha256));
    });
}
