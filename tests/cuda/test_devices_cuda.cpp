// Forward passes and comparisons on several CUDA devices of one host: the bytes of one. Cases pass with a message where
// there is one.
#include "core/trace.h"
#include "cuda/several_devices.h"
#include "evaluate/evaluate_fixture.h"
#include "forward/pass_fixture.h"
#include "models/qwen35_names.h"
#include "run/device_list.h"

#include <cstring>

using namespace gnv;
using namespace gnv::test;

namespace {

std::vector<std::unique_ptr<Backend>> open_devices(Fixture & f, int count) {
    std::vector<std::unique_ptr<Backend>> others;
    f.precisions = {Precision::bf16};
    f.device = open_cuda(0).take();
    for (int i = 1; i < count; i++) {
        others.push_back(open_cuda(i).take());
        f.more_devices.push_back(others.back().get());
    }
    return others;
}

Trace::Total total_of(const Trace & trace, std::string_view lane, std::string_view name) {
    for (const Trace::Total & total : trace.totals())
        if (lane == total.lane && name == total.name) return total;
    return {};
}

} // namespace

TEST_CASE("several devices: copies from one to the other wait for a fence, and are whole") {
    if (!several_devices()) return;
    const auto first = open_cuda(0).take(), second = open_cuda(1).take();
    MESSAGE("cuda:1 reaches cuda:0 directly: ", second->reaches(*first));
    CHECK(first->reaches(*second) == second->reaches(*first));
    CHECK_FALSE(first->reaches(*first));
    constexpr size_t bytes = 64 << 20, rounds = 8;
    const DeviceMemory here = first->allocate(bytes).take(), there = second->allocate(bytes).take();
    const HostMemory from = first->allocate_host(bytes).take(), to = second->allocate_host(bytes * rounds).take();
    std::unique_ptr<Fence> copied;
    for (size_t round = 0; round < rounds; round++) {
        REQUIRE(first->synchronize(Queue::upload).ok());
        memset(from.get(), int(round + 1), bytes);
        if (copied) first->wait(Queue::upload, *copied);
        first->upload(here.get(), from.get(), bytes, Queue::upload);
        const std::unique_ptr<Fence> arrived = first->fence(Queue::upload);
        second->wait(Queue::upload, *arrived);
        second->copy_from(*first, there.get(), here.get(), bytes, Queue::upload);
        copied = second->fence(Queue::upload);
        second->download(static_cast<uint8_t *>(to.get()) + round * bytes, there.get(), bytes, Queue::upload);
    }
    REQUIRE(second->synchronize(Queue::upload).ok());
    for (size_t round = 0; round < rounds; round++) {
        const std::vector<uint8_t> expected(bytes, uint8_t(round + 1));
        CHECK(memcmp(static_cast<uint8_t *>(to.get()) + round * bytes, expected.data(), bytes) == 0);
    }
}

TEST_CASE("several devices: a pass gives the bytes of one, wherever hidden states are") {
    const int most = several_devices();
    if (most == 0) return;
    using namespace qwen35;
    const ScratchFolder scratch;
    // More positions for each device than there are in the batches on their way, so that budgets decide where they are.
    std::vector<int64_t> lengths = {70, 1, 63, 64, 65, 7, 130};
    lengths.insert(lengths.end(), size_t(4 * most), 100);
    const auto texts = make_texts(lengths);
    for (const bool ordered : {false, true}) {
        CAPTURE(ordered);
        PassOptions options = everything();
        for (const Statistic * const statistic : {&Statistic::second_moments, &Statistic::second_moments_16})
            if (ordered) options.statistics.push_back({statistic, Part::text, -1, expert_down_input});
        Fixture one;
        (void)open_devices(one, 1);
        const Outcome expected = one.run(texts, options);
        for (const int devices : {2, most}) {
            CAPTURE(devices);
            Fixture f;
            const auto others = open_devices(f, devices);
            PassOptions with = options;
            check_same(f.run(texts, with), expected);
            with.batch_positions = 70;
            const Outcome found = f.run(texts, with);
            CHECK(found.plan.lanes.size() == size_t(devices));
            check_same(found, expected);
            check_same(run_on_host(f, texts, with), expected);
            check_same(run_in_file(f, texts, with, scratch.path()), expected);
        }
    }
}

TEST_CASE("several devices: weights cross to the first, and from there to the others") {
    if (!several_devices()) return;
    Fixture f;
    const auto others = open_devices(f, 2);
    if (!others[0]->reaches(*f.device)) {
        MESSAGE("skipped: cuda:1 does not reach cuda:0");
        return;
    }
    Trace trace;
    for (Backend * const device : {f.device.get(), others[0].get()}) device->set_trace(&trace);
    PassOptions options = all_experts();
    options.head = false;
    const auto texts = make_texts({300, 200, 500, 100}); // the pass refers to them
    const auto pass = f.create(texts, options).take();
    uint64_t bytes = 0;
    PassHooks hooks;
    hooks.on_group = [&](const PassGroup &, const WeightGroup & host, const std::vector<LaneWeights> &) {
        bytes += host.bytes();
        return Status();
    };
    REQUIRE(pass->run(hooks).ok());
    for (Backend * const device : {f.device.get(), others[0].get()}) device->set_trace(nullptr);
    CHECK(total_of(trace, "upload", "copy from another device").work.bytes == double(bytes));
    CHECK(total_of(trace, "upload", "upload").work.bytes == double(bytes));
}

TEST_CASE("several devices: a NaN is named as on one") {
    if (!several_devices()) return;
    const ScratchFolder scratch;
    const auto texts = make_texts({70, 64, 200, 64});
    for (const std::string & folder : save_models_with_nan(scratch, texts[3].ids[0])) {
        Fixture one(folder), two(folder);
        (void)open_devices(one, 1);
        const auto others = open_devices(two, 2);
        PassOptions options = everything();
        options.head = false;
        options.batch_positions = 70;
        CHECK(failure(two, texts, options) == failure(one, texts, options));
    }
}

TEST_CASE("several devices: the comparison of predictions is that of one") {
    const int most = several_devices();
    if (most == 0) return;
    using namespace gnv::evaluate;
    const EvaluationData data = read_data(8);
    EvaluateOptions options;
    options.precision = Precision::bf16;
    options.open_device = [](ThreadPool &) { return open_cuda(0); };
    const std::string expected = evaluation_json(evaluate_reference(data, options));
    for (int i = 1; i < most; i++) options.more_devices.push_back([i](ThreadPool &) { return open_cuda(i); });
    CHECK(evaluation_json(evaluate_reference(data, options)) == expected);
}
