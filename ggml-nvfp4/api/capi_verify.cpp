#include "api/report_handle.h"
#include "verify/device_recomputer.h"
#include "verify/self_test.h"

using namespace gnv;

static verify::VerifyOptions take_verify_options(const gnv_verify_options & given) {
    verify::VerifyOptions options;
    options.values = given.structure_only == 0;
    options.measure.checksums = given.no_checksums == 0;
    if (given.progress) {
        options.measure.progress = [given](const verify::MeasureProgress & state) {
            const gnv_progress progress = {sizeof(gnv_progress),
                                           state.bytes,
                                           state.bytes_total,
                                           state.tensors,
                                           state.tensors_total,
                                           state.seconds,
                                           0,
                                           0};
            return given.progress(given.user, &progress) == 0;
        };
    }
    return options;
}

// The folders of a call; `source` stays null when there is none.
static Status open_folders(const char * checkpoint, const char * source, std::shared_ptr<const Folder> & folder,
                           std::shared_ptr<const Folder> & source_folder) {
    GNV_ASSIGN(folder, open_folder(checkpoint));
    if (source) {
        GNV_ASSIGN(source_folder, open_folder(source));
    }
    return {};
}

gnv_status gnv_verify(gnv_engine_t * engine, const char * checkpoint, const char * source,
                      const gnv_verify_options * given, gnv_report_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        gnv_verify_options options;
        gnv_verify_options_init(&options);
        if (!checkpoint || !out) return Status(Code::invalid_argument, "gnv_verify: an argument is NULL");
        if (!api::take_options(given, options))
            return Status(Code::invalid_argument,
                          "gnv_verify_options.struct_size is not set; use gnv_verify_options_init");
        std::shared_ptr<const Folder> folder, source_folder;
        GNV_TRY(open_folders(checkpoint, source, folder, source_folder));
        verify::VerifyOptions run = take_verify_options(options);
        std::unique_ptr<Backend> device;
        std::unique_ptr<DeviceRecomputer> recomputer;
        if (options.device != 0) { // the CPU compares without packing again
            GNV_ASSIGN(device, open_device(options.device, *engine->threads));
            GNV_ASSIGN(recomputer, DeviceRecomputer::create(*device, engine->threads->size()));
            run.measure.recomputer = recomputer.get();
        }
        GNV_ASSIGN(verify::VerifyReport report,
                   verify::verify(std::move(folder), std::move(source_folder), *engine->threads, run));
        *out = new gnv_report_t{engine, std::move(report)};
        return {};
    });
}

void gnv_report_destroy(gnv_report_t * report) { delete report; }

gnv_status gnv_report_get_info(const gnv_report_t * handle, gnv_report_info * out) {
    return api::call(handle ? handle->engine : nullptr, [&]() -> Status {
        const verify::VerifyReport & report = handle->report;
        gnv_report_info info = {};
        info.errors = report.errors();
        info.warnings = report.warnings();
        info.notes = report.findings.count(verify::Severity::note);
        for (const verify::CheckOutcome & outcome : report.outcomes)
            (outcome.done ? info.checks_done : info.checks_skipped)++;
        info.failed_gates = handle->failed_gates;
        info.suspicions = handle->suspicions;
        if (!api::give_struct(info, out))
            return Status(Code::invalid_argument, "gnv_report_info.struct_size is not set");
        return {};
    });
}

gnv_status gnv_report_text(const gnv_report_t * report, gnv_text_format format, gnv_text_t ** out) {
    if (out) *out = nullptr;
    return api::call(report ? report->engine : nullptr, [&]() -> Status {
        if (!out) return Status(Code::invalid_argument, "gnv_report_text: out is NULL");
        *out = api::make_text(format == GNV_TEXT_JSON ? verify::report_json(report->report)
                                                      : verify::report_text(report->report));
        return {};
    });
}

gnv_status gnv_verify_self_test(gnv_engine_t * engine, const char * checkpoint, const char * source,
                                const gnv_verify_options * given, gnv_text_format format, gnv_text_t ** report,
                                uint64_t * escaped) {
    if (report) *report = nullptr;
    return api::call(engine, [&]() -> Status {
        gnv_verify_options options;
        gnv_verify_options_init(&options);
        if (!checkpoint) return Status(Code::invalid_argument, "gnv_verify_self_test: checkpoint is NULL");
        if (!api::take_options(given, options))
            return Status(Code::invalid_argument,
                          "gnv_verify_options.struct_size is not set; use gnv_verify_options_init");
        std::shared_ptr<const Folder> folder, source_folder;
        GNV_TRY(open_folders(checkpoint, source, folder, source_folder));
        GNV_ASSIGN(const verify::SelfTestReport result,
                   verify::self_test(std::move(folder), std::move(source_folder), *engine->threads,
                                     take_verify_options(options).measure.progress));
        if (escaped) *escaped = result.count(verify::FaultOutcome::escaped);
        if (report)
            *report = api::make_text(format == GNV_TEXT_JSON ? verify::self_test_json(result)
                                                             : verify::self_test_text(result));
        return {};
    });
}
