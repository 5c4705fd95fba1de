#include "api/calibration_data.h"
#include "api/dataset_handle.h"
#include "api/handles.h"
#include "quant/calibration_statistics.h"
#include "quantize/calibrate.h"
#include "quantize/quantize.h"

using namespace gnv;

struct gnv_plan_t {
    gnv_engine_t * engine;
    Plan plan;
};

struct gnv_calibration_t {
    gnv_engine_t * engine;
    Statistics statistics;
};

static Status take_patterns(const char * const * texts, size_t count, std::vector<std::string> & out) {
    if (count > 0 && !texts) return Status(Code::invalid_argument, "a list of patterns is NULL");
    for (size_t i = 0; i < count; i++) {
        if (!texts[i]) return Status(Code::invalid_argument, "a pattern is NULL");
        out.push_back(texts[i]);
    }
    return {};
}

gnv_status gnv_plan_create(gnv_engine_t * engine, const char * source, const gnv_plan_options * given,
                           gnv_plan_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        gnv_plan_options options;
        gnv_plan_options_init(&options);
        if (!source || !out) return Status(Code::invalid_argument, "gnv_plan_create: an argument is NULL");
        if (!api::take_options(given, options))
            return Status(Code::invalid_argument, "gnv_plan_options.struct_size is not set; use gnv_plan_options_init");
        if (options.scheme < 0 || size_t(options.scheme) >= all_formats().size())
            return fail(Code::invalid_argument, "unknown scheme ", int(options.scheme));
        if (options.preset < GNV_PRESET_RECIPE || options.preset > GNV_PRESET_EXPERTS_ONLY)
            return fail(Code::invalid_argument, "unknown preset ", int(options.preset));
        PlanOptions plan_options;
        plan_options.recipe.scheme = all_formats()[size_t(options.scheme)];
        plan_options.recipe.preset = options.preset == GNV_PRESET_RECIPE ? Preset::recipe : Preset::experts_only;
        GNV_TRY(take_patterns(options.ignore, options.ignore_count, plan_options.recipe.ignore));
        GNV_TRY(take_patterns(options.include, options.include_count, plan_options.recipe.include));
        GNV_TRY(take_patterns(options.keep, options.keep_count, plan_options.recipe.keep));
        if (options.shard_bytes) plan_options.shard_bytes = options.shard_bytes;
        plan_options.ram_bytes = options.ram_bytes;
        plan_options.calibrates = options.calibrates != 0;
        plan_options.threads = engine->threads->size();
        if (options.destination) plan_options.destination = options.destination;
        plan_options.overwrite = options.overwrite != 0;
        GNV_ASSIGN(Plan plan, make_plan(source, plan_options));
        *out = new gnv_plan_t{engine, std::move(plan)};
        return {};
    });
}

void gnv_plan_destroy(gnv_plan_t * plan) { delete plan; }

gnv_status gnv_plan_text(const gnv_plan_t * plan, gnv_text_format format, gnv_text_t ** out) {
    if (out) *out = nullptr;
    return api::call(plan ? plan->engine : nullptr, [&]() -> Status {
        if (!out) return Status(Code::invalid_argument, "gnv_plan_text: out is NULL");
        *out = api::make_text(format == GNV_TEXT_JSON ? plan_json(plan->plan) : plan_text(plan->plan));
        return {};
    });
}

gnv_status gnv_plan_get_info(const gnv_plan_t * handle, gnv_plan_info * out) {
    return api::call(handle ? handle->engine : nullptr, [&]() -> Status {
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
        if (!api::give_struct(info, out)) return Status(Code::invalid_argument, "gnv_plan_info.struct_size is not set");
        return {};
    });
}

gnv_status gnv_calibration_load(gnv_engine_t * engine, const char * const * paths, size_t count,
                                gnv_calibration_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        if (!paths || count == 0 || !out)
            return Status(Code::invalid_argument, "gnv_calibration_load: no files are given");
        std::unique_ptr<gnv_calibration_t> calibration;
        for (size_t i = 0; i < count; i++) {
            if (!paths[i]) return Status(Code::invalid_argument, "gnv_calibration_load: a path is NULL");
            std::string warning;
            GNV_ASSIGN(Statistics read, read_statistics(paths[i], warning));
            if (!warning.empty()) engine->log(GNV_LOG_WARNING, warning);
            if (!calibration) {
                calibration.reset(new gnv_calibration_t{engine, std::move(read)});
            } else {
                GNV_TRY(merge_statistics(calibration->statistics, read).add_context(paths[i]));
            }
        }
        *out = calibration.release();
        return {};
    });
}

void gnv_calibration_destroy(gnv_calibration_t * calibration) { delete calibration; }

gnv_status gnv_calibration_text(const gnv_calibration_t * calibration, gnv_text_format format, gnv_text_t ** out) {
    if (out) *out = nullptr;
    return api::call(calibration ? calibration->engine : nullptr, [&]() -> Status {
        if (!out) return Status(Code::invalid_argument, "gnv_calibration_text: out is NULL");
        if (format != GNV_TEXT_JSON) {
            *out = api::make_text(statistics_text(calibration->statistics));
            return {};
        }
        GNV_ASSIGN(std::string text, statistics_json(calibration->statistics));
        *out = api::make_text(std::move(text));
        return {};
    });
}

static Status check_options(const gnv_quantize_options & options) {
    if (options.precision < GNV_PRECISION_FP32 || options.precision > GNV_PRECISION_BF16)
        return fail(Code::invalid_argument, "unknown precision ", int(options.precision));
    if (options.experts < GNV_EXPERTS_ALL || options.experts > GNV_EXPERTS_ROUTED)
        return fail(Code::invalid_argument, "unknown choice of tokens for experts ", int(options.experts));
    return {};
}

static Status take_quantize_options(const gnv_quantize_options * given, gnv_quantize_options & options) {
    gnv_quantize_options_init(&options);
    if (api::take_options(given, options)) return {};
    return Status(Code::invalid_argument, "gnv_quantize_options.struct_size is not set; use gnv_quantize_options_init");
}

// How to calibrate.
static Result<QuantizeOptions> calibration_options(const gnv_quantize_options & options) {
    GNV_TRY(check_options(options));
    QuantizeOptions run;
    run.precision = options.precision == GNV_PRECISION_BF16 ? Precision::bf16 : Precision::f32;
    run.expert_tokens = options.experts == GNV_EXPERTS_ROUTED ? ExpertTokens::routed : ExpertTokens::all;
    run.device = options.device;
    run.device_bytes = options.device_bytes;
    if (options.scratch_folder) run.scratch_folder = options.scratch_folder;
    return run;
}

gnv_status gnv_plan_add_calibration(gnv_plan_t * plan, const gnv_quantize_options * given) {
    return api::call(plan ? plan->engine : nullptr, [&]() -> Status {
        gnv_quantize_options options;
        GNV_TRY(take_quantize_options(given, options));
        if (!options.dataset) return Status(Code::invalid_argument, "gnv_plan_add_calibration: there is no data set");
        GNV_ASSIGN(const QuantizeOptions run, calibration_options(options));
        const CalibrationData data = make_calibration_data(options.dataset->set, options.dataset->options);
        return Calibration::describe(plan->plan, *plan->engine->threads, data, run);
    });
}

gnv_status gnv_quantize(const gnv_plan_t * plan, const char * destination, const gnv_quantize_options * given,
                        gnv_text_t ** report) {
    if (report) *report = nullptr;
    return api::call(plan ? plan->engine : nullptr, [&]() -> Status {
        gnv_quantize_options options;
        GNV_TRY(take_quantize_options(given, options));
        if (options.phases) *options.phases = nullptr;
        if (!destination) return Status(Code::invalid_argument, "gnv_quantize: destination is NULL");
        GNV_ASSIGN(QuantizeOptions run, calibration_options(options));
        run.destination = destination;
        run.overwrite = options.overwrite != 0;
        CalibrationData data;
        if (options.dataset) {
            data = make_calibration_data(options.dataset->set, options.dataset->options);
            run.calibration = &data;
        }
        if (options.calibration) run.statistics = &options.calibration->statistics;
        if (options.save_statistics) run.save_statistics = options.save_statistics;
        if (options.trace_file) run.trace_file = options.trace_file;
        run.measure_limits = options.measure_limits != 0;
        if (options.progress) {
            run.progress = [&options](const QuantizeProgress & state) {
                const gnv_progress progress = {sizeof(gnv_progress),      state.source_bytes,
                                               state.source_bytes_total,  state.tensors,
                                               state.tensors_total,       state.seconds,
                                               uint64_t(state.positions), uint64_t(state.positions_total)};
                return options.progress(options.user, &progress) == 0;
            };
        }
        GNV_ASSIGN(const QuantizeReport result, quantize(plan->plan, *plan->engine->threads, run));
        // Both or none: after a failure there is nothing to destroy.
        std::unique_ptr<gnv_text_t> json, table;
        if (report) json.reset(api::make_text(quantize_report_json(plan->plan, result)));
        if (options.phases) table.reset(api::make_text(quantize_report_text(result)));
        if (report) *report = json.release();
        if (options.phases) *options.phases = table.release();
        return {};
    });
}
