#include "api/arguments.h"
#include "api/devices.h"
#include "api/parts/report_handle.h"
#include "api/progress.h"
#include "canary/canary.h"

#include <cmath>
#include <optional>

using namespace gnv;

struct gnv_canary_t : api::Owned {
    canary::Canary canary;
};

static constexpr std::pair<gnv_line, canary::Line> line_bits[] = {
    {gnv_line(0), canary::Line::source},
    {GNV_LINE_W4A4, canary::Line::w4a4},
    {GNV_LINE_W4A16, canary::Line::w4a16},
};

static Result<canary::CanaryOptions> take_canary_options(const gnv_canary_options * options) {
    gnv_canary_options given;
    gnv_canary_options_init(&given);
    GNV_TRY(api::take_options(options, given, "gnv_canary_options"));
    GNV_TRY(api::check_number(given.precision, GNV_PRECISION_BF16, "gnv_canary_options.precision"));
    GNV_TRY(api::check_number(given.thinking, 1, "gnv_canary_options.thinking"));
    GNV_TRY(
        api::check_flags(given.lines, uint32_t(GNV_LINE_W4A4) | uint32_t(GNV_LINE_W4A16), "gnv_canary_options.lines"));
    if (given.max_tokens > uint64_t(canary::most_tokens))
        return fail(Code::invalid_argument, "gnv_canary_options.max_tokens is ", given.max_tokens, "; use at most ",
                    canary::most_tokens);
    if (std::isnan(given.max_growth)) return Status(Code::invalid_argument, "gnv_canary_options.max_growth is NaN");
    canary::CanaryOptions out;
    GNV_ASSIGN(out.prompts, api::take_texts(given.prompts, given.prompt_count, "gnv_canary_options.prompts"));
    if (given.max_tokens > 0) out.max_tokens = int64_t(given.max_tokens);
    out.thinking = given.thinking != 0;
    for (const auto & [bit, line] : line_bits)
        out.lines[size_t(line)] = line == canary::Line::source || (given.lines & uint32_t(bit)) != 0;
    out.precision = given.precision == GNV_PRECISION_BF16 ? Precision::bf16 : Precision::f32;
    GNV_ASSIGN(api::DeviceChoice devices,
               api::choose_devices(given.device, given.devices, given.device_count, "gnv_canary_options"));
    out.open_device = std::move(devices.first);
    out.more_devices = std::move(devices.more);
    out.ram_bytes = given.ram_bytes, out.device_bytes = given.device_bytes;
    if (given.max_growth >= 0) out.max_growth = given.max_growth;
    return out;
}

gnv_status gnv_canary_check(gnv_engine_t * engine, const char * source, const gnv_canary_options * given) {
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({source}, "gnv_canary_check"));
        GNV_ASSIGN(const canary::CanaryOptions options, take_canary_options(given));
        return canary::check_questions(source, options);
    });
}

gnv_status gnv_canary(gnv_engine_t * engine, const char * checkpoint, const char * source,
                      const gnv_canary_options * given, gnv_canary_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({checkpoint, source, out}, "gnv_canary"));
        GNV_ASSIGN(canary::CanaryOptions options, take_canary_options(given));
        gnv_canary_options callbacks;
        gnv_canary_options_init(&callbacks);
        GNV_TRY(api::take_options(given, callbacks, "gnv_canary_options"));
        api::Progress progress(*engine->threads, callbacks.progress, callbacks.user);
        options.note = [engine](const std::string & note) { engine->log(GNV_LOG_INFO, "note: " + note); };
        if (progress)
            options.progress = [&progress](int64_t done, int64_t total) {
                gnv_progress now = {};
                now.positions = uint64_t(done);
                now.positions_total = uint64_t(total);
                now.share = double(done) / double(total);
                now.tokens = uint64_t(total); // the share is of these
                return progress.report(now, done == total);
            };
        GNV_ASSIGN(std::shared_ptr<const Folder> folder, open_folder(checkpoint));
        GNV_ASSIGN(canary::Canary result, canary::run_canary(std::move(folder), source, *engine->threads, options));
        *out = new gnv_canary_t{{engine}, std::move(result)};
        return {};
    });
}

void gnv_canary_destroy(gnv_canary_t * canary) { api::destroy(canary); }

gnv_status gnv_canary_get_info(const gnv_canary_t * handle, gnv_canary_info * out) {
    return api::call(api::engine_of(handle), [&]() -> Status {
        const canary::Canary & canary = handle->canary;
        gnv_canary_info info = {};
        info.prompts = canary.questions.prompts.size();
        for (const auto & [bit, line] : line_bits) info.lines |= canary.find(line) ? uint32_t(bit) : 0;
        info.suspicions = canary.suspicions();
        info.gates = canary.gates.size() - info.suspicions;
        info.failed_gates = canary.failed_gates();
        return api::give_struct(info, out, "gnv_canary_info");
    });
}

gnv_status gnv_canary_get_line(const gnv_canary_t * handle, gnv_line wanted, gnv_canary_line * out) {
    return api::call(api::engine_of(handle), [&]() -> Status {
        const canary::LineAnswers * found = nullptr;
        for (const auto & [bit, line] : line_bits)
            if (bit == wanted) found = handle->canary.find(line);
        if (!found) return fail(Code::not_found, "gnv_canary_get_line: line ", int(wanted), " was not computed");
        const double count = double(found->answers.size());
        gnv_canary_line line = {};
        line.mean_tokens = found->mean_tokens;
        line.growth = found->growth;
        line.capped = double(found->capped) / count;
        line.repeating = double(found->repeating) / count;
        line.equal = double(found->equal) / count;
        return api::give_struct(line, out, "gnv_canary_line");
    });
}

gnv_status gnv_canary_text(const gnv_canary_t * handle, gnv_text_format wanted, gnv_text_t ** out) {
    const auto write = [&](gnv_text_format format) {
        return format == GNV_TEXT_JSON       ? canary::canary_json(handle->canary)
               : format == GNV_TEXT_MARKDOWN ? canary::canary_markdown(handle->canary)
                                             : canary::canary_text(handle->canary);
    };
    return api::give_text(handle, wanted, out, "gnv_canary_text", write, GNV_TEXT_MARKDOWN);
}

gnv_status gnv_report_add_canary(gnv_report_t * report, const gnv_canary_t * handle) {
    return api::call(api::engine_of(report), [&]() -> Status {
        GNV_TRY(api::check_pointers({handle}, "gnv_report_add_canary"));
        GNV_TRY(api::check_engine(report->engine, handle, "gnv_report_add_canary: the canary"));
        const canary::Canary & canary = handle->canary;
        verify::attach_canary(report->report, canary::canary_text(canary), canary::canary_json(canary),
                              api::summary_of_gates(canary));
        return {};
    });
}
