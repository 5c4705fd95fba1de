#include "quantize/quantize.h"
#include "core/clock.h"

#include "codec/nvfp4_pack.h"
#include "core/memory.h"
#include "core/side_by_side.h"
#include "formats/json_writer.h"
#include "formats/new_file.h"
#include "model/fingerprint.h"
#include "quant/expert_coverage.h"
#include "quant/input_scales.h"
#include "quantize/estimate_run.h"
#include "quantize/packing/source_reads.h"
#include "quantize/quantization_report.h"
#include "quantize/quantize_run.h"
#include "quantize/run_state.h"
#include "report/report_file.h"
#include "report/trace_file.h"

#include <algorithm>
#include <map>
#include <optional>
#include <sys/resource.h>

namespace gnv {

static constexpr int most_hash_threads = 12;

static void add_process_usage(QuantizeReport & report) {
    rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return;
    const auto seconds = [](const timeval & time) { return double(time.tv_sec) + double(time.tv_usec) * 1e-6; };
    report.cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    report.peak_rss = peak_resident_memory();
}

// Of all files, by the system's count of blocks of 512 bytes.
static uint64_t bytes_from_disks() {
    rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? uint64_t(usage.ru_inblock) * 512 : 0;
}

// --- The whole run ------------------------------------------------------------------------------------------------------------

static std::string partial_folder(std::string destination) {
    while (destination.size() > 1 && destination.back() == '/') destination.pop_back();
    return destination + ".partial";
}

// What is in the unfinished folder of a stopped run takes no further space.
static uint64_t bytes_there(const Plan & plan, const std::string & destination) {
    std::vector<std::string> names = {state_file_name};
    for (const OutputShard & shard : plan.output.shards) names.push_back(shard.file_name);
    uint64_t bytes = 0;
    for (const std::string & name : names) {
        const Result<std::optional<EntryInfo>> found = find_entry(join_path(partial_folder(destination), name));
        if (found.ok() && found.value()) bytes += found.value()->size;
    }
    return bytes;
}

static Status check_free_space(const Plan & plan, const std::string & destination, uint64_t state_bytes, bool goes_on) {
    uint64_t needed = plan.disk_bytes() + state_bytes;
    if (goes_on) needed -= std::min(needed, bytes_there(plan, destination));
    const FetchedFiles * const fetched = plan.checkpoint.files().fetched();
    const uint64_t of_source = fetched ? fetched->smallest_bytes_at(parent_path(destination)) : 0;
    needed += of_source;
    GNV_ASSIGN(const uint64_t available, free_disk_bytes(parent_path(destination)));
    if (available >= needed) return {};
    const std::string of_state =
        state_bytes > 0 ? concat(", ", bytes_text(state_bytes), " of it to go on with if it is stopped (--no-resume),")
                        : "";
    const std::string of_stream =
        of_source > 0 ? concat(", ", bytes_text(of_source), " of it for a file of the streamed source,") : "";
    return fail(Code::no_space, "the result needs ", bytes_text(needed), " (", needed, " bytes)", of_state, of_stream,
                " at ", destination, ", where ", bytes_text(available), " are free");
}

static std::vector<uint32_t> all_units(const Plan & plan) {
    std::vector<uint32_t> units(plan.units.size());
    for (uint32_t u = 0; u < units.size(); u++) units[u] = u;
    return units;
}

// Shards are filled from their beginning on, so that their hashes follow.
static void sort_by_turn(const Plan & plan, std::vector<uint32_t> & units) {
    const auto turn = [&](uint32_t number) {
        const PlanUnit & unit = plan.units[number];
        return plan.output.tensors[unit.quantize ? plan.modules[unit.first].first_output : unit.first].turn;
    };
    std::stable_sort(units.begin(), units.end(), [&](uint32_t a, uint32_t b) { return turn(a) < turn(b); });
}

void describe_streaming(Plan & plan) {
    SourceReads reads(plan);
    reads.add_units(all_units(plan), nullptr);
    describe_streaming(plan, reads);
}

// Units of the layers that a run is for.
static std::vector<uint32_t> units_of_layers(const Plan & plan, int32_t first, int32_t count) {
    std::vector<int32_t> layer_of(plan.checkpoint.tensors().size(), -1); // of tensors of the text
    for (const ModelTensor & tensor : plan.layout.tensors)
        if (tensor.part == Part::text) layer_of[tensor.source] = tensor.layer;
    std::vector<uint32_t> units;
    for (const uint32_t u : all_units(plan)) {
        const PlanUnit & unit = plan.units[u];
        const uint32_t source =
            unit.quantize ? plan.linear(plan.modules[unit.first]).source : plan.tensors[unit.first].source;
        if (layer_of[source] >= first && layer_of[source] - first < count) units.push_back(u);
    }
    return units;
}

// Runs for some of the layers, and those that take what they left.
static Status check_layers(const Plan & plan, const QuantizeOptions & options) {
    if (options.layer_count == 0 && options.take.empty()) return {};
    const int32_t all = plan.layout.layer_count, first = options.first_layer, count = options.layer_count;
    if (first < 0 || count < 0 || first > all || count > all - first)
        return fail(Code::invalid_argument, "there are no layers ", first, " to ", int64_t(first) + count - 1,
                    ": the model has ", all, ", from 0 on");
    if (options.calibration)
        return Status(Code::invalid_argument,
                      "a forward pass needs all layers: divide a run without data, or with statistics (--stats)");
    if (!plan.quantizer().needs().empty())
        return fail(Code::unsupported, "method ", plan.quantizer().name(),
                    " is not divided by layers: its report counts the rows of all");
    if (options.destination.empty() || options.resume == Resume::off)
        return Status(Code::invalid_argument, "layers are kept in the unfinished folder of a destination, which a run "
                                              "that saves nothing (--no-resume) does not have");
    return {};
}

// A method that needs second moments gets them from data, or from a file that was measured for it.
static Status check_moments(const Plan & plan, const QuantizeOptions & options) {
    const std::string name = plan.quantizer().name();
    if (options.calibration) return {};
    if (!options.statistics)
        return fail(Code::invalid_argument, "method ", name,
                    " needs second moments of inputs: give calibration data (--calib, --tokens), or statistics that "
                    "were measured for it (--stats)");
    const MomentFiles & moments = options.statistics->moments;
    if (moments.empty())
        return fail(Code::invalid_argument, "these statistics have no second moments, which method ", name,
                    " needs: measure them with data and --method ", name, " --save-stats FILE");
    if (moments.method() != name)
        return fail(Code::invalid_argument, "these statistics have the second moments for method ", moments.method(),
                    ", not those for ", name, ": measure them with data and --method ", name, " --save-stats FILE");
    return {};
}

static Status check_expert_gate(const Plan & plan, const QuantizeOptions & options) {
    if (options.min_expert_tokens == 0) return {};
    if (plan.layout.expert_count == 0)
        return Status(Code::invalid_argument, "this model has no experts: leave --min-expert-tokens out");
    if (!options.calibration && !options.statistics)
        return Status(Code::invalid_argument, "tokens of experts are counted in calibration: give data (--calib, "
                                              "--tokens) or statistics (--stats), or leave --min-expert-tokens out");
    if (options.calibration && options.calibration->parts > 0)
        return Status(Code::invalid_argument, "a part of the data does not show what all of it shows: give "
                                              "--min-expert-tokens to the run with the statistics of all parts");
    return {};
}

// Checks the inputs that the scheme requires, before work starts.
static Status check_options(const Plan & plan, const QuantizeOptions & options) {
    const bool measures_only = options.destination.empty();
    if (measures_only && options.save_statistics.empty())
        return Status(Code::invalid_argument, "neither a destination nor a file for statistics is given");
    if (!measures_only && options.calibration && options.calibration->parts > 0)
        return Status(Code::invalid_argument,
                      "a part of the data gives statistics and no result: leave the destination "
                      "out, and quantize with the statistics of all parts (--stats)");
    if (measures_only && !plan.quantizer().needs().empty())
        return fail(Code::invalid_argument, "method ", plan.quantizer().name(),
                    " measures second moments, which are kept beside a result: give a destination");
    GNV_TRY(check_layers(plan, options));
    if (options.statistics) GNV_TRY(check_complete(*options.statistics));
    if (!options.trace_file.empty()) GNV_TRY(check_new_file(options.trace_file));
    if (!options.report_file.empty()) GNV_TRY(check_report_file(options.report_file));
    if (!options.save_statistics.empty()) {
        const std::string & path = options.save_statistics;
        if (!options.calibration)
            return fail(Code::invalid_argument, "nothing is measured that could be saved to ", path,
                        ": give calibration data (--calib, --tokens), or leave --save-stats out");
        // A run that goes on may find the file of the stopped one.
        if (measures_only || options.resume == Resume::off || !path_exists(partial_folder(options.destination)))
            GNV_TRY(check_new_file(path));
        if (!plan.quantizer().needs().empty()) GNV_TRY(check_new_file(moment_file_name(path)));
    }
    if (options.calibration && options.statistics)
        return Status(Code::invalid_argument, "calibration data and statistics cannot be used together");
    GNV_TRY(check_expert_gate(plan, options));
    if (!plan.quantizer().needs().empty()) {
        GNV_TRY(check_moments(plan, options));
        if (!plan.takes_input_scales()) return {};
    }
    if (!plan.takes_input_scales()) return options.calibration || options.statistics ? no_input_scales() : Status();
    if (!options.calibration && !options.statistics)
        return Status(Code::invalid_argument, "scheme nvfp4 (W4A4) needs input scales: give calibration data (--calib, "
                                              "--tokens) or statistics (--stats), or use scheme nvfp4a16");
    return check_calibratable(plan);
}

static Status check_fingerprint(const Plan & plan, const FolderFiles & shards, const Statistics & statistics) {
    GNV_ASSIGN(const std::string fingerprint, model_fingerprint(plan.checkpoint, shards));
    if (fingerprint == statistics.model_fingerprint) return {};
    return fail(Code::model, "these statistics are of another model than ", plan.checkpoint.folder(),
                ": measure this one (--calib)");
}

static Status write_statistics(const std::string & path, const std::string & text) {
    if (path_exists(path)) { // of a run that was stopped after it
        const Result<std::string> found = read_file(path, text.size());
        if (found.ok() && found.value() == text) return {};
    }
    return write_new_file(path, text);
}

// The file beside it becomes visible first: without it the statistics file would not be complete.
static Status save_statistics(const std::string & path, const Statistics & statistics, const Plan & plan,
                              MomentFileWriter * moments) {
    if (!moments) {
        GNV_ASSIGN(const std::string text, statistics_json(statistics));
        return write_statistics(path, text);
    }
    const WrittenMoments written = {plan.quantizer().name(), moments->totals()};
    GNV_ASSIGN(const std::string text, statistics_json(statistics, &written));
    GNV_TRY(moments->finish());
    return write_statistics(path, text);
}

// Adds the totals of a window that are too large for the statistics file to the one beside it.
static Status save_window(MomentFileWriter & writer, const StatisticWindow & window) {
    Backend & device = window.backend();
    std::vector<uint64_t> copy;
    for (const StatisticWindow::Total & total : window.totals()) {
        if (!writer.holds(total.key)) continue;
        const int64_t groups = total.tensor.shape[0];
        const uint64_t bytes = tensor_bytes(total.tensor.dtype, total.tensor.shape) / uint64_t(groups);
        copy.resize(size_t((bytes + 7) / 8));
        for (int64_t g = 0; g < groups; g++) {
            device.download(copy.data(), total.tensor.as<const uint8_t>() + uint64_t(g) * bytes, bytes);
            GNV_TRY(device.synchronize());
            GNV_TRY(writer.append(total.key, 1, copy.data()));
        }
    }
    return {};
}

static Destination find_destination(const Plan & plan, const QuantizeOptions & options) {
    Destination to = plan.destination(options.destination, options.overwrite);
    to.reads.insert(to.reads.end(), options.reads.begin(), options.reads.end());
    if (options.calibration)
        to.reads.insert(to.reads.end(), options.calibration->files.begin(), options.calibration->files.end());
    // Second moments that a file keeps are those of all layers: a run that goes on would not measure the first again.
    const bool keeps_moments = !options.save_statistics.empty() && !plan.quantizer().needs().empty();
    to.resumes = options.resume != Resume::off && !options.destination.empty() && !keeps_moments;
    for (const std::string & path :
         {options.save_statistics, options.trace_file, options.report_file, options.scratch_folder})
        if (!path.empty()) to.writes.push_back(path);
    if (!options.save_statistics.empty()) to.writes.push_back(moment_file_name(options.save_statistics));
    return to;
}

namespace {

// One run, from its checks to the final rename.
class Quantization {
  public:
    Quantization(const Plan & plan, ThreadPool & threads, const QuantizeOptions & options)
        : plan_(plan), threads_(threads), options_(options), destination_(find_destination(plan, options)),
          trace_(options.trace_file.empty() ? 0 : trace_file_events) {}
    Result<QuantizeReport> run();

  private:
    Status prepare();
    Status measure_disks();
    Status estimate();
    Result<QuantizeReport> write(CheckpointWriter & writer, Clock::time_point start);
    Result<QuantizeReport> measure(Clock::time_point start);
    Status take_layers(QuantizeRun & run, CheckpointWriter & writer);
    Status give_name(CheckpointWriter & writer);
    void tell_resumed(const QuantizeRun & run, int32_t layers);
    Status explain(Status failure) const;
    void announce() const;
    Status judge_experts();
    Status calibrate(QuantizeRun & run, CheckpointWriter & writer);
    void expect(const SourceReads & reads) const;
    Result<int> workers_with_moments() const;
    Status publish(QuantizeRun & run, CheckpointWriter & writer);
    void add_scales();
    void add_phases();

    const Plan & plan_;
    ThreadPool & threads_;
    const QuantizeOptions & options_;
    Destination destination_;
    Trace trace_;
    FolderFiles shards_;
    std::unique_ptr<Calibration> calibration_;
    Statistics statistics_; // given or measured, if the scheme needs them
    std::vector<InputScale> scales_;
    DiskLimits disk_limits_;
    uint64_t fetched_before_ = 0; // bytes that this process took from disks before the work
    QuantizeReport report_;
};

Status Quantization::prepare() {
    GNV_TRY(check_options(plan_, options_));
    bool goes_on = false;
    if (!options_.destination.empty()) {
        GNV_ASSIGN(goes_on, check_destination(destination_));
        GNV_TRY(check_free_space(plan_, options_.destination, 0, goes_on));
    }
    GNV_ASSIGN(shards_, plan_.checkpoint.open_shards());
    if (options_.statistics) {
        GNV_TRY(check_fingerprint(plan_, shards_, *options_.statistics));
        statistics_ = *options_.statistics;
        GNV_TRY(judge_experts());
        GNV_ASSIGN(scales_, input_scales(plan_, statistics_.totals));
    }
    if (options_.calibration) {
        GNV_ASSIGN(calibration_, Calibration::create(plan_, shards_, threads_, *options_.calibration, options_));
    }
    if (destination_.resumes) {
        if (calibration_) report_.state_bytes = RunState::disk_bytes(plan_, calibration_->pass());
        GNV_TRY(check_free_space(plan_, options_.destination, report_.state_bytes, goes_on));
        const Device * const device = calibration_ ? &calibration_->device() : nullptr;
        GNV_ASSIGN(destination_.identity, run_identity(plan_, shards_, options_, device));
    }
    if (options_.estimate) GNV_TRY(estimate());
    if (options_.measure_limits) GNV_TRY(measure_disks());
    fetched_before_ = bytes_from_disks();
    announce();
    return calibration_ ? calibration_->start_measuring(trace_) : Status();
}

Status Quantization::measure_disks() {
    std::vector<std::string> paths;
    if (!plan_.checkpoint.files().fetched())
        for (const auto & shard : shards_) paths.push_back(shard->path());
    GNV_TRY(measure_reading(paths, threads_, disk_limits_));
    if (options_.destination.empty()) return {};
    return measure_writing(parent_path(options_.destination), threads_, disk_limits_);
}

Status Quantization::estimate() {
    const Clock::time_point start = Clock::now();
    QuantizeOptions options = options_;
    const std::string & made = options_.destination.empty() ? options_.save_statistics : options_.destination;
    options.estimate->folder = parent_path(made);
    GNV_ASSIGN(report_.estimate, estimate_run(plan_, shards_, threads_, calibration_.get(), options));
    report_.estimate_wall = seconds_since(start);
    return {};
}

// Tells a streamed source what is read from now on.
void Quantization::expect(const SourceReads & reads) const {
    if (const FetchedFiles * const fetched = plan_.checkpoint.files().fetched()) fetched->expect(reads.list());
}

// The first lines of a run: devices, data, tokens, method, destination.
void Quantization::announce() const {
    if (!options_.announce) return;
    const auto lines = [&](const std::string & line) { options_.announce(line); };
    const std::string threads = concat(threads_.size(), threads_.size() == 1 ? " thread" : " threads");
    if (calibration_) {
        const CalibrationData & data = *options_.calibration;
        const size_t devices = calibration_->device_count();
        lines(concat("calibrating with ", count_text(data.sequences.size()), " sequences, ", count_text(data.tokens),
                     " tokens, on ", devices > 1 ? concat(devices, " x ") : "", calibration_->device().name, ", ",
                     threads, ", ", precision_name(options_.precision), ", experts see ",
                     expert_tokens_name(options_.expert_tokens), " tokens"));
    }
    if (options_.destination.empty()) return lines(concat("writing statistics to ", options_.save_statistics));
    const bool on_host = !calibration_ || !calibration_->uses_device();
    lines(concat("quantizing ", count_text(uint64_t(plan_.selection.count)), " modules to ", plan_.main_format().name,
                 " by ", plan_.quantizer().name(),
                 on_host ? concat(" on CPU (", instruction_set_name(threads_.instructions()), "), ", threads) : "",
                 ": ", bytes_text(plan_.source_bytes_read()), " to read, ", bytes_text(plan_.disk_bytes()),
                 " to write to ", options_.destination));
}

// Warns of experts that the data do not reach, and applies the gate.
Status Quantization::judge_experts() {
    const ExpertCoverage coverage =
        expert_coverage(statistics_.totals, std::max<uint64_t>(1, options_.min_expert_tokens));
    report_.sequences = statistics_.sequences, report_.tokens = statistics_.tokens;
    report_.experts = coverage.experts, report_.silent_experts = coverage.silent;
    if (options_.min_expert_tokens > 0) {
        Status status = check_coverage(coverage, options_.min_expert_tokens);
        const std::string & saved = options_.save_statistics;
        if (!status.ok() && !saved.empty())
            return fail(status.code(), status.message(), "; what was measured is in ", saved,
                        ", which --stats merges with that of more data");
        GNV_TRY(std::move(status));
    }
    const std::string doubt = coverage_warning(coverage, statistics_.expert_tokens);
    if (doubt.empty()) return {};
    report_.warnings.push_back(doubt);
    if (options_.warn) options_.warn(doubt);
    return {};
}

Status Quantization::calibrate(QuantizeRun & run, CheckpointWriter & writer) {
    std::optional<RunState> state;
    if (destination_.resumes) {
        GNV_TRY(state.emplace(plan_, *calibration_, writer, options_.resume).open());
    }
    const int32_t first_layer = state ? state->layers() : 0;
    run.leave_out_finished(first_layer);
    tell_resumed(run, first_layer);
    const bool is_fetched = plan_.checkpoint.files().fetched() != nullptr;
    if (is_fetched) {
        GNV_ASSIGN(const SourceReads reads,
                   calibration_->reads(first_layer, true, [&](uint32_t unit) { return run.is_left_out(unit); }));
        expect(reads);
    }
    const auto start = Clock::now();
    const double streamed = report_.stream_wall;
    GNV_ASSIGN(GroupJobs jobs, GroupJobs::create(calibration_->uses_device() ? threads_.size() : 0));
    // Other files than the groups' would take their place on the disk.
    const bool beside = calibration_->uses_device() && !is_fetched;
    if (beside) GNV_TRY(run.begin_rest(calibration_->take_units_of_no_group()));
    run.use_statistics(calibration_->unit_statistics());
    PassHooks hooks;
    const bool searches = !calibration_->requests().empty();
    std::unique_ptr<MomentFileWriter> moments;
    if (searches && !options_.save_statistics.empty()) {
        const std::string path = moment_file_name(options_.save_statistics);
        GNV_ASSIGN(moments, MomentFileWriter::create(path, calibration_->requested()));
    }
    if (searches)
        hooks.on_statistics = [&](size_t, const PassGroup &, const StatisticWindow & totals) -> Status {
            // Every lane has the totals of all.
            if (moments && &totals.backend() == &calibration_->backend()) GNV_TRY(save_window(*moments, totals));
            return calibration_->take_totals(totals);
        };
    hooks.on_group = [&](const PassGroup & group, const WeightGroup & host, const std::vector<LaneWeights> & devices) {
        const std::vector<uint32_t> units = calibration_->take_units(group);
        if (devices.empty()) return run.stream(units, &host, threads_, report_);
        return run.begin_group(units, host, calibration_->packing_lanes(devices), jobs, report_);
    };
    hooks.before_reuse = [&] { return run.leave_host_memory(jobs, report_); };
    hooks.may_reuse = [&] { return jobs.host->is_idle(); };
    hooks.first_layer = first_layer;
    hooks.restore = [&]() -> Status {
        LayerChoices choices;
        GNV_TRY(state->restore(choices));
        run.add_choices(choices);
        return {};
    };
    // No later run measures these layers again: what a device packed by its moments must be on disk before the state is.
    const auto finish = [&]() -> Result<LayerChoices> {
        if (searches) GNV_TRY(run.finish_groups(jobs, report_));
        return run.choices();
    };
    if (state) hooks.on_layer = [&](int32_t layers) { return state->save_if_due(layers, finish, trace_); };
    Status stopped;
    Status encoded = calibration_->encode_pictures([&] {
        stopped = run.advance(0, 0);
        return stopped.ok();
    });
    if (!stopped.ok()) return stopped;
    GNV_TRY(std::move(encoded));
    hooks.progress = [&](const PassProgress & progress) {
        stopped = jobs.status();
        if (stopped.ok()) stopped = run.rest_status();
        if (stopped.ok()) stopped = run.advance_positions(progress);
        return stopped.ok();
    };
    Status status = calibration_->pass().run(hooks);
    if (!stopped.ok()) return stopped;
    if (!status.ok()) return status;
    GNV_TRY(run.finish_groups(jobs, report_));
    if (beside) GNV_TRY(run.finish_rest(threads_, report_));
    const PassPlan & planned = calibration_->pass().plan(); // smaller than the first plan if other programs took memory
    report_.planned_bytes = planned.host.used();
    report_.planned_device_bytes = planned.device.used();
    if (state) report_.state_wall = state->seconds();
    report_.pass_wall = seconds_since(start);
    report_.calibrate_wall = report_.pass_wall - (report_.stream_wall - streamed) - report_.state_wall;
    GNV_ASSIGN(report_.device_bytes_in_use, calibration_->finish());
    GNV_ASSIGN(statistics_, calibration_->statistics());
    if (!options_.save_statistics.empty()) {
        GNV_TRY(plan_.checkpoint.check_unchanged(shards_)); // else they would be of no model
        GNV_TRY(save_statistics(options_.save_statistics, statistics_, plan_, moments.get()));
    }
    GNV_TRY(judge_experts());
    GNV_ASSIGN(scales_, input_scales(plan_, statistics_.totals));
    return {};
}

Status Quantization::publish(QuantizeRun & run, CheckpointWriter & writer) {
    for (const PlanFile & file : plan_.files)
        GNV_TRY(writer.copy_file(file.name, join_path(plan_.checkpoint.folder(), file.name), file.stamp));
    const bool calibrated = plan_.takes_input_scales() || calibration_ || options_.statistics;
    GNV_TRY(writer.add_file(recipe_file_name, recipe_yaml(plan_.recipe)));
    GNV_ASSIGN(const std::string report,
               quantization_report(plan_, calibrated ? &statistics_ : nullptr, scales_, run.choices()));
    report_.result_json = report;
    GNV_TRY(writer.add_file(quantization_report_name, report));
    GNV_TRY(run.check_source_unchanged());
    const auto goes_on = [&] { return run.advance(0, 0); };
    GNV_TRY(goes_on()); // a request to stop still counts until the result gets its name
    const auto waits = Clock::now();
    GNV_TRY(writer.finish_hashes(goes_on));
    report_.hash_wall = seconds_since(waits);
    // No thread adds to it any more.
    if (!options_.trace_file.empty()) GNV_TRY(write_trace(options_.trace_file, trace_));
    if (!options_.card) return writer.publish(plan_.config_text);
    return writer.publish(plan_.config_text, [this](CheckpointWriter & complete) -> Status {
        GNV_ASSIGN(const std::string card, options_.card(complete.partial_folder(), complete.hashes()));
        return complete.add_file("README.md", card);
    });
}

void Quantization::tell_resumed(const QuantizeRun & run, int32_t layers) {
    report_.resumed_units = run.units_left_out();
    report_.resumed_layers = layers;
    if (!report_.resumed || !options_.note) return;
    std::string text = concat("goes on with ", partial_folder(options_.destination), ": ", report_.resumed_units,
                              " of ", plan_.units.size(), " units are on disk");
    if (calibration_) text += concat(", ", layers, " of ", plan_.layout.layer_count, " layers are calibrated");
    options_.note(text);
}

// Tells how to go on.
Status Quantization::explain(Status failure) const {
    const std::string partial = partial_folder(options_.destination);
    const bool is_cause_elsewhere = failure.code() == Code::cancelled || failure.code() == Code::io ||
                                    failure.code() == Code::no_space || failure.code() == Code::out_of_memory ||
                                    failure.code() == Code::device;
    if (failure.code() == Code::bad_value && report_.experts > 0 && path_exists(join_path(partial, journal_name)))
        return Status(failure.code(), concat(failure.message(), "; what was written stays in ", partial,
                                             " (--overwrite --no-resume removes it)"));
    const bool is_source_changed = failure.code() == Code::changed;
    if (!(is_cause_elsewhere || is_source_changed) || !path_exists(join_path(partial, journal_name))) return failure;
    std::string text = concat(failure.message(), "; what was written stays in ", partial);
    if (!destination_.resumes)
        text += " (--overwrite --no-resume removes it)";
    else if (is_source_changed)
        text += ": the same command goes on from there if the source's files are again as they were, with their times; "
                "else begin anew (--overwrite --no-resume)";
    else
        text += ", and the same command goes on from there";
    return Status(failure.code(), text);
}

Result<QuantizeReport> Quantization::run() {
    const auto start = Clock::now();
    report_.destination = options_.destination;
    GNV_TRY(prepare());
    if (options_.destination.empty()) return measure(start);
    const int hash_threads =
        options_.card && options_.layer_count == 0 ? std::min(threads_.size(), most_hash_threads) : 0;
    const CheckpointWriter::Options writer_options{destination_, plan_.plan_fingerprint, plan_.source_fingerprint,
                                                   hash_threads, &trace_};
    std::unique_ptr<CheckpointWriter> writer;
    // Devices load their libraries while the files are made: beside the threads of a run that takes several times as long.
    GNV_TRY(run_side_by_side(calibration_ ? 2 : 1, [&](size_t i) -> Status {
        if (i == 1) {
            calibration_->load_products();
            return {};
        }
        GNV_ASSIGN(writer, CheckpointWriter::create(plan_.output, writer_options));
        return {};
    }));
    for (const std::string & note : writer->notes())
        if (options_.note) options_.note(note);
    report_.resumed = writer->goes_on();
    Result<QuantizeReport> report = write(*writer, start);
    return report.ok() ? std::move(report) : explain(report.take_status());
}

Result<QuantizeReport> Quantization::measure(Clock::time_point start) {
    report_.codec = instruction_set_name(threads_.instructions());
    report_.prepare_wall = seconds_since(start);
    const auto begin = Clock::now();
    GNV_ASSIGN(const SourceReads reads, calibration_->reads(0, false));
    expect(reads);
    PassHooks hooks;
    hooks.progress = [&](const PassProgress & now) {
        QuantizeProgress progress;
        progress.positions = now.positions, progress.positions_total = now.positions_total;
        progress.share = now.share;
        progress.layer = now.layer, progress.layers = now.layers, progress.tokens = now.tokens;
        return !options_.progress || options_.progress(progress);
    };
    GNV_TRY(calibration_->pass().run(hooks));
    report_.planned_bytes = calibration_->pass().plan().host.used();
    report_.planned_device_bytes = calibration_->pass().plan().device.used();
    report_.pass_wall = report_.calibrate_wall = seconds_since(begin);
    GNV_ASSIGN(report_.device_bytes_in_use, calibration_->finish());
    GNV_ASSIGN(statistics_, calibration_->statistics());
    GNV_TRY(plan_.checkpoint.check_unchanged(shards_));
    GNV_TRY(save_statistics(options_.save_statistics, statistics_, plan_, nullptr));
    GNV_TRY(judge_experts());
    if (!options_.trace_file.empty()) GNV_TRY(write_trace(options_.trace_file, trace_));
    report_.total_wall = seconds_since(start);
    add_process_usage(report_);
    add_phases();
    return report_;
}

// Each machine may have a copy of the source with other times: the hash of its small tensors is in the identity as well.
Status Quantization::take_layers(QuantizeRun & run, CheckpointWriter & writer) {
    RunIdentity identity = destination_.identity;
    std::erase_if(identity, [](const auto & value) { return value.first == "source"; });
    for (const std::string & folder : options_.take)
        GNV_TRY(writer.take(folder, identity, [&] { return run.advance(0, 0); }));
    return {};
}

// The stopped run had written everything.
Status Quantization::give_name(CheckpointWriter & writer) {
    if (options_.note)
        options_.note(concat(partial_folder(options_.destination), " is complete and only gets its name"));
    const std::string & statistics = options_.save_statistics;
    if (options_.note && !statistics.empty() && !path_exists(statistics))
        options_.note(
            concat(statistics, " is not written: the stopped run had no such option, and its statistics are gone"));
    return writer.publish_complete();
}

Result<QuantizeReport> Quantization::write(CheckpointWriter & writer, Clock::time_point start) {
    if (writer.is_complete()) {
        GNV_TRY(give_name(writer));
        report_.total_wall = seconds_since(start);
        add_process_usage(report_);
        return report_;
    }
    QuantizeRun run(plan_, options_, shards_, writer, threads_.instructions(), &trace_);
    report_.codec = instruction_set_name(threads_.instructions());
    report_.prepare_wall = seconds_since(start);
    if (calibration_) {
        GNV_TRY(calibrate(run, writer));
    } else {
        GNV_TRY(take_layers(run, writer));
        run.leave_out_finished(0);
        tell_resumed(run, 0);
    }
    if (options_.statistics && !plan_.quantizer().needs().empty()) {
        GNV_ASSIGN(const int workers, workers_with_moments());
        run.use_moments(statistics_.moments, workers);
    }
    const bool some_layers = options_.layer_count > 0;
    std::vector<uint32_t> units = calibration_  ? calibration_->remaining_units()
                                  : some_layers ? units_of_layers(plan_, options_.first_layer, options_.layer_count)
                                                : all_units(plan_);
    if (!plan_.checkpoint.files().fetched()) sort_by_turn(plan_, units);
    if (!calibration_) {
        SourceReads reads(plan_);
        std::vector<uint32_t> missing = units;
        std::erase_if(missing, [&](uint32_t unit) { return run.is_left_out(unit); });
        reads.add_units(missing, nullptr);
        expect(reads);
    }
    GNV_TRY(run.stream(units, nullptr, threads_, report_));
    if (some_layers) {
        GNV_TRY(writer.settle());
        report_.total_wall = seconds_since(start);
        add_process_usage(report_);
        add_phases();
        return report_;
    }
    if (!scales_.empty()) GNV_TRY(run.write_input_scales(scales_));
    for (const InputScale & scale : scales_) report_.substituted_scales += scale.substituted;

    const auto streamed = Clock::now();
    GNV_TRY(writer.finish_tensors());
    report_.sync_wall = seconds_since(streamed);
    const auto synced = Clock::now();
    GNV_TRY(publish(run, writer));
    report_.remove_wall = writer.removal_seconds();
    report_.finish_wall = seconds_since(synced) - report_.hash_wall - report_.remove_wall;
    report_.total_wall = seconds_since(start);
    add_process_usage(report_);
    add_phases();
    return report_;
}

// How many threads find memory for the totals and factors of a unit.
Result<int> Quantization::workers_with_moments() const {
    uint64_t each = 0;
    for (const PlanModule & module : plan_.modules)
        each = std::max(each, plan_.quantizer(plan_.linear(module)).work_bytes(plan_.linear(module).columns));
    each += 4 * statistics_.moments.largest_group_bytes(); // own and the layer's, fitted and held back
    Budget host = plan_.memory_left();
    const auto threads =
        int(std::min<uint64_t>(host.left() / std::max<uint64_t>(each, 1), uint64_t(plan_.memory.workers)));
    if (threads > 0) return threads;
    return Status(Code::out_of_memory, host.refusal("for second moments from a file", host.whole(each)));
}

void Quantization::add_scales() {
    std::map<std::pair<int32_t, Role>, std::vector<float>> places;
    for (size_t m = 0; m < scales_.size(); m++) {
        const LinearModule & linear = plan_.linear(plan_.modules[m]);
        if (scales_[m].scale > 0) places[{linear.layer, linear.role}].push_back(scales_[m].scale);
    }
    for (auto & [place, list] : places) {
        std::sort(list.begin(), list.end());
        report_.scales.push_back(
            {place.first, place.second, list.size(), list.front(), list[list.size() / 2], list.back()});
    }
}

void Quantization::add_phases() {
    add_scales();
    PhaseInput input;
    input.totals = trace_.totals();
    if (calibration_) {
        report_.device = calibration_->device().name;
        report_.devices = input.devices = calibration_->device_count();
        input.limits = report_.limits = calibration_->limits();
        input.slots_in_use = calibration_->slots_in_use();
        input.pass_seconds = report_.pass_wall;
        input.screening = calibration_->screening();
    }
    report_.phases = make_phases(input);
    DiskInput disks;
    disks.totals = std::move(input.totals);
    disks.limits = disk_limits_;
    disks.seconds = report_.calibrate_wall + report_.stream_wall + report_.sync_wall + report_.state_wall;
    disks.sync_seconds = report_.sync_wall;
    disks.fetched_bytes = double(bytes_from_disks() - fetched_before_);
    disks.workers = plan_.memory.workers;
    disks.in_background = calibration_ && calibration_->uses_device();
    report_.disks = make_disk_report(disks);
    // A part of a run says nothing about the whole.
    if (report_.estimate && !report_.resumed && options_.layer_count == 0)
        report_.estimate->actual = report_.total_wall - report_.estimate_wall;
}

} // namespace

Result<QuantizeReport> quantize(const Plan & plan, ThreadPool & threads, const QuantizeOptions & options) {
    Result<QuantizeReport> result = Quantization(plan, threads, options).run();
    const FetchedFiles * const fetched = plan.checkpoint.files().fetched();
    if (fetched) fetched->expect({}); // also after a failure: the disk is free again
    if (!result.ok()) return result.take_status();
    QuantizeReport report = result.take();
    if (fetched) report.fetched = fetched->use();
    if (options.report_file.empty()) return report;
    Status written = [&]() -> Status {
        GNV_ASSIGN(const std::string json, quantize_report_json(plan, report));
        return write_report_file(options.report_file, json);
    }();
    if (!written.ok() && !options.destination.empty())
        return fail(written.code(), written.message(), "; ", options.destination, " itself is complete");
    if (!written.ok()) return written;
    return report;
}

} // namespace gnv
