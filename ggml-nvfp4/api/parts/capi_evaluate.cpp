#include "api/arguments.h"
#include "api/devices.h"
#include "api/parts/dataset_handle.h"
#include "api/parts/report_handle.h"
#include "api/parts/resume.h"
#include "api/progress.h"
#include "api/text/tokenizer_handle.h"
#include "evaluate/evaluation.h"

#include <algorithm>
#include <cmath>
#include <optional>

using namespace gnv;

struct gnv_evaluation_t : api::Owned {
    evaluate::Evaluation evaluation;
};

static constexpr std::pair<gnv_line, evaluate::Line> line_bits[] = {
    {GNV_LINE_W4A4, evaluate::Line::w4a4},
    {GNV_LINE_W4A16, evaluate::Line::w4a16},
    {GNV_LINE_ACTIVATIONS, evaluate::Line::activations},
    {GNV_LINE_BF16, evaluate::Line::bf16},
};

// A gate below 0 is off; a NaN is a mistake.
static Status take_gate(double value, const char * name, std::optional<double> & to) {
    if (std::isnan(value)) return fail(Code::invalid_argument, "gnv_evaluate_options.", name, " is NaN");
    if (value >= 0) to = value;
    return {};
}

static Result<evaluate::EvaluateOptions> translate_options(const gnv_evaluate_options & given,
                                                           api::Progress & progress) {
    GNV_TRY(api::check_number(given.precision, GNV_PRECISION_BF16, "gnv_evaluate_options.precision"));
    evaluate::EvaluateOptions options;
    uint32_t known = 0;
    for (const auto & [bit, line] : line_bits) {
        options.lines[size_t(line)] = (given.lines & uint32_t(bit)) != 0;
        known |= uint32_t(bit);
    }
    GNV_TRY(api::check_flags(given.lines, known, "gnv_evaluate_options.lines"));
    options.share_expert_scale = given.shared_expert_scale != 0;
    constexpr int32_t most_ranges = 1024;
    if (given.sensitivity_ranges < 0 || given.sensitivity_ranges > most_ranges)
        return fail(Code::invalid_argument, "gnv_evaluate_options.sensitivity_ranges is ", given.sensitivity_ranges,
                    "; it must be 0 to ", most_ranges);
    options.sensitivity_ranges = given.sensitivity_ranges;
    constexpr int32_t most_contexts = 1000;
    if (given.contexts < 0 || given.contexts > most_contexts)
        return fail(Code::invalid_argument, "gnv_evaluate_options.contexts is ", given.contexts, "; it must be 0 to ",
                    most_contexts);
    options.worst_positions = size_t(given.contexts);
    options.precision = given.precision == GNV_PRECISION_BF16 ? Precision::bf16 : Precision::f32;
    options.ram_bytes = given.ram_bytes;
    GNV_ASSIGN(api::DeviceChoice devices,
               api::choose_devices(given.device, given.devices, given.device_count, "gnv_evaluate_options"));
    options.open_device = std::move(devices.first);
    options.more_devices = std::move(devices.more);
    options.device_bytes = given.device_bytes;
    options.scratch_folder = api::text_or_empty(given.scratch_folder);
    options.save_logits = api::text_or_empty(given.save_logits);
    options.logits = api::text_or_empty(given.logits);
    options.state_folder = api::text_or_empty(given.state_folder);
    GNV_ASSIGN(options.resume, api::take_resume(given.resume, "gnv_evaluate_options.resume"));
    GNV_TRY(take_gate(given.max_kl, "max_kl", options.gates.max_divergence));
    GNV_TRY(take_gate(given.min_top1, "min_top1", options.gates.min_same_top));
    GNV_TRY(take_gate(given.max_perplexity_ratio, "max_perplexity_ratio", options.gates.max_perplexity_ratio));
    GNV_TRY(take_gate(given.max_room, "max_room", options.gates.max_room));
    options.gates.baseline = api::text_or_empty(given.baseline);
    if (progress) {
        options.progress = [&progress](const PassProgress & state) {
            gnv_progress now = {};
            now.positions = uint64_t(state.positions);
            now.positions_total = uint64_t(state.positions_total);
            now.share = state.share;
            now.layer = uint64_t(state.layer), now.layers = uint64_t(state.layers);
            now.tokens = uint64_t(state.tokens);
            return progress.report(now, state.positions == state.positions_total);
        };
    }
    return options;
}

// The options and the data of a call.
struct EvaluationRequest {
    gnv_evaluate_options given;
    evaluate::EvaluateOptions options;
    evaluate::EvaluationData data;
    std::optional<api::Progress> progress;
};

static Status take_request(gnv_engine_t * engine, const gnv_evaluate_options * given, EvaluationRequest & out) {
    gnv_evaluate_options_init(&out.given);
    GNV_TRY(api::take_options(given, out.given, "gnv_evaluate_options"));
    const gnv_evaluate_options & options = out.given;
    if (!options.dataset) return Status(Code::invalid_argument, "gnv_evaluate: the data set is missing");
    GNV_TRY(api::check_engine(engine, options.dataset, "gnv_evaluate_options.dataset"));
    out.progress.emplace(*engine->threads, options.progress, options.user);
    GNV_ASSIGN(out.options, translate_options(options, *out.progress));
    GNV_ASSIGN(CalibrationData data, options.dataset->calibration_data());
    out.data = {std::move(data.sequences), std::move(data.pictures), std::move(data.sha256), std::move(data.json)};
    return {};
}

gnv_status gnv_evaluate_check(gnv_engine_t * engine, const gnv_evaluate_options * given) {
    return api::run(engine, [&]() -> Status {
        EvaluationRequest request;
        GNV_TRY(take_request(engine, given, request));
        return evaluate::check_named_files(request.data, request.options);
    });
}

gnv_status gnv_evaluate(gnv_engine_t * engine, const char * checkpoint, const char * source,
                        const gnv_evaluate_options * given, gnv_evaluation_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({checkpoint, out}, "gnv_evaluate"));
        EvaluationRequest request;
        GNV_TRY(take_request(engine, given, request));
        request.options.note = [engine](const std::string & note) { engine->log(GNV_LOG_INFO, "note: " + note); };
        std::shared_ptr<const Folder> source_folder;
        GNV_ASSIGN(std::shared_ptr<const Folder> folder, open_folder(checkpoint));
        if (source) {
            GNV_ASSIGN(source_folder, open_folder(source));
        }
        GNV_ASSIGN(evaluate::Evaluation result, evaluate::evaluate(std::move(folder), std::move(source_folder),
                                                                   request.data, *engine->threads, request.options));
        if (request.options.worst_positions > 0) {
            // Without a tokenizer that can be read, positions have ids alone.
            Result<Tokenizer> tokenizer = Tokenizer::load(checkpoint);
            if (tokenizer.ok())
                result.text_of = [words = std::make_shared<const Tokenizer>(tokenizer.take())](
                                     std::span<const int32_t> ids) -> std::string {
                    Result<std::string> text = words->decode(std::vector<TokenId>(ids.begin(), ids.end()));
                    return text.ok() ? text.take() : std::string();
                };
        }
        *out = new gnv_evaluation_t{{engine}, std::move(result)};
        return {};
    });
}

void gnv_evaluation_destroy(gnv_evaluation_t * evaluation) { api::destroy(evaluation); }

gnv_status gnv_evaluation_remove_state(gnv_evaluation_t * evaluation) {
    return api::call(api::engine_of(evaluation), [&]() -> Status { return evaluation->evaluation.remove_state(); });
}

gnv_status gnv_evaluation_get_info(const gnv_evaluation_t * handle, gnv_evaluation_info * out) {
    return api::call(api::engine_of(handle), [&]() -> Status {
        const evaluate::Evaluation & evaluation = handle->evaluation;
        gnv_evaluation_info info = {};
        for (const auto & [bit, line] : line_bits) info.lines |= evaluation.find(line) ? uint32_t(bit) : 0;
        info.windows = evaluation.windows;
        info.positions = evaluation.positions;
        info.predictions = evaluation.predictions;
        info.suspicions = evaluation.suspicions();
        info.gates = evaluation.gates.size() - info.suspicions;
        info.failed_gates = evaluation.failed_gates();
        return api::give_struct(info, out, "gnv_evaluation_info");
    });
}

gnv_status gnv_evaluation_get_line(const gnv_evaluation_t * handle, gnv_line wanted, gnv_evaluation_line * out) {
    return api::call(api::engine_of(handle), [&]() -> Status {
        const auto known = std::find_if(std::begin(line_bits), std::end(line_bits),
                                        [&](const auto & entry) { return entry.first == wanted; });
        if (known == std::end(line_bits))
            return fail(Code::invalid_argument, "gnv_evaluation_get_line: ", int(wanted), " is not a line");
        const evaluate::LineReport * const found = handle->evaluation.find(known->second);
        if (!found) return fail(Code::not_found, evaluate::line_name(known->second), " was not computed");
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
        return api::give_struct(line, out, "gnv_evaluation_line");
    });
}

gnv_status gnv_evaluation_text(const gnv_evaluation_t * handle, gnv_text_format wanted, gnv_text_t ** out) {
    const auto write = [&](gnv_text_format format) {
        const evaluate::Evaluation & evaluation = handle->evaluation;
        return format == GNV_TEXT_JSON       ? evaluate::evaluation_json(evaluation)
               : format == GNV_TEXT_MARKDOWN ? evaluate::evaluation_markdown(evaluation)
                                             : evaluate::evaluation_text(evaluation, api::text_width(handle));
    };
    return api::give_text(handle, wanted, out, "gnv_evaluation_text", write, GNV_TEXT_MARKDOWN);
}

gnv_status gnv_report_add_evaluation(gnv_report_t * report, const gnv_evaluation_t * handle) {
    return api::call(api::engine_of(report), [&]() -> Status {
        GNV_TRY(api::check_pointers({handle}, "gnv_report_add_evaluation"));
        GNV_TRY(api::check_engine(report->engine, handle, "gnv_report_add_evaluation: the evaluation"));
        verify::attach_output(report->report, evaluate::evaluation_text(handle->evaluation, api::text_width(report)),
                              evaluate::evaluation_json(handle->evaluation), api::summary_of_gates(handle->evaluation));
        return {};
    });
}
