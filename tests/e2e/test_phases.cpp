// What a run says about its time: the table, the document, the timeline.
#include "e2e/calibrated_fixture.h"
#include "formats/json.h"
#include "report/disks.h"
#include "report/phases.h"
#include "report/trace_file.h"
#include "scratch.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

const Phase & find(const std::vector<Phase> & phases, const std::string & lane, const std::string & name) {
    for (const Phase & phase : phases)
        if (phase.lane == lane && phase.name == name) return phase;
    FAIL(lane, " ", name);
    return phases.front();
}

PhaseInput example() {
    PhaseInput input;
    input.totals = {{"worker", "write", 4, 2, {0, 8e9}},
                    {"compute", "silu_mul", 2, 1, {1, 1.5e12}},
                    {"compute", "linear", 3, 2, {1.2e15, 5e9}},
                    {"compute", "grouped_linear", 1, 4, {1.6e16, 1}},
                    {"download", "download", 9, 0.5, {0, 2e10}}};
    input.limits.copy = 3e12;
    input.limits.download = 5e10;
    input.limits.product = 8e14;
    input.slots_in_use = 1.0 / 16;
    input.pass_seconds = 10;
    return input;
}

} // namespace

TEST_CASE("rates are what was done a second, shares only where there is a limit") {
    const std::vector<Phase> phases = make_phases(example());
    const Phase & linear = find(phases, "compute", "linear");
    CHECK(linear.rate_per_second() == 6e14);
    CHECK(linear.share() == doctest::Approx(0.75));
    CHECK(find(phases, "compute", "silu_mul").share() == doctest::Approx(0.5));
    CHECK(find(phases, "compute", "grouped_linear").rate_per_second() == doctest::Approx(2.5e14));
    CHECK(find(phases, "download", "download").share() == doctest::Approx(0.8));
    CHECK(find(phases, "worker", "write").limit == 0);
    CHECK(find(phases, "worker", "write").rate_per_second() == 4e9);
    CHECK(find(phases, "compute", "idle").seconds == 3);
    CHECK(phases.front().name == "grouped_linear"); // the longest of the compute queue
    const std::string text = phases_text(phases, example().limits);
    for (const char * part : {"600 TFLOP/s", "75 %", "1500 GB/s", "50 %", "idle", "sustained 800 TFLOP/s"})
        CHECK_MESSAGE(text.find(part) != std::string::npos, text);
}

TEST_CASE("times of several devices are sums, and so is what they are idle") {
    PhaseInput input = example();
    input.totals.push_back({"upload", "copy from another device", 2, 0.5, {0, 1e11}});
    input.devices = 2;
    const std::vector<Phase> phases = make_phases(input);
    CHECK(find(phases, "compute", "idle").seconds == 13);
    CHECK(find(phases, "upload", "copy from another device").rate_per_second() == 2e11);
    CHECK(find(phases, "upload", "copy from another device").limit == 0);
    const std::string text = phases_text(phases, input.limits, 2);
    CHECK_MESSAGE(text.find("compute queues (sums over 2 devices)") != std::string::npos, text);
    CHECK_MESSAGE(text.find("upload queues (sums over 2 devices)") != std::string::npos, text);
    CHECK_MESSAGE(text.find("200 GB/s") != std::string::npos, text);
}

TEST_CASE("slots that are not in use are no work") {
    PhaseInput input;
    input.totals = {{"compute", "expert_combine", 1, 1, {1e9, 4e12}}, {"compute", "expert_gather", 1, 1, {1e9, 4e12}}};
    input.limits.copy = 3e12;
    const std::vector<Phase> all = make_phases(input);
    CHECK(find(all, "compute", "expert_gather").rate_per_second() == 4e12);
    CHECK(find(all, "compute", "expert_combine").rate_per_second() == 4e12);
    input.slots_in_use = 0.5;
    const std::vector<Phase> half = make_phases(input);
    CHECK(find(half, "compute", "expert_gather").rate_per_second() == 2e12);
    CHECK(find(half, "compute", "expert_gather").work.flops == 5e8);
    CHECK(find(half, "compute", "expert_combine").rate_per_second() ==
          0); // not told: the sum is read and written whole
}

TEST_CASE("no limits, no shares; no device, no idle time") {
    PhaseInput input = example();
    input.limits = {};
    input.pass_seconds = 0;
    for (const Phase & phase : make_phases(input)) {
        CHECK(phase.share() == 0);
        CHECK(phase.name != "idle");
    }
    const std::string text = phases_text(make_phases(input), input.limits);
    CHECK(text.find('%') == std::string::npos);
    CHECK(text.find("limits:") == std::string::npos);
    CHECK(make_phases({}).empty());
}

TEST_CASE("a calibrated run: the document adds up, the timeline is JSON with a row for each thread") {
    const ScratchFolder scratch;
    CalibratedRun run;
    run.destination = scratch / "out";
    run.tokens = scratch.save("tokens.json", tokens_text(short_samples(3)));
    run.trace_file = scratch / "trace.json";
    const RunResult result = quantize(run);
    require_good(result);

    const JsonDocument report = JsonDocument::parse(result.report, "report").take();
    const JsonValue seconds = report.root().get("seconds").value();
    const double total = seconds.get("total").value().as_double().value();
    double computing = 0, idle = 0;
    size_t rows = 0;
    REQUIRE(report.root()
                .get("phases")
                .value()
                .for_each_element([&](size_t, const JsonValue & phase) -> Status {
                    const double took = phase.get("seconds").value().as_double().value();
                    const std::string name(phase.get("name").value().as_string().value());
                    CHECK(took >= 0);
                    CHECK(phase.get("flops").value().as_double().value() >= 0);
                    if (phase.get("lane").value().as_string().value() == "compute")
                        (name == "idle" ? idle : computing) += took;
                    rows++;
                    return {};
                })
                .ok());
    CHECK(rows > 10);
    CHECK(computing > 0);
    CHECK(computing + idle <= total); // the parts of the forward pass lie in the run
    CHECK(result.phases.find("experts gate, up") != std::string::npos);
    CHECK(result.phases.find("whole run") != std::string::npos);

    const JsonDocument trace = JsonDocument::read(run.trace_file, 1 << 28).take();
    size_t spans = 0, threads = 0;
    REQUIRE(trace.root()
                .for_each_element([&](size_t, const JsonValue & event) -> Status {
                    if (event.get("ph").value().as_string().value() == "M") {
                        threads += event.get("name").value().as_string().value() == "thread_name";
                        return {};
                    }
                    CHECK(event.get("ph").value().as_string().value() == "X");
                    const double begin = event.get("ts").value().as_double().value();
                    const double duration = event.get("dur").value().as_double().value();
                    CHECK(begin >= 0);
                    CHECK(duration >= 0);
                    CHECK((begin + duration) * 1e-6 <= total);
                    spans++;
                    return {};
                })
                .ok());
    CHECK(spans > 1000);
    CHECK(threads >= 3); // readers, the device, writers
    CHECK_FALSE(path_exists(run.trace_file + ".partial"));

    // Not written over, and said before work starts.
    run.destination = scratch / "again";
    const RunResult refused = quantize(run);
    CHECK(refused.status != GNV_OK);
    CHECK(refused.says("trace.json exists"));
    CHECK_FALSE(path_exists(run.destination + ".partial"));
}

TEST_CASE("disks: the rates of a run beside what they can do, and what waited for them") {
    DiskInput input;
    input.totals = {{"reader", "read", 3, 4, {0, 60e9}},     {"worker", "read", 2, 6, {0, 12e9}},
                    {"worker", "write", 4, 8, {0, 25e9}},    {"worker", "hash", 9, 9, {0, 25e9}},
                    {"host", "wait for weights", 40, 1, {}}, {"host", "wait for writers", 40, 0.5, {}},
                    {"host", "allocate memory", 1, 7, {}},   {"compute", "linear", 1, 5, {1, 1}}};
    input.limits = {7.2e9, true, 5e9};
    input.seconds = 20, input.sync_seconds = 2, input.fetched_bytes = 50e9, input.workers = 4;
    input.in_background = true;
    const DiskReport device = make_disk_report(input);
    CHECK(device.rate(device.source) == doctest::Approx(3.6e9));
    CHECK(device.share(device.source) == doctest::Approx(0.5));
    CHECK(device.source.waited == doctest::Approx(1));
    CHECK(device.share(device.result) == doctest::Approx(0.25));
    CHECK(device.result.waited == doctest::Approx(2.5));
    const std::string text = disks_text(device);
    for (const char * part : {"source, read", "72.0 GB", "7.2 GB/s", "50 %", "result, written", "25 %", "2.50 s",
                              "50.0 GB of the source came from a disk", "past the page cache"})
        CHECK_MESSAGE(text.find(part) != std::string::npos, text);
    // Where no device computes, workers do nothing else while they read and write.
    input.in_background = false;
    const DiskReport cpu = make_disk_report(input);
    CHECK(cpu.source.waited == doctest::Approx(1 + 6 / 4.0));
    CHECK(cpu.result.waited == doctest::Approx(2.5 + 8 / 4.0));
    // Nothing measured, nothing read.
    CHECK(disks_text(make_disk_report({})).empty());
    input.limits = {};
    CHECK(disks_text(make_disk_report(input)).find("%") == std::string::npos);
}

TEST_CASE("disks are measured by the files of a source, and leave nothing in the folder of the result") {
    const ScratchFolder scratch;
    CalibratedRun run;
    run.destination = scratch / "out";
    run.scheme = GNV_SCHEME_NVFP4A16;
    run.measure_limits = true;
    const RunResult result = quantize(run);
    require_good(result);
    CHECK(list_directory(scratch.path()).take().size() == 1);
    const JsonDocument report = JsonDocument::parse(result.report, "report").take();
    const JsonValue disks = report.root().get("disks").value();
    for (const char * key : {"source", "result"}) {
        CAPTURE(key);
        const JsonValue disk = disks.get(key).value();
        const auto number = [&](const char * name) { return disk.get(name).value().as_double().value(); };
        CHECK(number("bytes") > 1e6);
        CHECK(number("limit") > 1e6);
        CHECK(number("share") == doctest::Approx(number("per_second") / number("limit")));
        CHECK(number("waited_seconds") >= 0);
    }
    CHECK(result.phases.find("limits: reading the source") != std::string::npos);
    // Files that are not there, and too small ones.
    const auto threads = ThreadPool::create(2).take();
    DiskLimits limits;
    CHECK(measure_reading({scratch / "absent"}, *threads, limits).code() == Code::not_found);
    REQUIRE(measure_reading({scratch.save("small", "x")}, *threads, limits).ok());
    REQUIRE(measure_writing(scratch / "absent", *threads, limits).ok());
    CHECK(limits.read == 0);
    CHECK(limits.write == 0);
}

TEST_CASE("limits are measured with the work itself") {
    const auto threads = ThreadPool::create(2).take();
    const auto backend = open_cpu(*threads);
    DeviceLimits limits;
    REQUIRE(measure_copies(*backend, 1 << 20, limits).ok());
    CHECK(limits.copy == 0); // too little to tell
    REQUIRE(measure_copies(*backend, uint64_t(64) << 20, limits).ok());
    CHECK(limits.copy > 1e8);
    CHECK(limits.upload > 1e8);
    CHECK(limits.download > 1e8);
    CHECK(limits.product == 0);
    REQUIRE(measure_product(*backend, {64, 128, 96}, 0.02, limits).ok());
    CHECK(limits.product > 1e7);
    CHECK(limits.product_shape[0] == 64);
    CHECK(limits.product_shape[1] == 128);
    CHECK(limits.product_shape[2] == 96);
}

TEST_CASE("a timeline says how much is missing, and appears whole or not at all") {
    const ScratchFolder scratch;
    Trace trace(2);
    for (int i = 0; i < 5; i++) {
        const Span span(&trace, "worker", "write");
    }
    REQUIRE(write_trace(scratch / "trace.json", trace).ok());
    const std::string text = read_file(scratch / "trace.json", 1 << 20).value();
    CHECK(text.find("2 spans, 3 later ones left out") != std::string::npos);
    CHECK(check_new_file(scratch / "trace.json").code() == Code::already_exists);
    CHECK_FALSE(write_trace(scratch / "nowhere/trace.json", trace).ok());
}
