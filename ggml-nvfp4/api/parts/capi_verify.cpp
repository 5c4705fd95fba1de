#include "api/arguments.h"
#include "api/devices.h"
#include "api/parts/report_handle.h"
#include "api/parts/stream_handle.h"
#include "api/progress.h"
#include "verify/device_recomputer.h"
#include "verify/self_test.h"

using namespace gnv;

static verify::ProgressCallback progress_callback(api::Progress & progress) {
    if (!progress) return {};
    return [&progress](const verify::MeasureProgress & state) {
        gnv_progress now = {};
        now.bytes = state.bytes, now.bytes_total = state.bytes_total;
        now.tensors = state.tensors, now.tensors_total = state.tensors_total;
        return progress.report(now, state.tensors == state.tensors_total);
    };
}

// The folders of a call; `source` may be null.
static Status open_folders(gnv_engine_t * engine, const char * checkpoint, const char * source,
                           const gnv_verify_options & options, std::shared_ptr<const Folder> & folder,
                           std::shared_ptr<const Folder> & source_folder) {
    if (options.stream && !source)
        return fail(Code::invalid_argument, "gnv_verify_options.stream is of a source, and the source is NULL");
    GNV_ASSIGN(folder, open_folder(checkpoint));
    if (source) {
        GNV_ASSIGN(source_folder, api::open_source(engine, source, options.stream, "gnv_verify_options.stream"));
    }
    return {};
}

gnv_status gnv_verify(gnv_engine_t * engine, const char * checkpoint, const char * source,
                      const gnv_verify_options * given, gnv_report_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        gnv_verify_options options;
        gnv_verify_options_init(&options);
        GNV_TRY(api::check_pointers({checkpoint, out}, "gnv_verify"));
        GNV_TRY(api::take_options(given, options, "gnv_verify_options"));
        std::shared_ptr<const Folder> folder, source_folder;
        GNV_TRY(open_folders(engine, checkpoint, source, options, folder, source_folder));
        api::Progress progress(*engine->threads, options.progress, options.user);
        verify::VerifyOptions run;
        run.report_file = api::text_or_empty(options.report_file);
        run.values = options.structure_only == 0;
        run.strict = options.strict != 0;
        run.hashes = options.hashes != 0;
        run.measure.checksums = options.no_checksums == 0;
        run.measure.progress = progress_callback(progress);
        std::unique_ptr<Backend> device;
        std::unique_ptr<DeviceRecomputer> recomputer;
        if (options.device != 0) { // the CPU compares without packing again
            GNV_ASSIGN(device, api::device_opener(options.device)(*engine->threads));
            GNV_ASSIGN(recomputer, DeviceRecomputer::create(*device, engine->threads->size()));
            run.measure.recomputer = recomputer.get();
        }
        GNV_ASSIGN(verify::VerifyReport report,
                   verify::verify(std::move(folder), std::move(source_folder), *engine->threads, run));
        *out = new gnv_report_t{{engine}, std::move(report)};
        return {};
    });
}

void gnv_report_destroy(gnv_report_t * report) { api::destroy(report); }

gnv_status gnv_report_get_info(const gnv_report_t * handle, gnv_report_info * out) {
    return api::call(api::engine_of(handle), [&]() -> Status {
        const verify::VerifyReport & report = handle->report;
        gnv_report_info info = {};
        info.errors = report.errors();
        info.warnings = report.warnings();
        info.notes = report.findings.count(verify::Severity::note);
        for (const verify::CheckOutcome & outcome : report.outcomes)
            (outcome.done ? info.checks_done : info.checks_skipped)++;
        const verify::GateSummary gates = report.all_gates();
        info.failed_gates = gates.failed;
        info.suspicions = gates.suspicious;
        return api::give_struct(info, out, "gnv_report_info");
    });
}

gnv_status gnv_report_text(const gnv_report_t * report, gnv_text_format wanted, gnv_text_t ** out) {
    return api::give_text(report, wanted, out, "gnv_report_text", [&](gnv_text_format format) -> Result<std::string> {
        if (format == GNV_TEXT_JSON) return verify::report_json(report->report);
        return verify::report_text(report->report, api::text_width(report));
    });
}

gnv_status gnv_report_write(const gnv_report_t * report, const char * path) {
    return api::call(api::engine_of(report), [&]() -> Status {
        GNV_TRY(api::check_pointers({path}, "gnv_report_write"));
        return verify::write_report(path, report->report);
    });
}

gnv_status gnv_verify_self_test(gnv_engine_t * engine, const char * checkpoint, const char * source,
                                const gnv_verify_options * given, gnv_text_format format, gnv_text_t ** report,
                                uint64_t * escaped) {
    if (report) *report = nullptr;
    return api::run(engine, [&]() -> Status {
        gnv_verify_options options;
        gnv_verify_options_init(&options);
        GNV_TRY(api::check_pointers({checkpoint}, "gnv_verify_self_test"));
        GNV_TRY(api::check_format(format, "gnv_verify_self_test"));
        GNV_TRY(api::take_options(given, options, "gnv_verify_options"));
        if (options.stream)
            return fail(
                Code::invalid_argument,
                "gnv_verify_options.stream: the self-test reads its source many times and needs it in a folder");
        api::Progress progress(*engine->threads, options.progress, options.user);
        std::shared_ptr<const Folder> folder, source_folder;
        GNV_TRY(open_folders(engine, checkpoint, source, options, folder, source_folder));
        GNV_ASSIGN(const verify::SelfTestReport result,
                   verify::self_test(std::move(folder), std::move(source_folder), *engine->threads,
                                     progress_callback(progress)));
        if (escaped) *escaped = result.count(verify::FaultOutcome::escaped);
        if (report)
            *report = api::make_text(format == GNV_TEXT_JSON ? verify::self_test_json(result)
                                                             : verify::self_test_text(result));
        return {};
    });
}
