#include "api/calibration_data.h"
#include "api/dataset_handle.h"
#include "api/handles.h"
#include "api/report_handle.h"
#include "core/clock.h"
#include "evaluate/evaluation.h"

#include <algorithm>

using namespace gnv;

struct gnv_evaluation_t {
    gnv_engine_t * engine;
    evaluate::Evaluation evaluation;
};

static constexpr std::pair<gnv_line, evaluate::Line> line_bits[] = {
    {GNV_LINE_W4A4, evaluate::Line::w4a4},
    {GNV_LINE_W4A16, evaluate::Line::w4a16},
    {GNV_LINE_ACTIVATIONS, evaluate::Line::activations},
    {GNV_LINE_BF16, evaluate::Line::bf16},
};

static Result<evaluate::EvaluateOptions> translate_options(const gnv_evaluate_options & given) {
    if (given.precision < GNV_PRECISION_FP32 || given.precision > GNV_PRECISION_BF16)
        return fail(Code::invalid_argument, "unknown precision ", int(given.precision));
    evaluate::EvaluateOptions options;
    uint32_t known = 0;
    for (const auto & [bit, line] : line_bits) {
        options.lines[size_t(line)] = (given.lines & bit) != 0;
        known |= bit;
    }
    if (given.lines & ~known) return fail(Code::invalid_argument, "unknown lines ", given.lines & ~known);
    options.share_expert_scale = given.shared_expert_scale != 0;
    options.precision = given.precision == GNV_PRECISION_BF16 ? Precision::bf16 : Precision::f32;
    options.ram_bytes = given.ram_bytes;
    options.device = given.device;
    options.device_bytes = given.device_bytes;
    const auto text = [](const char * content) { return std::string(content ? content : ""); };
    options.scratch_folder = text(given.scratch_folder);
    options.save_logits = text(given.save_logits);
    options.logits = text(given.logits);
    const auto limit = [](double value, std::optional<double> & to) {
        if (!(value < 0)) to = value;
    };
    limit(given.max_kl, options.gates.max_divergence);
    limit(given.min_top1, options.gates.min_same_top);
    limit(given.max_perplexity_ratio, options.gates.max_perplexity_ratio);
    limit(given.max_room, options.gates.max_room);
    options.gates.baseline = text(given.baseline);
    if (given.progress) {
        const auto start = Clock::now();
        options.progress = [given, start](const PassProgress & state) {
            gnv_progress progress = {};
            progress.struct_size = sizeof progress;
            progress.seconds = seconds_since(start);
            progress.positions = uint64_t(state.positions);
            progress.positions_total = uint64_t(state.positions_total);
            return given.progress(given.user, &progress) == 0;
        };
    }
    return options;
}

gnv_status gnv_evaluate(gnv_engine_t * engine, const char * checkpoint, const char * source,
                        const gnv_evaluate_options * given, gnv_evaluation_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        gnv_evaluate_options options;
        gnv_evaluate_options_init(&options);
        if (!checkpoint || !out) return Status(Code::invalid_argument, "gnv_evaluate: an argument is NULL");
        if (!given || !api::take_options(given, options))
            return Status(Code::invalid_argument,
                          "gnv_evaluate_options.struct_size is not set; use gnv_evaluate_options_init");
        if (!options.dataset) return Status(Code::invalid_argument, "gnv_evaluate: there is no data set");
        GNV_ASSIGN(const evaluate::EvaluateOptions run, translate_options(options));
        CalibrationData sequences = make_calibration_data(options.dataset->set, options.dataset->options);
        const evaluate::EvaluationData data = {std::move(sequences.sequences), std::move(sequences.sha256),
                                               std::move(sequences.json)};
        std::shared_ptr<const Folder> source_folder;
        GNV_ASSIGN(std::shared_ptr<const Folder> folder, open_folder(checkpoint));
        if (source) {
            GNV_ASSIGN(source_folder, open_folder(source));
        }
        GNV_ASSIGN(evaluate::Evaluation result,
                   evaluate::evaluate(std::move(folder), std::move(source_folder), data, *engine->threads, run));
        *out = new gnv_evaluation_t{engine, std::move(result)};
        return {};
    });
}

void gnv_evaluation_destroy(gnv_evaluation_t * evaluation) { delete evaluation; }

static uint64_t count_suspicions(const evaluate::Evaluation & evaluation) {
    return uint64_t(std::count_if(evaluation.gates.begin(), evaluation.gates.end(),
                                  [](const evaluate::GateResult & gate) { return gate.flagged; }));
}

gnv_status gnv_evaluation_get_info(const gnv_evaluation_t * handle, gnv_evaluation_info * out) {
    return api::call(handle ? handle->engine : nullptr, [&]() -> Status {
        const evaluate::Evaluation & evaluation = handle->evaluation;
        gnv_evaluation_info info = {};
        for (const auto & [bit, line] : line_bits) info.lines |= evaluation.find(line) ? uint32_t(bit) : 0;
        info.windows = evaluation.windows;
        info.positions = evaluation.positions;
        info.predictions = evaluation.predictions;
        info.suspicions = count_suspicions(evaluation);
        info.gates = evaluation.gates.size() - info.suspicions;
        info.failed_gates = evaluation.failed_gates();
        if (!api::give_struct(info, out))
            return Status(Code::invalid_argument, "gnv_evaluation_info.struct_size is not set");
        return {};
    });
}

gnv_status gnv_evaluation_get_line(const gnv_evaluation_t * handle, gnv_line wanted, gnv_evaluation_line * out) {
    return api::call(handle ? handle->engine : nullptr, [&]() -> Status {
        const evaluate::LineReport * found = nullptr;
        for (const auto & [bit, line] : line_bits)
            if (bit == wanted) found = handle->evaluation.find(line);
        if (!found) return fail(Code::not_found, "line ", int(wanted), " was not computed");
        using evaluate::Figures;
        const Figures & figures = found->all;
        gnv_evaluation_line line = {};
        line.kl = figures.divergence.mean, line.kl_error = figures.divergence.error;
        line.kl_median = figures.divergence_at[6], line.kl_99 = figures.divergence_at[10];
        line.kl_maximum = figures.divergence_at[12];
        line.same_top = figures.same_top.mean, line.same_top_error = figures.same_top.error;
        line.source_perplexity = Figures::exponential(figures.source_nll).mean;
        line.perplexity = Figures::exponential(figures.nll).mean;
        const evaluate::Estimate ratio = Figures::exponential(figures.log_ratio);
        line.perplexity_ratio = ratio.mean, line.perplexity_ratio_error = ratio.error;
        line.probability_change_rms = figures.probability_rms.mean;
        line.worst_layer = evaluate::worst_layer(found->layers);
        if (!api::give_struct(line, out))
            return Status(Code::invalid_argument, "gnv_evaluation_line.struct_size is not set");
        return {};
    });
}

gnv_status gnv_evaluation_text(const gnv_evaluation_t * handle, gnv_text_format format, gnv_text_t ** out) {
    if (out) *out = nullptr;
    return api::call(handle ? handle->engine : nullptr, [&]() -> Status {
        if (!out) return Status(Code::invalid_argument, "gnv_evaluation_text: out is NULL");
        switch (format) {
        case GNV_TEXT_PLAIN: *out = api::make_text(evaluate::evaluation_text(handle->evaluation)); return {};
        case GNV_TEXT_JSON: *out = api::make_text(evaluate::evaluation_json(handle->evaluation)); return {};
        case GNV_TEXT_MARKDOWN: *out = api::make_text(evaluate::evaluation_markdown(handle->evaluation)); return {};
        }
        return fail(Code::invalid_argument, "gnv_evaluation_text: unknown format ", int(format));
    });
}

gnv_status gnv_report_add_evaluation(gnv_report_t * report, const gnv_evaluation_t * handle) {
    return api::call(report ? report->engine : nullptr, [&]() -> Status {
        if (!handle) return Status(Code::invalid_argument, "gnv_report_add_evaluation: evaluation is NULL");
        verify::attach_output(report->report, evaluate::evaluation_text(handle->evaluation),
                              evaluate::evaluation_json(handle->evaluation));
        report->failed_gates = handle->evaluation.failed_gates();
        report->suspicions = count_suspicions(handle->evaluation);
        return {};
    });
}
