#include "api/arguments.h"
#include "api/devices.h"
#include "api/parts/card_options.h"
#include "api/parts/dataset_handle.h"
#include "api/parts/resume.h"
#include "api/parts/stream_handle.h"
#include "api/progress.h"
#include "formats/file.h"
#include "quant/calibration_statistics.h"
#include "quant/recipe_file.h"
#include "quantize/calibrate.h"
#include "quantize/quantize.h"

using namespace gnv;

struct gnv_plan_t : api::Owned {
    Plan plan;
};

struct gnv_calibration_t : api::Owned {
    Statistics statistics;
    std::vector<std::string> files; // its sources
};

// As take_options(); callers that do not know `resume` get the behaviour before it.
template <class Options>
static Status take_options_with_resume(const Options * given, Options & options, const char * name) {
    if (given) options.resume = GNV_RESUME_OFF;
    return api::take_options(given, options, name);
}

// The rules of a recipe.yaml. Others beside it would contradict it, or repeat it.
static Status take_recipe(gnv_engine_t * engine, const gnv_plan_options & options, RecipeOptions & out) {
    const bool has_rules = options.scheme != GNV_SCHEME_NVFP4 || options.preset != GNV_PRESET_RECIPE ||
                           options.method != GNV_METHOD_RTN || options.headroom != 0 || options.ignore_count > 0 ||
                           options.include_count > 0 || options.keep_count > 0 ||
                           options.draft_head != GNV_DRAFT_HEAD_KEEP;
    if (has_rules)
        return Status(Code::invalid_argument, "gnv_plan_options.recipe_file decides scheme, preset, method, headroom, "
                                              "patterns and draft_head: leave those as gnv_plan_options_init has them");
    RecipeProblems problems;
    Result<RecipeOptions> recipe = read_recipe(options.recipe_file, problems);
    if (problems.size() > 1)
        for (const std::string & problem : problems) engine->log(GNV_LOG_WARNING, problem);
    if (!recipe.ok()) return recipe.take_status();
    out = recipe.take();
    return {};
}

gnv_status gnv_plan_create(gnv_engine_t * engine, const char * source, const gnv_plan_options * given,
                           gnv_plan_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        gnv_plan_options options;
        gnv_plan_options_init(&options);
        GNV_TRY(api::check_pointers({source, out}, "gnv_plan_create"));
        GNV_TRY(take_options_with_resume(given, options, "gnv_plan_options"));
        GNV_ASSIGN(const Resume resume, api::take_resume(options.resume, "gnv_plan_options.resume"));
        GNV_TRY(api::check_number(options.scheme, gnv_scheme(all_formats().size() - 1), "gnv_plan_options.scheme"));
        GNV_TRY(api::check_number(options.preset, GNV_PRESET_EXPERTS_ONLY, "gnv_plan_options.preset"));
        GNV_TRY(api::check_number(options.method, gnv_method(all_quantizers().size() - 1), "gnv_plan_options.method"));
        GNV_TRY(api::check_number(options.draft_head, GNV_DRAFT_HEAD_NVFP4A16, "gnv_plan_options.draft_head"));
        PlanOptions plan_options;
        if (options.draft_head == GNV_DRAFT_HEAD_NVFP4A16) plan_options.recipe.draft_head = &formats::nvfp4a16;
        plan_options.recipe.scheme = all_formats()[size_t(options.scheme)];
        plan_options.recipe.preset = options.preset == GNV_PRESET_RECIPE ? Preset::recipe : Preset::experts_only;
        plan_options.recipe.quantizer = all_quantizers()[size_t(options.method)];
        plan_options.recipe.headroom = options.headroom;
        if (options.headroom == 0 && options.method != GNV_METHOD_RTN) plan_options.recipe.headroom = default_headroom;
        GNV_ASSIGN(plan_options.recipe.ignore,
                   api::take_texts(options.ignore, options.ignore_count, "gnv_plan_options.ignore"));
        GNV_ASSIGN(plan_options.recipe.include,
                   api::take_texts(options.include, options.include_count, "gnv_plan_options.include"));
        GNV_ASSIGN(plan_options.recipe.keep,
                   api::take_texts(options.keep, options.keep_count, "gnv_plan_options.keep"));
        if (options.recipe_file) GNV_TRY(take_recipe(engine, options, plan_options.recipe));
        if (options.shard_bytes) plan_options.shard_bytes = options.shard_bytes;
        plan_options.ram_bytes = options.ram_bytes;
        if (options.calibrates != 0) plan_options.buffer_share = calibrating_buffer_share;
        plan_options.threads = engine->threads->size();
        plan_options.destination = api::text_or_empty(options.destination);
        plan_options.overwrite = options.overwrite != 0;
        plan_options.resumes = resume != Resume::off;
        GNV_ASSIGN(std::shared_ptr<const Folder> folder,
                   api::open_source(engine, source, options.stream, "gnv_plan_options.stream"));
        GNV_ASSIGN(Plan plan, make_plan(std::move(folder), plan_options));
        describe_streaming(plan);
        *out = new gnv_plan_t{{engine}, std::move(plan)};
        return {};
    });
}

void gnv_plan_destroy(gnv_plan_t * plan) { api::destroy(plan); }

gnv_status gnv_plan_text(const gnv_plan_t * plan, gnv_text_format wanted, gnv_text_t ** out) {
    return api::give_text(plan, wanted, out, "gnv_plan_text", [&](gnv_text_format format) {
        return format == GNV_TEXT_JSON ? plan_json(plan->plan) : plan_text(plan->plan, api::text_width(plan));
    });
}

gnv_status gnv_plan_get_info(const gnv_plan_t * handle, gnv_plan_info * out) {
    return api::call(api::engine_of(handle), [&]() -> Status {
        const Plan & plan = handle->plan;
        gnv_plan_info info = {};
        info.source_tensors = plan.checkpoint.tensors().size();
        info.source_bytes = plan.checkpoint.tensor_bytes();
        info.quantized_modules = uint64_t(plan.selection.count);
        info.tensors = plan.output.tensors.size();
        info.tensor_bytes = plan.output.tensor_bytes();
        info.shards = plan.output.shards.size();
        info.bytes_read = plan.source_bytes_read();
        info.disk_bytes = plan.disk_bytes();
        info.buffer_bytes = plan.memory.total();
        info.warnings = plan.warnings.size();
        return api::give_struct(info, out, "gnv_plan_info");
    });
}

gnv_status gnv_calibration_load(gnv_engine_t * engine, const char * const * paths, size_t count,
                                gnv_calibration_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({out}, "gnv_calibration_load"));
        if (count == 0) return Status(Code::invalid_argument, "gnv_calibration_load: the list of files is empty");
        GNV_ASSIGN(const std::vector<std::string> files, api::take_texts(paths, count, "gnv_calibration_load: paths"));
        std::vector<Statistics> list;
        for (const std::string & file : files) {
            std::string warning;
            GNV_ASSIGN(list.emplace_back(), read_statistics(file, warning));
            if (!warning.empty()) engine->log(GNV_LOG_WARNING, warning);
        }
        GNV_ASSIGN(Statistics merged, merge_all(std::move(list), files));
        std::vector<std::string> read = files;
        if (!merged.moments.empty())
            for (const std::string & file : files) read.push_back(moment_file_name(file));
        *out = new gnv_calibration_t{{engine}, std::move(merged), std::move(read)};
        return {};
    });
}

void gnv_calibration_destroy(gnv_calibration_t * calibration) { api::destroy(calibration); }

gnv_status gnv_calibration_text(const gnv_calibration_t * calibration, gnv_text_format wanted, gnv_text_t ** out) {
    return api::give_text(calibration, wanted, out, "gnv_calibration_text", [&](gnv_text_format format) {
        const auto & statistics = calibration->statistics;
        return format == GNV_TEXT_JSON ? statistics_json(statistics)
                                       : statistics_text(statistics, api::text_width(calibration));
    });
}

// The options of the forward pass.
static Result<QuantizeOptions> calibration_options(const gnv_quantize_options & options) {
    GNV_TRY(api::check_number(options.precision, GNV_PRECISION_BF16, "gnv_quantize_options.precision"));
    GNV_TRY(api::check_number(options.experts, GNV_EXPERTS_ROUTED, "gnv_quantize_options.experts"));
    GNV_TRY(api::check_number(options.screening, GNV_SCREENING_CHECK, "gnv_quantize_options.screening"));
    QuantizeOptions run;
    GNV_ASSIGN(run.resume, api::take_resume(options.resume, "gnv_quantize_options.resume"));
    constexpr Screening screening[] = {Screening::on, Screening::off, Screening::check}; // by number
    run.screening = screening[options.screening];
    run.precision = options.precision == GNV_PRECISION_BF16 ? Precision::bf16 : Precision::f32;
    run.expert_tokens = options.experts == GNV_EXPERTS_ROUTED ? ExpertTokens::routed : ExpertTokens::all;
    GNV_ASSIGN(api::DeviceChoice devices,
               api::choose_devices(options.device, options.devices, options.device_count, "gnv_quantize_options"));
    run.open_device = std::move(devices.first);
    run.more_devices = std::move(devices.more);
    run.device_bytes = options.device_bytes;
    run.scratch_folder = api::text_or_empty(options.scratch_folder);
    return run;
}

static Result<CalibrationData> data_of(const gnv_quantize_options & options) {
    GNV_ASSIGN(CalibrationData data, options.dataset->calibration_data());
    if (options.part != 0 || options.parts != 0) GNV_TRY(data.take_part(options.part, options.parts));
    return data;
}

gnv_status gnv_plan_add_calibration(gnv_plan_t * plan, const gnv_quantize_options * given) {
    return api::run(api::engine_of(plan), [&]() -> Status {
        gnv_quantize_options options;
        gnv_quantize_options_init(&options);
        GNV_TRY(take_options_with_resume(given, options, "gnv_quantize_options"));
        if (!options.dataset)
            return Status(Code::invalid_argument, "gnv_plan_add_calibration: the data set is missing");
        GNV_TRY(api::check_engine(plan->engine, options.dataset, "gnv_quantize_options.dataset"));
        GNV_ASSIGN(const QuantizeOptions run, calibration_options(options));
        GNV_ASSIGN(const CalibrationData data, data_of(options));
        const std::lock_guard<std::mutex> lock(plan->engine->quick_mutex); // no other call reads the plan meanwhile
        return Calibration::describe(plan->plan, *plan->engine->threads, data, run);
    });
}

static Result<EstimateOptions> estimate_options(const gnv_estimate_options * given, bool makes_card) {
    gnv_estimate_options options;
    gnv_estimate_options_init(&options);
    GNV_TRY(api::take_options(given, options, "gnv_estimate_options"));
    if (!(options.price >= 0 && options.price <= 1e6))
        return fail(Code::invalid_argument, "gnv_estimate_options.price: ", options.price,
                    " is not between 0 and a million dollars an hour");
    EstimateOptions out;
    out.assume = api::text_or_empty(options.assume);
    out.price = options.price;
    out.folder = api::text_or_empty(options.folder);
    out.makes_card = makes_card;
    return out;
}

gnv_status gnv_plan_add_estimate(gnv_plan_t * plan, const gnv_quantize_options * given,
                                 const gnv_estimate_options * how, gnv_estimate * out) {
    return api::run(api::engine_of(plan), [&]() -> Status {
        gnv_quantize_options options;
        gnv_quantize_options_init(&options);
        GNV_TRY(take_options_with_resume(given, options, "gnv_quantize_options"));
        GNV_TRY(api::check_engine(plan->engine, options.dataset, "gnv_quantize_options.dataset"));
        GNV_ASSIGN(QuantizeOptions run, calibration_options(options));
        GNV_ASSIGN(run.estimate, estimate_options(how, options.card != nullptr));
        CalibrationData data;
        if (options.dataset) {
            GNV_ASSIGN(data, data_of(options));
            if (!can_calibrate(plan->plan)) return no_input_scales();
            run.calibration = &data;
        }
        GNV_ASSIGN(const Estimate estimate, estimate_run(plan->plan, *plan->engine->threads, run));
        {
            const std::lock_guard<std::mutex> lock(plan->engine->quick_mutex);
            plan->plan.estimate_text = estimate_text(estimate);
            JsonWriter json;
            estimate_json(json, estimate);
            plan->plan.estimate_json = json.take();
        }
        if (!out) return {};
        gnv_estimate info = {};
        info.forward_pass = estimate.pass, info.read = estimate.read, info.upload = estimate.upload;
        info.pack = estimate.pack, info.write = estimate.write, info.disk = estimate.disk;
        info.finish = estimate.finish, info.total = estimate.total, info.cost = estimate.cost();
        info.disk_bytes = estimate.disk_bytes, info.host_bytes = estimate.host_bytes;
        info.device_bytes = estimate.device_bytes;
        info.is_complete = estimate.knows_pack && estimate.knows_write;
        return api::give_struct(info, out, "gnv_estimate");
    });
}

gnv_status gnv_quantize(const gnv_plan_t * plan, const char * destination, const gnv_quantize_options * given,
                        gnv_text_t ** report) {
    if (report) *report = nullptr;
    return api::run(api::engine_of(plan), [&]() -> Status {
        gnv_quantize_options options;
        gnv_quantize_options_init(&options);
        GNV_TRY(take_options_with_resume(given, options, "gnv_quantize_options"));
        if (options.phases) *options.phases = nullptr;
        if (options.summary) *options.summary = nullptr;
        if (!destination && !options.save_statistics)
            return Status(Code::invalid_argument, "gnv_quantize: an argument is NULL");
        if (!options.dataset && (options.part != 0 || options.parts != 0))
            return Status(Code::invalid_argument, "gnv_quantize_options.parts: a part of data needs data");
        GNV_TRY(api::check_engine(plan->engine, options.dataset, "gnv_quantize_options.dataset"));
        GNV_TRY(api::check_engine(plan->engine, options.calibration, "gnv_quantize_options.calibration"));
        GNV_ASSIGN(QuantizeOptions run, calibration_options(options));
        run.destination = api::text_or_empty(destination);
        run.overwrite = options.overwrite != 0;
        CalibrationData data;
        if (options.dataset) {
            GNV_ASSIGN(data, data_of(options));
            run.calibration = &data;
        }
        if (options.calibration) {
            run.statistics = &options.calibration->statistics;
            run.reads = options.calibration->files;
        }
        run.first_layer = options.first_layer;
        run.layer_count = options.layer_count;
        GNV_ASSIGN(run.take, api::take_texts(options.take, options.take_count, "gnv_quantize_options.take"));
        run.save_statistics = api::text_or_empty(options.save_statistics);
        run.trace_file = api::text_or_empty(options.trace_file);
        run.report_file = api::text_or_empty(options.report_file);
        run.measure_limits = options.measure_limits != 0;
        run.min_expert_tokens = options.min_expert_tokens;
        api::Progress progress(*plan->engine->threads, options.progress, options.user);
        if (progress) {
            run.progress = [&progress](const QuantizeProgress & state) {
                gnv_progress now = {};
                now.bytes = state.source_bytes, now.bytes_total = state.source_bytes_total;
                now.tensors = state.tensors, now.tensors_total = state.tensors_total;
                now.positions = uint64_t(state.positions), now.positions_total = uint64_t(state.positions_total);
                now.share = state.share;
                now.layer = uint64_t(state.layer), now.layers = uint64_t(state.layers);
                now.tokens = uint64_t(state.tokens);
                return progress.report(now, state.tensors == state.tensors_total);
            };
        }
        CardOptions card;
        if (options.card) {
            GNV_TRY(api::take_card_options(options.card, card));
            if (progress) card.stop = [&progress] { return !progress.goes_on(); };
            run.card = [&](const std::string & folder, const KnownHashes & hashes) {
                card.known = hashes;
                return model_card_text(folder, card, *plan->engine->threads);
            };
        }
        if (options.estimate) {
            GNV_ASSIGN(run.estimate, estimate_options(options.estimate, options.card != nullptr));
        }
        run.note = [plan](const std::string & note) { plan->engine->log(GNV_LOG_INFO, "note: " + note); };
        run.announce = [plan](const std::string & line) { plan->engine->log(GNV_LOG_INFO, line); };
        run.warn = [plan](const std::string & doubt) { plan->engine->log(GNV_LOG_WARNING, doubt); };
        for (const std::string & note : plan->plan.notes) run.note(note);
        for (const std::string & warning : plan->plan.warnings) plan->engine->log(GNV_LOG_WARNING, warning);
        Result<QuantizeReport> quantized = quantize(plan->plan, *plan->engine->threads, run);
        if (!quantized.ok()) return quantized.take_status();
        const QuantizeReport result = quantized.take();
        // All or none: after a failure the caller destroys nothing.
        std::unique_ptr<gnv_text_t> json, table, summary;
        if (report) {
            GNV_ASSIGN(std::string text, quantize_report_json(plan->plan, result));
            json.reset(api::make_text(std::move(text)));
        }
        if (options.phases) table.reset(api::make_text(quantize_report_text(result, api::text_width(plan))));
        if (options.summary) summary.reset(api::make_text(quantize_summary_text(plan->plan, result)));
        if (report) *report = json.release();
        if (options.phases) *options.phases = table.release();
        if (options.summary) *options.summary = summary.release();
        return {};
    });
}
