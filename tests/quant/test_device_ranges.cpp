// Second moments of a layer's experts on a device whose memory does not hold them all: range by range, with the same bytes. The
// device is made of the CPU (deferred_device.h); test_cuda and a run on a GPU do the same there.
#include "core/thread_pool.h"
#include "faults/small_model.h"
#include "formats/json.h"
#include "forward/deferred_device.h"
#include "quantize/calibrate.h"
#include "quantize/quantize.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <random>

using namespace gnv;
using namespace gnv::test;

namespace {

CalibrationData random_data(std::initializer_list<int> lengths, int vocabulary) {
    std::mt19937 random(1);
    CalibrationData data;
    for (const int length : lengths) {
        TextSequence & text = data.sequences.emplace_back();
        for (int i = 0; i < length; i++) text.ids.push_back(int32_t(random() % unsigned(vocabulary)));
        data.positions += uint64_t(length);
    }
    data.tokens = data.positions;
    data.json = "{}";
    return data;
}

Plan plan_of(const std::string & source, const Quantizer & quantizer) {
    PlanOptions planned;
    planned.recipe.quantizer = &quantizer;
    planned.recipe.scheme = &formats::nvfp4;
    planned.threads = 2;
    planned.ram_bytes = uint64_t(64) << 30;
    planned.buffer_share = calibrating_buffer_share;
    return make_plan(source, planned).take();
}

// What a plan says of its forward pass.
struct Planned {
    int64_t parts = 0;
    int64_t weights = 0, statistics = 0, search = 0, packed = 0, total = 0, budget = 0; // of the device, bytes
    explicit Planned(const Plan & plan) {
        const JsonDocument document = JsonDocument::parse(plan.calibration_json, "plan").take();
        const JsonValue root = document.root(), device = root.get("device").value();
        const auto number = [](const JsonValue & object, const char * key) {
            return object.get(key).value().as_int().value();
        };
        parts = number(root, "expert_parts");
        weights = number(device, "weights"), statistics = number(device, "statistics");
        search = number(device, "search"), packed = number(device, "packed");
        total = number(device, "total"), budget = number(device, "budget");
    }
};

// --- A layer of 16 experts whose moments are most of what a run needs ---------------------------------------------------------

const std::string many_experts = [] {
    std::string config = small_config;
    const auto set = [&](const std::string & from, const std::string & to) {
        const size_t at = config.find(from);
        GNV_CHECK(at != std::string::npos);
        config.replace(at, from.size(), to);
    };
    set("\"hidden_size\": 64, \"vocab_size\": 8192", "\"hidden_size\": 256, \"vocab_size\": 512");
    set("\"num_experts\": 4", "\"num_experts\": 16");
    return config;
}();

struct Runs {
    ScratchFolder scratch;
    CalibrationData data = random_data({60, 1, 45, 70, 33, 64}, 512);
    const Quantizer * quantizer = &gptq();
    uint64_t device_bytes = 0;
    uint64_t peak = 0; // of the device, without its driver

    Runs() {
        SyntheticOptions made;
        GNV_CHECK(write_synthetic_checkpoint(many_experts, scratch / "source", made).ok());
    }
    QuantizeOptions options(bool on_device) {
        QuantizeOptions options;
        options.calibration = &data;
        options.expert_tokens = ExpertTokens::routed;
        options.device_bytes = device_bytes;
        if (!on_device) return options;
        options.open_device = [this](ThreadPool & threads) -> Result<std::unique_ptr<Backend>> {
            struct Watched : DeferredDevice {
                uint64_t & most;
                Watched(ThreadPool & pool, uint64_t & peak) : DeferredDevice(pool), most(peak) { quantizes = true; }
                ~Watched() override { most = peak(); }
            };
            return std::unique_ptr<Backend>(std::make_unique<Watched>(threads, peak));
        };
        return options;
    }
    Planned planned() {
        Plan plan = plan_of(scratch / "source", *quantizer);
        const auto threads = ThreadPool::create(2).take();
        const Status status = Calibration::describe(plan, *threads, data, options(true));
        REQUIRE_MESSAGE(status.ok(), status.message());
        return Planned(plan);
    }
    Files files(bool on_device) {
        const Plan plan = plan_of(scratch / "source", *quantizer);
        const auto threads = ThreadPool::create(2).take();
        QuantizeOptions run = options(on_device);
        run.destination = scratch / "out";
        const Status status = quantize(plan, *threads, run).take_status();
        REQUIRE_MESSAGE(status.ok(), status.message());
        Files files = read_folder(run.destination);
        REQUIRE(remove_tree(run.destination).ok());
        return files;
    }
    Status refusal() {
        Plan plan = plan_of(scratch / "source", *quantizer);
        const auto threads = ThreadPool::create(2).take();
        return Calibration::describe(plan, *threads, data, options(true));
    }
};

} // namespace

TEST_CASE("a layer's experts in ranges on a device: the bytes of one range, and of the CPU, within the budget") {
    for (const Quantizer * const quantizer : {&gptq(), &local_hessian()}) {
        CAPTURE(std::string(quantizer->name()));
        Runs runs;
        runs.quantizer = quantizer;
        const Files expected = runs.files(false);
        const Planned whole = runs.planned();
        CHECK(whole.parts == 1);
        CHECK((runs.files(true) == expected));
        CHECK(runs.peak + device_context_bytes <= uint64_t(whole.total));
        // Less memory, until each expert is a range of its own.
        int64_t last = 1;
        uint64_t budget = uint64_t(whole.total);
        for (; runs.device_bytes = budget, runs.refusal().ok(); budget -= 256 << 10) {
            const Planned cut = runs.planned();
            CHECK(cut.total <= int64_t(budget));
            if (cut.parts == last) continue;
            CAPTURE(cut.parts);
            last = cut.parts;
            CHECK(cut.statistics < whole.statistics);
            CHECK((runs.files(true) == expected));
            CHECK(runs.peak + device_context_bytes <= budget);
        }
        CHECK(last >= (quantizer == &gptq() ? 4 : 1));
        // What is too small is told with what is not.
        const Status refused = runs.refusal();
        CHECK(refused.code() == Code::out_of_memory);
        const std::string text = refused.message();
        const size_t at = text.find("smallest sufficient ");
        REQUIRE_MESSAGE(at != std::string::npos, text);
        runs.device_bytes = std::stoull(text.substr(text.find_first_of("0123456789", at)));
        CHECK(runs.device_bytes > budget);
        CHECK((runs.files(true) == expected));
    }
}

// Memory that the CUDA kernels of gptq ask for, nearly.
static uint64_t bytes_of_gptq(int64_t columns) {
    const auto n = uint64_t(columns);
    return 6 * n * n * sizeof(float) + n * (n + 16) / 2 * sizeof(float) + n * 64 * sizeof(float) +
           n * (n + 32) * sizeof(double);
}

TEST_CASE("gptq of 256 experts of 2,048 columns is planned within 16 GB, and by ranges within 6") {
    const ScratchFolder scratch;
    const std::string config = read_file(GNV_TEST_DATA "/configs/qwen36-35b-a3b.json", 1 << 20).take();
    SyntheticOptions made;
    made.headers_only = true;
    REQUIRE(write_synthetic_checkpoint(config, scratch / "source", made).ok());
    CalibrationData data;
    for (int i = 0; i < 256; i++) data.sequences.emplace_back().ids.assign(2048, i);
    data.positions = data.tokens = 256 * 2048;
    data.json = "{}";
    Plan plan = plan_of(scratch / "source", gptq());
    const auto threads = ThreadPool::create(2).take();
    QuantizeOptions options;
    options.calibration = &data;
    options.expert_tokens = ExpertTokens::routed;
    options.precision = Precision::bf16;
    options.open_device = [](ThreadPool & pool) -> Result<std::unique_ptr<Backend>> {
        auto device = std::make_unique<DeferredDevice>(pool);
        device->quantizes = true;
        device->activation = DType::bf16;
        device->memory = uint64_t(80) << 30;
        device->work_of = bytes_of_gptq;
        return std::unique_ptr<Backend>(std::move(device));
    };
    constexpr int64_t all_moments = int64_t(256) * (2048 * 2048 + 512 * 512) * 2 * 4; // fitted and held, F32
    for (const uint64_t gb : {40, 16, 6}) {
        CAPTURE(gb);
        options.device_bytes = gb * 1'000'000'000;
        const Status status = Calibration::describe(plan, *threads, data, options);
        REQUIRE_MESSAGE(status.ok(), status.message());
        const Planned planned(plan);
        CHECK(planned.budget == int64_t(options.device_bytes));
        CHECK(planned.total <= planned.budget);
        CHECK(planned.search >= int64_t(bytes_of_gptq(4096)));
        CHECK((planned.statistics >= all_moments) == (planned.parts == 1));
        CHECK((planned.parts > 1) == (gb < 16));
    }
    options.device_bytes = 2'000'000'000;
    CHECK(Calibration::describe(plan, *threads, data, options).code() == Code::out_of_memory);
}
