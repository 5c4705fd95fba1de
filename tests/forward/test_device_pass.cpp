// The pass on a device with memory of its own: what the CPU gives, to the bit, wherever hidden states are and however short
// memory is. The device is made of the CPU (deferred_device.h); test_cuda runs the same on a GPU.
#include "forward/deferred_device.h"
#include "forward/pass_fixture.h"
#include "verify/verify_fixture.h"

#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

struct DeferredComparison : Comparison {
    DeferredDevice * device = nullptr;
    DeferredComparison() : Comparison(untripped_pair().quantized, Precision::f32) {
        auto made = std::make_unique<DeferredDevice>(*remote.threads);
        device = made.get();
        remote.device = std::move(made);
    }
};

} // namespace

TEST_CASE("variants of two checkpoints on a device: values, rows, logits and statistics are the CPU's") {
    DeferredComparison c;
    const auto texts = make_texts({70, 1, 63, 64, 65, 7, 130});
    const Outcome expected = c.host.run(texts, everything());
    REQUIRE(expected.values.size() == 4);
    CHECK(expected.values[2].at("logits") != expected.values[3].at("logits"));
    CHECK(expected.values[1].at("logits") != expected.values[0].at("logits"));
    for (const int64_t positions : {0, 1, 100}) {
        CAPTURE(positions);
        PassOptions options = everything();
        options.batch_positions = positions;
        c.device->reset_peaks();
        const Outcome found = c.remote.run(texts, options);
        CHECK(found.plan.store_place == StorePlace::device);
        check_same(found, expected);
        CHECK(c.device->used() == 0);
        CHECK(c.device->peak() <= found.plan.device.total() - device_context_bytes);
        CHECK(c.device->host_peak() <= found.plan.host.total());
    }
}

TEST_CASE("pads and packed texts on a device") {
    Fixture host, remote;
    remote.device = std::make_unique<DeferredDevice>(*remote.threads);
    std::vector<TextSequence> texts = make_texts({70, 129, 3});
    for (TextSequence & text : texts) {
        text.mask.assign(text.ids.size(), 1);
        text.ids.resize(140, 17);
        text.mask.resize(140, 0);
    }
    texts.push_back(make_texts({90})[0]);
    texts.back().segments = {0, 64, 71};
    check_same(remote.run(texts, everything()), host.run(texts, everything()));
}

TEST_CASE("smaller and smaller budgets of both memories") {
    const ScratchFolder scratch;
    write_small_model(scratch / "model");
    Fixture host(scratch / "model"), remote(scratch / "model");
    host.precisions = remote.precisions = {Precision::f32, Precision::bf16};
    auto made = std::make_unique<DeferredDevice>(*remote.threads);
    DeferredDevice & device = *made;
    remote.device = std::move(made);
    const auto texts = make_texts({130, 64, 200, 3, 700, 700, 700, 700}, 4000);
    PassOptions options = everything();
    options.head = false; // its weights would be the largest group
    const Outcome expected = host.run(texts, options), wide = remote.run(texts, options);
    check_same(wide, expected);
    CHECK(wide.plan.store_place == StorePlace::device);

    options.scratch_folder = scratch.path();
    const auto refused = [&](uint64_t on_device, uint64_t on_host) {
        options.device_bytes = on_device;
        options.ram_bytes = on_host;
        const Status status = remote.create(texts, options).take_status();
        CHECK(status.code() == Code::out_of_memory);
        return smallest_budget(status);
    };
    const uint64_t least = refused(1, 1 << 30), host_least = refused(uint64_t(1) << 40, 1);
    refused(least - 1, 1 << 30);
    refused(uint64_t(1) << 40, host_least - 1);
    std::set<StorePlace> places;
    const uint64_t most = wide.plan.device.total(), host_most = wide.plan.host.total() + wide.plan.device.hidden_states;
    for (int step = 0; step <= 8; step++)
        for (const uint64_t on_host : {host_least, host_least + (host_most - host_least) / 4, host_most}) {
            options.device_bytes = least + (most - least) * uint64_t(step * step) / 64;
            options.ram_bytes = on_host;
            Result<std::unique_ptr<TextPass>> pass = remote.create(texts, options);
            if (!pass.ok()) continue; // the least of each need not do together
            CHECK(pass.value()->plan().device.total() <= options.device_bytes);
            CHECK(pass.value()->plan().host.total() <= options.ram_bytes);
            if (!places.insert(pass.value()->plan().store_place).second && step > 0) continue;
            CAPTURE(place_name(pass.value()->plan().store_place));
            check_same(remote.run(texts, options), expected);
            CHECK(device.used() == 0);
        }
    CHECK(places.size() == 3);
}

TEST_CASE("logits with hidden states in every place") {
    const ScratchFolder scratch;
    DeferredComparison c;
    const auto texts = make_texts({70, 33, 129, 64});
    const Outcome expected = c.host.run(texts, everything());
    PassOptions options = everything();
    check_same(run_on_host(c.remote, texts, options), expected);
    check_same(run_in_file(c.remote, texts, options, scratch.path()), expected);
}

TEST_CASE("a NaN on a device is named as on the CPU") {
    const ScratchFolder scratch;
    // A token that stands in the second text and not in the first.
    const auto texts = make_texts({70, 64, 200, 64});
    const auto & first = texts[0].ids;
    size_t position = 0;
    while (std::count(first.begin(), first.end(), texts[1].ids[position]) > 0) position++;
    for (const std::string & folder : save_models_with_nan(scratch, texts[1].ids[position])) {
        Fixture host(folder), remote(folder);
        remote.device = std::make_unique<DeferredDevice>(*remote.threads);
        for (const ExpertTokens tokens : {ExpertTokens::all, ExpertTokens::routed}) {
            if (ends_with(folder, "expert") && tokens == ExpertTokens::routed) continue; // nothing is routed there
            PassOptions options = everything();
            options.scratch_folder = scratch.path();
            options.expert_tokens = tokens;
            options.head = false;
            options.batch_positions = 140;
            const std::string expected = failure(host, texts, options);
            CHECK(expected.find("sample") != std::string::npos);
            CHECK(failure(remote, texts, options) == expected);
            options.device_bytes = 1; // experts in parts, hidden states outside
            options.device_bytes = smallest_budget(remote.create(texts, options).take_status());
            CHECK(failure(remote, texts, options) == expected);
        }
    }
}

TEST_CASE("memory that was free when the pass was planned is taken when it starts") {
    const ScratchFolder scratch;
    Fixture host, remote;
    auto made = std::make_unique<DeferredDevice>(*remote.threads);
    DeferredDevice & device = *made;
    remote.device = std::move(made);
    const auto texts = make_texts({300, 200, 200});
    PassOptions options = everything();
    const Outcome expected = host.run(texts, options), wide = remote.run(texts, options);
    options.scratch_folder = scratch.path();
    device.memory = wide.plan.device.total();
    device.taken = device_context_bytes + wide.plan.device.hidden_states / 2;
    const Outcome tight = remote.run(texts, options);
    CHECK(tight.plan.device.total() < wide.plan.device.total());
    check_same(tight, expected);
    device.taken = device.memory - 1000;
    const Status hopeless = remote.try_run(texts, options).take_status();
    CHECK(hopeless.code() == Code::out_of_memory);
    CHECK_MESSAGE(hopeless.message().find("in use now") != std::string::npos, hopeless.message());
    device.taken = 0;
    device.host_memory = wide.plan.host.total();
    device.host_taken = wide.plan.host.weights / 4;
    check_same(remote.run(texts, options), expected);
}
