#include "api/arguments.h"
#include "api/devices.h"
#include "api/progress.h"
#include "api/text/picture_handle.h"
#include "api/text/session_handle.h"
#include "api/text/tokenizer_handle.h"
#include "session/texts/generate.h"
#include "session/texts/repetition.h"

#include <algorithm>
#include <array>
#include <utility>

using namespace gnv;

static constexpr int64_t default_capacity = 4096;

// Runs `body` with a model that may be NULL.
template <class Body>
static gnv_status call(gnv_model_t * model, const Body & body) {
    return api::call(api::engine_of(model), body);
}

// --- Opening ----------------------------------------------------------------------------------------------------------

static Result<int64_t> choose_capacity(uint64_t wanted, int64_t max_positions) {
    if (wanted == 0) return std::min(default_capacity, max_positions);
    if (wanted > uint64_t(max_positions))
        return fail(Code::invalid_argument, "a capacity of ", wanted, " positions exceeds the model's ", max_positions,
                    "; use at most as many, or 0");
    return int64_t(wanted);
}

// Of a pass over so many positions, and as many patches of pictures.
static Result<std::vector<TapInfo>> taps_of(const gnv_model_t & model, int64_t positions) {
    GNV_ASSIGN(std::vector<TapInfo> taps, list_taps(model.variant(Precision::f32), positions));
    const TextModel * const tower = model.open->vision.tower.get();
    if (!tower) return taps;
    const int64_t together = tower->sizes().head_rows, patches = (positions + together - 1) / together * together;
    GNV_ASSIGN(const std::vector<TapInfo> more, list_taps(model.open->vision_variant(Precision::f32), patches));
    taps.insert(taps.end(), more.begin(), more.end());
    return taps;
}

// "NVIDIA H100 (cuda:0): embedding, layers 0 to 19, 34.1 of 79.2 GB; ..."
static std::string describe(const std::vector<SessionShare> & shares) {
    std::string text;
    for (const SessionShare & share : shares) {
        std::string parts = share.embeds ? "embedding" : "";
        const auto add = [&](const std::string & part) { parts += (parts.empty() ? "" : ", ") + part; };
        if (share.layers == 1) add(concat("layer ", share.first_layer));
        if (share.layers > 1) add(concat("layers ", share.first_layer, " to ", share.first_layer + share.layers - 1));
        if (share.has_head) add("head");
        text += concat(text.empty() ? "" : "; ", share.device, ": ", parts, ", ", bytes_text(share.used), " of ",
                       bytes_text(share.budget));
    }
    return text;
}

gnv_status gnv_model_open(gnv_engine_t * engine, const char * folder, const gnv_model_options * given,
                          gnv_model_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        gnv_model_options options;
        gnv_model_options_init(&options);
        GNV_TRY(api::check_pointers({folder, out}, "gnv_model_open"));
        GNV_TRY(api::take_options(given, options, "gnv_model_options"));
        GNV_TRY(api::check_number(options.precision, GNV_PRECISION_BF16, "gnv_model_options.precision"));
        const Precision precision = options.precision == GNV_PRECISION_BF16 ? Precision::bf16 : Precision::f32;
        api::Progress progress(*engine->threads, options.progress, options.user);
        std::unique_ptr<gnv_model_t> model(new gnv_model_t);
        model->engine = engine;
        model->folder = folder;
        GNV_ASSIGN(model->open, OpenModel::open(folder));
        GNV_ASSIGN(model->generation, read_generation_config(folder));
        GNV_ASSIGN(model->capacity, choose_capacity(options.capacity, model->open->model->sizes().max_positions));
        GNV_TRY(api::check_number(options.drafts, 1, "gnv_model_options.drafts"));
        if (options.drafts != 0) GNV_TRY(copy_of(model->open->why_no_draft));
        model->quantizes_inputs = options.weights_only == 0 && model->open->has_input_scales();
        GNV_ASSIGN(api::DeviceChoice choice,
                   api::choose_devices(options.device, options.devices, options.device_count, "gnv_model_options"));
        std::vector<OpenDevice> opens = {std::move(choice.first)};
        opens.insert(opens.end(), choice.more.begin(), choice.more.end());
        GNV_ASSIGN(model->devices, DeviceList::open(opens, *engine->threads));
        const TextVariant variant = model->variant(precision);
        model->precision = precision;
        GNV_ASSIGN(model->taps, taps_of(*model, 1));
        model->tap_positions = 1;
        for (const TapInfo & tap : model->taps)
            model->tap_names.push_back(tap_name(model->open->model->names(), tap.tap));
        GNV_ASSIGN(const api::SessionRoom room, api::session_room(options, model->capacity));
        SessionOptions session = {1, model->capacity, options.ram_bytes, options.device_bytes};
        session.pool_texts = room.texts;
        session.pool_positions = room.positions;
        session.pool_drafts = room.drafts;
        if (options.drafts != 0) session.draft = model->open->draft.get();
        GNV_TRY(api::check_number(options.cache_dtype, GNV_CACHE_FP8, "gnv_model_options.cache_dtype"));
        session.cache = model->cache = options.cache_dtype == GNV_CACHE_FP8 ? CacheType::fp8 : CacheType::activations;
        session.on_load = [&](const SessionLoad & load) {
            gnv_progress now = {};
            now.bytes = load.bytes, now.bytes_total = load.bytes_total;
            now.tensors = load.groups, now.tensors_total = load.groups_total;
            return progress.report(now, load.groups == load.groups_total);
        };
        GNV_ASSIGN(model->session, TextSession::create(variant, model->devices.all(), *engine->threads, session));
        if (model->devices.count() > 1) engine->log(GNV_LOG_INFO, "note: " + describe(model->session->shares()));
        if (const std::string placement = model->session->placement(); !placement.empty())
            engine->log(GNV_LOG_INFO, "note: " + placement);
        if (room.texts > 0) GNV_TRY(api::open_sessions(*model));
        *out = model.release();
        return {};
    });
}

void gnv_model_close(gnv_model_t * model) { api::destroy(model); }

gnv_status gnv_model_get_info(gnv_model_t * model, gnv_model_info * out) {
    return call(model, [&]() -> Status {
        const TextModelSizes & sizes = model->open->model->sizes();
        gnv_model_info info = {};
        info.description = model->open->layout.description.c_str();
        info.hidden = uint64_t(sizes.hidden);
        info.vocabulary = uint64_t(sizes.vocabulary);
        info.layers = uint64_t(sizes.layers);
        info.experts = uint64_t(sizes.experts);
        info.experts_per_token = uint64_t(sizes.experts_per_token);
        info.max_positions = uint64_t(sizes.max_positions);
        info.capacity = uint64_t(model->capacity);
        info.positions = uint64_t(model->session->past());
        info.quantized_modules = model->open->quantized_modules();
        info.quantizes_inputs = model->quantizes_inputs;
        info.weights_stay = model->session->weights_stay();
        info.cached_experts = uint64_t(model->session->cached_experts());
        info.samples = model->generation.do_sample;
        info.temperature = float(model->generation.temperature);
        info.top_k = int32_t(std::min<int64_t>(model->generation.top_k, INT32_MAX));
        info.top_p = float(model->generation.top_p);
        info.min_p = float(model->generation.min_p);
        info.repetition_penalty = float(model->generation.repetition_penalty);
        info.draft_bytes = model->session->draft_bytes();
        info.cache_bytes = model->session->cache_bytes();
        info.saved_bytes = model->session->saved_bytes();
        info.stop_ids = model->generation.stop_ids.data();
        info.stop_count = model->generation.stop_ids.size();
        return api::give_struct(info, out, "gnv_model_info");
    });
}

gnv_status gnv_model_reset(gnv_model_t * model) {
    return api::run(api::engine_of(model), [&]() -> Status {
        model->session->reset();
        model->ids.clear();
        return {};
    });
}

// --- Activations ------------------------------------------------------------------------------------------------------

uint64_t gnv_model_tap_count(const gnv_model_t * model) { return model ? model->tap_names.size() : 0; }

static gnv_activation make_activation(const char * name, DType dtype, const Shape & shape, const void * data) {
    gnv_activation activation = {};
    activation.struct_size = sizeof activation;
    activation.name = name;
    activation.dtype = dtype_name(dtype);
    activation.dimensions = uint64_t(shape.rank);
    activation.shape = shape.dims;
    activation.bytes = tensor_bytes(dtype, shape);
    activation.data = data;
    return activation;
}

gnv_status gnv_model_tap_info(gnv_model_t * model, uint64_t tap, uint64_t positions, gnv_activation * out) {
    return call(model, [&]() -> Status {
        if (tap >= model->taps.size()) return fail(Code::invalid_argument, "tap ", tap, " of ", model->taps.size());
        const bool of_picture = Part(model->taps[size_t(tap)].tap.part) == Part::vision; // which may have more patches
        if (positions == 0 || positions > uint64_t(of_picture ? INT32_MAX / 2 : model->capacity))
            return fail(Code::invalid_argument, positions, " positions: the model was opened for 1 to ",
                        model->capacity);
        if (int64_t(positions) != model->tap_positions) {
            GNV_ASSIGN(model->taps, taps_of(*model, int64_t(positions)));
            model->tap_positions = int64_t(positions);
        }
        const TapInfo & info = model->taps[size_t(tap)];
        return api::give_struct(make_activation(model->tap_names[size_t(tap)].c_str(), info.dtype, info.shape, nullptr),
                                out, "gnv_activation");
    });
}

gnv_status gnv_model_find_tap(gnv_model_t * model, const char * name, uint64_t * tap) {
    return call(model, [&]() -> Status {
        GNV_TRY(api::check_pointers({name, tap}, "gnv_model_find_tap"));
        GNV_ASSIGN(*tap, find_tap(model->taps, name, *model->open->model, model->open->vision.tower.get()));
        return {};
    });
}

// --- Running ----------------------------------------------------------------------------------------------------------

// Finds every mistake in the arguments before the states change.
static Status check_ids(const gnv_model_t & model, const int32_t * ids, size_t count) {
    if (!ids || count == 0) return Status(Code::invalid_argument, "the list of ids is empty; give at least one");
    const int64_t vocabulary = model.open->model->sizes().vocabulary, past = model.session->past();
    if (count > uint64_t(model.capacity - past))
        return fail(Code::invalid_argument, "the text would have ", past, " + ", count,
                    " positions, the model was opened for ", model.capacity,
                    "; open it with a larger gnv_model_options.capacity (at most ",
                    model.open->model->sizes().max_positions, "), or shorten the text");
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return fail(Code::invalid_argument, "ids[", i, "] is ", ids[i], ", the model's vocabulary has ", vocabulary,
                        "; was another tokenizer used?");
    return {};
}

// After a failure the caches hold an incomplete text, so the text is discarded.
static Status forget_text(gnv_model_t & model, Status status) {
    model.session->reset();
    model.ids.clear();
    if (status.code() == Code::cancelled)
        return Status(Code::cancelled, "stopped on request; the model is at the start of a text again");
    return status;
}

// Reports the progress of a forward pass to the callback of an option structure.
static std::function<bool(int64_t, int64_t)> pass_progress(api::Progress & progress) {
    if (!progress) return {};
    return [&progress, was_complete = false](int64_t done, int64_t total) mutable { // complete with every token
        gnv_progress now = {};
        now.positions = uint64_t(done);
        now.positions_total = uint64_t(total);
        return progress.report(now, done == total && !std::exchange(was_complete, true));
    };
}

// The activations that the caller taps; empty: all.
static Result<std::vector<Tap>> wanted_taps(const gnv_model_t & model, const gnv_forward_options & options) {
    std::vector<Tap> wanted;
    GNV_ASSIGN(const std::vector<std::string> names,
               api::take_texts(options.tap_names, options.tap_count, "gnv_forward_options.tap_names"));
    const std::lock_guard<std::mutex> lock(model.engine->quick_mutex);
    for (const std::string & name : names) {
        GNV_ASSIGN(const size_t found, find_tap(model.taps, name, *model.open->model, model.open->vision.tower.get()));
        wanted.push_back(model.taps[found].tap);
    }
    return wanted;
}

static OnTap tap_caller(const gnv_model_t & model, const gnv_forward_options & options) {
    if (!options.tap) return {};
    return [&](const Tap & tap, const Tensor & tensor) -> Status {
        const std::string name = tap_name(model.open->model->names(), tap);
        const gnv_activation activation = make_activation(name.c_str(), tensor.dtype, tensor.shape, tensor.data);
        if (options.tap(options.user, &activation) == 0) return {};
        return Status(Code::cancelled, "stopped on request");
    };
}

// A text and what the vision tower made of its pictures.
struct SeenText {
    TextSequence sequence;
    std::vector<float> rows;
};

// Everything that can be known to be wrong before the tower runs.
static Status place(const gnv_model_t & model, std::span<const int32_t> ids, const std::vector<Picture> & pictures,
                    SeenText & text) {
    text.sequence.ids.assign(ids.begin(), ids.end());
    if (pictures.empty()) return {};
    return place_pictures(pictures, model.open->vision, text.sequence, model.session->next_position());
}

static Status look(const gnv_model_t & model, const std::vector<Picture> & pictures, OnTap on_tap,
                   const std::vector<Tap> & wanted, api::Progress & progress, SeenText & text) {
    if (pictures.empty()) return {};
    PictureOptions options;
    for (const Tap & tap : wanted)
        if (Part(tap.part) == Part::vision) options.taps.push_back(tap);
    if (wanted.empty() || !options.taps.empty()) options.on_tap = std::move(on_tap);
    if (progress) // which counts positions of the text
        options.on_progress = [&progress](int64_t, int64_t) { return progress.goes_on(); };
    GNV_ASSIGN(text.rows, encode_pictures(model.open->vision, model.open->vision_variant(model.precision),
                                          model.devices.first(), *model.engine->threads, pictures, options));
    text.sequence.given = text.rows;
    return {};
}

gnv_status gnv_model_forward(gnv_model_t * model, const int32_t * ids, size_t count, const gnv_forward_options * given,
                             float * logits, size_t capacity, size_t * written) {
    if (written) *written = 0;
    return api::run(api::engine_of(model), [&]() -> Status {
        gnv_forward_options options;
        gnv_forward_options_init(&options);
        GNV_TRY(api::take_options(given, options, "gnv_forward_options"));
        GNV_TRY(api::check_list(logits, capacity, "gnv_model_forward: logits", api::most_bytes / sizeof *logits));
        GNV_TRY(check_ids(*model, ids, count));
        const uint64_t needed = uint64_t(model->open->model->sizes().vocabulary) * (options.all_logits ? count : 1);
        if (logits && capacity < needed)
            return fail(Code::invalid_argument, "gnv_model_forward: the capacity is ", capacity,
                        " logits, the call returns ", needed);
        GNV_ASSIGN(std::vector<Tap> wanted, wanted_taps(*model, options));
        api::Progress progress(*model->engine->threads, options.progress, options.progress_user);
        GNV_ASSIGN(
            const std::vector<Picture> pictures,
            api::take_pictures(model->engine, options.pictures, options.picture_count, "gnv_forward_options.pictures"));
        SeenText text;
        GNV_TRY(place(*model, {ids, count}, pictures, text));
        Status looked = look(*model, pictures, tap_caller(*model, options), wanted, progress, text);
        if (!looked.ok()) return forget_text(*model, std::move(looked));
        Result<std::vector<float>> result =
            model->session->run(text.sequence, {options.all_logits != 0, tap_caller(*model, options), std::move(wanted),
                                                pass_progress(progress)});
        if (!result.ok()) return forget_text(*model, result.take_status());
        model->ids.insert(model->ids.end(), ids, ids + count);
        if (logits) std::copy(result.value().begin(), result.value().end(), logits);
        if (written) *written = logits ? result.value().size() : 0;
        return {};
    });
}

// --- Generating -------------------------------------------------------------------------------------------------------

// A number below 0 selects the model's own; a NaN stays one, and is refused.
static double own_if_negative(float given, double own) { return given < 0 ? own : double(given); }

static Result<SamplerOptions> take_sampling(const gnv_model_t & model, const gnv_generate_options & given) {
    const GenerationConfig & own = model.generation;
    SamplerOptions sampling;
    sampling.temperature = own_if_negative(given.temperature, own.do_sample ? own.temperature : 0);
    sampling.top_k = given.top_k >= 0 ? given.top_k : own.top_k;
    sampling.top_p = own_if_negative(given.top_p, own.top_p);
    sampling.seed = given.seed;
    sampling.min_p = own_if_negative(given.min_p, own.min_p);
    sampling.repetition_penalty = own_if_negative(given.repetition_penalty, own.repetition_penalty);
    sampling.presence_penalty = double(given.presence_penalty);
    sampling.frequency_penalty = double(given.frequency_penalty);
    GNV_TRY(api::check_list(given.logit_bias, given.logit_bias_count, "gnv_generate_options.logit_bias"));
    for (size_t i = 0; i < given.logit_bias_count; i++)
        sampling.logit_bias.push_back({given.logit_bias[i].id, double(given.logit_bias[i].bias)});
    GNV_TRY(check_sampler_options(sampling, model.open->model->sizes().vocabulary));
    return sampling;
}

Result<DraftOptions> api::draft_options(int32_t draft, const char * what) {
    if (draft < GNV_DRAFT_AUTO || draft > GNV_MOST_DRAFTS)
        return fail(Code::invalid_argument, what, " is ", draft, "; use 0 to ", GNV_MOST_DRAFTS, " or GNV_DRAFT_AUTO");
    constexpr int64_t automatic_tokens = 2;
    if (draft == GNV_DRAFT_AUTO) return DraftOptions{automatic_tokens, true};
    return DraftOptions{draft, false};
}

static Result<DraftOptions> take_draft(const gnv_model_t & model, int32_t draft) {
    GNV_ASSIGN(const DraftOptions options, api::draft_options(draft, "gnv_generate_options.draft"));
    if (draft != 0 && model.session->draft_bytes() == 0)
        return Status(Code::invalid_argument,
                      "gnv_generate_options.draft: the model was opened without drafting (gnv_model_options.drafts)");
    return options;
}

Result<AnswerLimits> api::answer_limits(const gnv_model_t & model, const gnv_generate_options & given) {
    AnswerLimits limits;
    if (given.max_tokens > uint64_t(INT64_MAX))
        return fail(Code::invalid_argument, "gnv_generate_options.max_tokens is ", given.max_tokens);
    limits.max_tokens = int64_t(given.max_tokens);
    GNV_TRY(api::check_list(given.stop_ids, given.stop_count, "gnv_generate_options.stop_ids"));
    limits.stop_ids = model.generation.stop_ids;
    if (given.stop_ids) limits.stop_ids.assign(given.stop_ids, given.stop_ids + given.stop_count);
    GNV_ASSIGN(limits.stop_texts,
               api::take_texts(given.stop_texts, given.stop_text_count, "gnv_generate_options.stop_texts"));
    GNV_TRY(check_stop_texts(limits.stop_texts));
    return limits;
}

static Result<GenerateOptions> translate(const gnv_model_t & model, const gnv_generate_options & given) {
    GenerateOptions options;
    GNV_ASSIGN(options.sampling, take_sampling(model, given));
    GNV_ASSIGN(options.draft, take_draft(model, given.draft));
    GNV_ASSIGN(static_cast<AnswerLimits &>(options), api::answer_limits(model, given));
    if (given.on_logits)
        options.on_logits = [&given](std::span<float> logits, std::span<const int32_t> chosen) {
            const gnv_logits now = {sizeof(gnv_logits), logits.data(), logits.size(), chosen.data(), chosen.size()};
            return given.on_logits(given.logits_user, &now) == 0;
        };
    return options;
}

Result<SamplerOptions> api::sampler_options(const gnv_model_t & model, const gnv_generate_options & given) {
    if (given.draft != 0)
        return Status(Code::unsupported,
                      "gnv_generate_options.draft is for the model's own text; for a session call gnv_session_draft");
    GNV_ASSIGN(GenerateOptions options, translate(model, given));
    return std::move(options.sampling);
}

gnv_stop api::stop_of(GenerateStop stop) {
    static constexpr std::array stops = {GNV_STOP_ID, GNV_STOP_LENGTH, GNV_STOP_CAPACITY, GNV_STOP_CALLBACK,
                                         GNV_STOP_TEXT};
    return stops[size_t(stop)];
}

Result<const Tokenizer *> api::choose_tokenizer(gnv_model_t & model, const gnv_generate_options & options) {
    GNV_TRY(api::check_engine(model.engine, options.tokenizer, "gnv_generate_options.tokenizer"));
    if (options.tokenizer) return &options.tokenizer->tokenizer;
    if (!model.tokenizer) {
        GNV_ASSIGN(Tokenizer loaded, Tokenizer::load(model.folder));
        model.tokenizer = std::make_unique<Tokenizer>(std::move(loaded));
    }
    return const_cast<const Tokenizer *>(model.tokenizer.get());
}

gnv_status gnv_model_generate(gnv_model_t * model, const int32_t * ids, size_t count,
                              const gnv_generate_options * given, gnv_generate_result * out) {
    return api::run(api::engine_of(model), [&]() -> Status {
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        GNV_TRY(api::take_options(given, options, "gnv_generate_options"));
        if (out) GNV_TRY(api::check_struct(out, "gnv_generate_result"));
        GNV_TRY(check_ids(*model, ids, count));
        api::Progress progress(*model->engine->threads, options.progress, options.progress_user);
        GNV_ASSIGN(GenerateOptions translated, translate(*model, options));
        translated.on_progress = pass_progress(progress);
        GNV_ASSIGN(const Tokenizer * const tokenizer, api::choose_tokenizer(*model, options));
        translated.counted_ids = model->ids;
        translated.counted_ids.insert(translated.counted_ids.end(), ids, ids + count);
        const OnToken on_token = [&](const GeneratedToken & now) {
            if (!options.callback) return true;
            const gnv_token token = {sizeof(gnv_token), now.id,          now.is_stop,
                                     now.text.c_str(),  now.text.size(), now.answer};
            return options.callback(options.user, &token) == 0;
        };
        GNV_ASSIGN(const std::vector<Picture> pictures,
                   api::take_pictures(model->engine, options.pictures, options.picture_count,
                                      "gnv_generate_options.pictures"));
        SeenText text;
        GNV_TRY(place(*model, {ids, count}, pictures, text));
        Status looked = look(*model, pictures, {}, {}, progress, text);
        if (!looked.ok()) return forget_text(*model, std::move(looked));
        std::vector<int32_t> chosen;
        Result<GenerateResult> result =
            generate(*model->session, model->capacity, *tokenizer, text.sequence, translated, on_token, chosen);
        if (!result.ok()) return forget_text(*model, result.take_status());
        model->ids = std::move(translated.counted_ids);
        model->ids.insert(model->ids.end(), chosen.begin(), chosen.end());
        model->ids.resize(size_t(model->session->past())); // the last one is not in the caches
        gnv_generate_result info = {};
        info.prompt_tokens = count;
        info.tokens = uint64_t(result.value().tokens);
        info.stop = api::stop_of(result.value().stop);
        info.prompt_seconds = result.value().prompt_seconds;
        info.token_seconds = result.value().token_seconds;
        info.stop_text = result.value().stop_text;
        const DraftCounts & drafts = result.value().draft;
        info.drafted = uint64_t(drafts.drafted);
        info.accepted = uint64_t(drafts.accepted);
        info.draft_passes = uint64_t(drafts.passes);
        info.draft_gain = drafts.gain();
        info.draft_end = uint64_t(result.value().draft_end);
        return out ? api::give_struct(info, out, "gnv_generate_result") : Status();
    });
}

int32_t gnv_tokens_repeat(const int32_t * ids, size_t count) { return ids && tokens_repeat({ids, count}) ? 1 : 0; }
