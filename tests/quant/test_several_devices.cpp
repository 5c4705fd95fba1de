// Whole runs in lanes on several devices: the files of one device, and of the CPU. The devices are made of the CPU
// (deferred_device.h).
#include "core/thread_pool.h"
#include "faults/small_model.h"
#include "forward/deferred_device.h"
#include "quant/calibration_statistics.h"
#include "quantize/quantize.h"

#include <doctest/doctest.h>
#include <random>

using namespace gnv;
using namespace gnv::test;

namespace {

CalibrationData random_data() {
    std::mt19937 random(1);
    CalibrationData data;
    for (const int length : {60, 1, 45, 70, 33, 64, 12}) {
        TextSequence & text = data.sequences.emplace_back();
        for (int i = 0; i < length; i++) text.ids.push_back(int32_t(random() % 8192));
        data.positions += uint64_t(length);
    }
    data.tokens = data.positions;
    data.json = "{}";
    return data;
}

struct Runs {
    ScratchFolder scratch;
    CalibrationData data = random_data();
    const Quantizer * quantizer = &round_to_nearest();
    ExpertTokens experts = ExpertTokens::all;
    Resume resume = Resume::off;
    std::string save_statistics;
    uint64_t device_bytes = 0;
    std::function<bool(const QuantizeProgress &)> progress;
    QuantizeReport report;

    Runs() { write_small_model(scratch / "source"); }
    // devices 0: the CPU
    Status run(const char * name, int devices) {
        PlanOptions planned;
        planned.recipe.quantizer = quantizer;
        planned.recipe.scheme = &formats::nvfp4;
        planned.threads = 2;
        planned.buffer_share = calibrating_buffer_share;
        GNV_ASSIGN(const Plan plan, make_plan(scratch / "source", planned));
        GNV_ASSIGN(const auto pool, ThreadPool::create(2));
        QuantizeOptions options;
        options.destination = scratch / name;
        options.calibration = &data;
        options.expert_tokens = experts;
        options.scratch_folder = scratch.path();
        options.save_statistics = save_statistics;
        options.resume = resume;
        options.device_bytes = device_bytes;
        options.progress = progress;
        if (devices > 0) options.open_device = open_deferred(0);
        for (int i = 1; i < devices; i++) options.more_devices.push_back(open_deferred(i));
        GNV_ASSIGN(report, quantize(plan, *pool, options));
        return {};
    }
    Files files(const char * name, int devices) {
        const Status status = run(name, devices);
        REQUIRE_MESSAGE(status.ok(), status.message());
        Files files = read_folder(scratch / name);
        REQUIRE(remove_tree(scratch / name).ok());
        return files;
    }
};

} // namespace

TEST_CASE("a run on one, two or three devices: the files of the CPU, for every method") {
    for (const Quantizer * const quantizer : all_quantizers())
        for (const ExpertTokens experts : {ExpertTokens::all, ExpertTokens::routed}) {
            CAPTURE(std::string(quantizer->name()));
            CAPTURE(int(experts));
            Runs runs;
            runs.quantizer = quantizer;
            runs.experts = experts;
            const Files expected = runs.files("out", 0);
            for (const int devices : {1, 2, 3}) {
                CAPTURE(devices);
                CHECK((runs.files("out", devices) == expected));
                CHECK(runs.report.devices == size_t(devices));
            }
        }
}

TEST_CASE("statistics files, second moments included, of two devices are those of one") {
    Runs runs;
    runs.quantizer = &gptq();
    runs.experts = ExpertTokens::routed;
    std::string statistics, moments;
    for (const int devices : {1, 2}) {
        CAPTURE(devices);
        runs.save_statistics = runs.scratch / concat("statistics", devices, ".json");
        (void)runs.files("out", devices);
        const std::string text = read_file(runs.save_statistics, 1 << 28).take();
        const std::string large = read_file(moment_file_name(runs.save_statistics), 1 << 28).take();
        if (devices == 1) statistics = text, moments = large;
        CHECK((text == statistics));
        CHECK((large == moments));
    }
    CHECK(!moments.empty());
}

TEST_CASE("a run that was stopped on two devices goes on with one, and the other way round") {
    for (const Quantizer * const quantizer : {&round_to_nearest(), &gptq()}) {
        CAPTURE(std::string(quantizer->name()));
        Runs runs;
        runs.quantizer = quantizer;
        runs.resume = Resume::each_layer;
        const Files expected = runs.files("out", 2);
        for (const int devices : {1, 2}) {
            runs.progress = [](const QuantizeProgress & now) {
                return double(now.positions) < 0.7 * double(now.positions_total + (now.positions_total == 0));
            };
            CHECK(runs.run("out", devices).code() == Code::cancelled);
            runs.progress = nullptr;
            CAPTURE(devices);
            const Files found = runs.files("out", 3 - devices);
            for (const auto & [name, content] : expected) CHECK_MESSAGE((found.at(name) == content), name);
            CHECK(found.size() == expected.size());
            CHECK(runs.report.resumed_layers > 0);
        }
    }
}

TEST_CASE("devices with too little memory for packing leave it to the CPU: the same files") {
    Runs runs;
    const Files expected = runs.files("out", 0);
    runs.device_bytes = 1;
    const Status refused = runs.run("out", 2);
    CHECK(refused.code() == Code::out_of_memory);
    CHECK_MESSAGE(refused.message().find("deferred device (cuda:") != std::string::npos, refused.message());
    const std::string text = refused.message();
    runs.device_bytes = std::stoull(text.substr(text.find("sufficient one is ") + 18));
    CHECK((runs.files("out", 2) == expected));
}
