#include "api/arguments.h"
#include "api/parts/dataset_handle.h"
#include "api/progress.h"
#include "api/text/picture_config.h"
#include "api/text/tokenizer_handle.h"
#include "data/tokens_file.h"
#include "formats/new_file.h"

using namespace gnv;

static Result<CalibrationOptions> translate_options(const gnv_dataset_options * given) {
    gnv_dataset_options options;
    gnv_dataset_options_init(&options);
    GNV_TRY(api::take_options(given, options, "gnv_dataset_options"));
    CalibrationOptions out;
    GNV_ASSIGN(out.sources, api::take_texts(options.sources, options.source_count, "gnv_dataset_options.sources"));
    out.tokens_file = api::text_or_empty(options.tokens_file);
    GNV_ASSIGN(out.form, parse_text_form(api::text_or_empty(options.text_template)));
    out.samples = options.samples;
    out.sequence_length = options.sequence_length;
    out.seed = options.seed;
    out.shuffle = !options.no_shuffle;
    out.pad = options.pad != 0;
    out.pack = options.pack != 0;
    out.chunk = options.chunk != 0;
    out.skip_bad = options.skip_bad != 0;
    out.ram_bytes = options.ram_bytes;
    out.stop = api::make_stop_check(options.progress, options.user);
    return out;
}

// How records with pictures are read for a model; a problem is told where a record has one.
static std::shared_ptr<const PictureRule> read_picture_rule(const gnv_tokenizer_t & tokenizer,
                                                            std::shared_ptr<const VisionModel> & vision) {
    auto rule = std::make_shared<PictureRule>();
    const auto read = [&]() -> Status {
        GNV_ASSIGN(api::PictureConfig config, api::read_picture_config(tokenizer.folder, true));
        GNV_ASSIGN(rule->words, api::picture_words(tokenizer.tokenizer, config.vision.tokens));
        const ProcessorConfig & processor = config.processor;
        for (const ImageProcessorConfig * const frames : {&processor.images, &processor.videos.frames})
            if (frames->merge_size != config.vision.merge ||
                frames->patch_values() != config.vision.tower->sizes().given)
                return fail(Code::unsupported, tokenizer.folder,
                            ": its image processor makes other patches than its vision tower takes");
        rule->processor = processor;
        rule->merge = config.vision.merge;
        rule->image = config.vision.tokens.image, rule->video = config.vision.tokens.video;
        rule->start = config.vision.tokens.start, rule->end = config.vision.tokens.end;
        vision = std::make_shared<const VisionModel>(std::move(config.vision));
        return {};
    };
    const Status status = read();
    if (!status.ok()) rule->problem = concat("the record has pictures: ", status.message());
    return rule;
}

gnv_status gnv_dataset_open(gnv_engine_t * engine, const gnv_tokenizer_t * tokenizer, const gnv_dataset_options * given,
                            gnv_dataset_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({tokenizer, out}, "gnv_dataset_open"));
        GNV_TRY(api::check_engine(engine, tokenizer, "gnv_dataset_open: the tokenizer"));
        GNV_ASSIGN(CalibrationOptions options, translate_options(given));
        Result<ChatTemplate> chat = ChatTemplate::load(tokenizer->folder);
        if (chat.ok()) {
            options.chat.chat = chat.take();
        } else if (chat.status().code() != Code::not_found) {
            options.chat.problem = chat.status().message(); // told where a record needs it
        }
        std::shared_ptr<const VisionModel> vision;
        options.pictures = read_picture_rule(*tokenizer, vision);
        GNV_ASSIGN(CalibrationSet set, build_calibration_set(options, tokenizer->tokenizer, *engine->threads));
        for (const CalibrationSourceReport & source : set.sources)
            for (const std::string & line : left_out_lines(source))
                engine->log(GNV_LOG_WARNING, concat(source.path, ": left out: ", line));
        for (const std::string & warning : set.warnings) engine->log(GNV_LOG_WARNING, warning);
        options.stop = nullptr; // the handle keeps no pointers of the caller
        *out = new gnv_dataset_t{{engine}, std::move(set), std::move(options), {}, std::move(vision)};
        return {};
    });
}

void gnv_dataset_destroy(gnv_dataset_t * dataset) { api::destroy(dataset); }

uint64_t gnv_dataset_size(const gnv_dataset_t * dataset) { return dataset ? dataset->set.sequences.size() : 0; }

gnv_status gnv_dataset_sequence(gnv_dataset_t * dataset, uint64_t index, gnv_sequence * out) {
    return api::call(api::engine_of(dataset), [&]() -> Status {
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
        return api::give_struct(view, out, "gnv_sequence");
    });
}

gnv_status gnv_dataset_text(const gnv_dataset_t * dataset, gnv_text_format wanted, gnv_text_t ** out) {
    return api::give_text(dataset, wanted, out, "gnv_dataset_text", [&](gnv_text_format format) {
        return format == GNV_TEXT_JSON ? calibration_json(dataset->set) : calibration_text(dataset->set);
    });
}

gnv_status gnv_dataset_save_tokens(const gnv_dataset_t * dataset, const char * path) {
    return api::call(api::engine_of(dataset), [&]() -> Status {
        GNV_TRY(api::check_pointers({path}, "gnv_dataset_save_tokens"));
        if (dataset->set.pictures.count() > 0)
            return fail(Code::unsupported, path, ": a file of tokens holds no pictures, and the data have ",
                        dataset->set.pictures.count(),
                        ": name the data themselves (--calib), which give the same sequences each time");
        GNV_TRY(check_new_file(path));
        return write_new_file(path, tokens_file_text(dataset->set.sequences, dataset->set.sha256));
    });
}
