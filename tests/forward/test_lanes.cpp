// A pass in several lanes: what one lane gives, to the bit, whatever devices there are and wherever hidden states wait.
#include "forward/deferred_device.h"
#include "forward/pass_fixture.h"
#include "ops/toy_statistic.h"
#include "run/device_list.h"
#include "scratch.h"
#include "verify/verify_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

// Devices of a fixture, each with threads of its own; 'd' stands for a deferred device, 'c' for the CPU.
struct Lanes {
    std::vector<std::unique_ptr<ThreadPool>> threads;
    std::vector<std::unique_ptr<Backend>> backends;
    std::vector<DeferredDevice *> deferred;

    void give(Fixture & f, const std::string & kinds) {
        f.more_devices.clear();
        for (size_t i = 0; i < kinds.size(); i++) {
            threads.push_back(ThreadPool::create(2).take());
            std::unique_ptr<Backend> made;
            if (kinds[i] == 'd') {
                auto device = std::make_unique<DeferredDevice>(*threads.back(), int(i));
                deferred.push_back(device.get());
                made = std::move(device);
            } else {
                made = open_cpu(*threads.back());
            }
            if (i == 0) {
                f.device = std::move(made);
            } else {
                backends.push_back(std::move(made));
                f.more_devices.push_back(backends.back().get());
            }
        }
    }
};

// Four variants of two checkpoints in one lane of the CPU, and in several lanes.
struct LanesComparison : Comparison {
    Lanes lanes;
    explicit LanesComparison(const std::string & kinds) : Comparison(untripped_pair().quantized, Precision::f32) {
        lanes.give(remote, kinds);
    }
};

const std::vector<int64_t> lengths = {70, 1, 64, 65, 7, 90, 20};

} // namespace

TEST_CASE("any number of lanes on devices of any kind: the bytes of one lane of the CPU") {
    const auto texts = make_texts(lengths);
    Outcome expected;
    for (const char * const kinds : {"d", "dd", "ddd", "cd", "dc"}) {
        CAPTURE(kinds);
        LanesComparison c(kinds);
        c.keep(0, 2); // two checkpoints: weights of each come in turn
        if (expected.values.empty()) expected = c.host.run(texts, everything());
        for (const bool eager : {false, true}) {
            PassOptions options = everything();
            options.batch_positions = eager ? 70 : 0;
            for (DeferredDevice * const device : c.lanes.deferred) {
                device->eager_copies = eager;
                device->reset_peaks();
            }
            const Outcome found = c.remote.run(texts, options);
            CHECK(found.plan.lanes.size() == std::string(kinds).size());
            check_same(found, expected);
            uint64_t host_peak = 0;
            for (DeferredDevice * const device : c.lanes.deferred) {
                CHECK(device->used() == 0);
                CHECK(device->peak() > 0);
                CHECK(device->peak() <= found.plan.device.used() - device_context_bytes);
                host_peak += device->host_peak();
            }
            CHECK(host_peak <= found.plan.host.used());
        }
    }
}

TEST_CASE("lanes with hidden states in every place, with one buffer for weights and two") {
    const ScratchFolder scratch;
    const auto texts = make_texts(lengths);
    for (const char * const kinds : {"dd", "cd"}) {
        CAPTURE(kinds);
        LanesComparison c(kinds);
        c.keep(0, 1); // of one checkpoint
        PassOptions options = everything();
        options.batch_positions = 100;
        const Outcome expected = c.host.run(texts, options), wide = c.remote.run(texts, options);
        CHECK(wide.plan.weight_buffers == 2);
        check_same(wide, expected);
        options.device = wide.plan.device.used() - 1;
        const Outcome one = c.remote.run(texts, options);
        CHECK(one.plan.weight_buffers == 1);
        check_same(one, expected);
        check_same(run_on_host(c.remote, texts, options), expected);
        check_same(run_in_file(c.remote, texts, options, scratch.path()), expected);
    }
}

// Sums of floats, kept or not: the lanes take turns, so that each sum gets its terms in the order of positions.
TEST_CASE("sums that depend on the order of positions: the bits of one lane in any number of lanes") {
    using namespace qwen35;
    const ScratchFolder scratch;
    const auto texts = make_texts(lengths);
    for (const ExpertTokens tokens : {ExpertTokens::routed, ExpertTokens::all}) {
        PassOptions options = everything();
        options.expert_tokens = tokens;
        for (const int32_t input : {expert_down_input, mixer_input})
            for (const Statistic * const statistic : {&Statistic::second_moments, &Statistic::second_moments_16})
                options.statistics.push_back({statistic, Part::text, -1, input});
        options.statistics.push_back({&toy_sum, Part::text, 3, -1});
        Outcome expected;
        const bool routed = tokens == ExpertTokens::routed;
        for (const char * const kinds : routed ? std::vector{"dd", "ddd", "cd"} : std::vector{"dd"}) {
            CAPTURE(kinds);
            LanesComparison c(kinds);
            c.keep(0, 2); // of two checkpoints: one observes after the other
            if (expected.values.empty()) expected = c.host.run(texts, options);
            CHECK(expected.given_away.size() > 8);
            for (DeferredDevice * const device : c.lanes.deferred) device->connected = kinds[0] == 'd';
            PassOptions with = options;
            with.batch_positions = 70;
            const Outcome found = c.remote.run(texts, with);
            CHECK(found.plan.lanes.size() == std::string(kinds).size());
            check_same(found, expected);
            check_same(run_on_host(c.remote, texts, with), expected); // and experts in ranges
        }
    }
}

TEST_CASE("devices that do not go together are refused by name") {
    const auto pool = ThreadPool::create(1).take();
    const auto device = [](int index, const char * name, int minor) {
        return [=](ThreadPool & threads) -> Result<std::unique_ptr<Backend>> {
            auto made = std::make_unique<DeferredDevice>(threads, index);
            made->change().name = name;
            made->change().compute_major = 9;
            made->change().compute_minor = minor;
            return std::unique_ptr<Backend>(std::move(made));
        };
    };
    const auto refused = [&](const std::vector<OpenDevice> & list) {
        const Status status = DeviceList::open(list, *pool).take_status();
        CHECK(status.code() == Code::invalid_argument);
        return status.message();
    };
    const auto good = DeviceList::open({device(2, "A", 0), device(0, "A", 0)}, *pool);
    REQUIRE(good.ok());
    CHECK(good.value().count() == 2);
    CHECK(good.value().first().device().label() == "A (cuda:2)");
    CHECK(good.value().find(good.value()[1]) == 1);
    CHECK(refused({device(2, "A", 0), device(0, "A", 0), device(2, "A", 0)}) == "A (cuda:2) is named twice");
    CHECK(refused({device(0, "A", 0), device(1, "B", 0)}).find("B (cuda:1) 9.0: devices of different models round") !=
          std::string::npos);
    CHECK(refused({device(0, "A", 0), device(1, "A", 6)}).find("A (cuda:1) 9.6: devices of different") !=
          std::string::npos);
    CHECK(refused({device(0, "A", 0), open_cpu}).find("the CPU computes alone") != std::string::npos);
    CHECK(refused({open_cpu, open_cpu}).find("the CPU computes alone") != std::string::npos);
}

TEST_CASE("the device with too little memory is the one that a message names") {
    Fixture f;
    Lanes lanes;
    lanes.give(f, "ddd");
    const auto texts = make_texts(lengths);
    lanes.deferred[1]->memory = device_context_bytes + 1;
    const Status refused = f.create(texts, everything()).take_status();
    CHECK(refused.code() == Code::out_of_memory);
    CHECK_MESSAGE(refused.message().find("of the memory of deferred device (cuda:1)") != std::string::npos,
                  refused.message());
    lanes.deferred[1]->memory = uint64_t(16) << 30;
    lanes.deferred[2]->taken = uint64_t(16) << 30; // since the plan
    const auto pass = f.create(texts, everything()).take();
    const Status taken = pass->run({});
    CHECK(taken.code() == Code::out_of_memory);
    CHECK_MESSAGE(taken.message().find("on deferred device (cuda:2)") != std::string::npos, taken.message());
}

TEST_CASE("fewer batches than devices: some have nothing to do") {
    LanesComparison c("ddd");
    const auto texts = make_texts({70, 20});
    const Outcome expected = c.host.run(texts, everything()), found = c.remote.run(texts, everything());
    CHECK(found.plan.lanes.size() == 2);
    check_same(found, expected);
    CHECK(c.lanes.deferred[0]->peak() > 0);
}

TEST_CASE("a NaN in several lanes is named as in one") {
    const ScratchFolder scratch;
    const auto texts = make_texts({70, 64, 200, 64});
    // Tokens of the first text alone, and of the last: in the first lane and in the second.
    for (const size_t text : {size_t(0), size_t(3)}) {
        CAPTURE(text);
        size_t position = 0;
        const auto elsewhere = [&] {
            for (size_t i = 0; i < texts.size(); i++)
                if (i != text && std::count(texts[i].ids.begin(), texts[i].ids.end(), texts[text].ids[position]) > 0)
                    return true;
            return false;
        };
        while (elsewhere()) position++;
        const ScratchFolder models;
        for (const std::string & folder : save_models_with_nan(models, texts[text].ids[position])) {
            Fixture host(folder), remote(folder);
            Lanes lanes;
            lanes.give(remote, "dd");
            PassOptions options = everything();
            options.head = false;
            options.batch_positions = 70;
            const std::string expected = failure(host, texts, options);
            CHECK(expected.find("sample") != std::string::npos);
            CHECK(failure(remote, texts, options) == expected);
        }
    }
}

TEST_CASE("a pass in lanes ends in its middle") {
    for (const char * const how : {"tap", "hook", "progress"}) {
        CAPTURE(how);
        Fixture f;
        Lanes lanes;
        lanes.give(f, "dd");
        PassOptions options = everything();
        options.batch_positions = 70;
        const auto texts = make_texts(lengths);
        {
            const auto pass = f.create(texts, options).take();
            PassHooks hooks;
            hooks.on_group = [&](const PassGroup & group, const WeightGroup &,
                                 const std::vector<LaneWeights> &) -> Status {
                return how == std::string("hook") && layer_of(group) == 2 ? Status(Code::bad_value, "seen enough")
                                                                          : Status();
            };
            hooks.on_tap = [&](size_t, const PassBatch & batch, const Tap &, const Tensor &) -> Status {
                return how == std::string("tap") && batch.begin > 200 ? Status(Code::bad_value, "seen enough")
                                                                      : Status();
            };
            hooks.progress = [&](const PassProgress & now) {
                return how != std::string("progress") || now.positions < 1000;
            };
            const Status status = pass->run(hooks);
            CHECK(status.message() == (how == std::string("progress") ? "stopped on request" : "seen enough"));
        }
        for (const DeferredDevice * const device : lanes.deferred) CHECK(device->used() == 0);
    }
}

// The state between two blocks, as a caller keeps it.
struct KeptState {
    std::string rows;
    std::vector<std::string> statistics; // by variant
};

TEST_CASE("a pass goes on after a block: in other lanes, batches, ranges and places, to the same bytes") {
    const auto texts = make_texts(lengths);
    constexpr int32_t after = 3;
    LanesComparison c("d");
    PassOptions options = all_experts();
    KeptState kept;
    const auto keep = [&](LayerPass & pass, PassHooks & hooks) {
        hooks.on_layer = [&](int32_t layers) -> Status {
            if (layers != after) return {};
            for (size_t v = 0; v < c.remote.variants().size(); v++)
                kept.statistics.push_back(pass.statistics(v).packed());
            return pass.save_rows([&](const void * data, uint64_t bytes) {
                kept.rows.append(static_cast<const char *>(data), bytes);
                return Status();
            });
        };
        CHECK(pass.row_bytes() > 0);
    };
    c.remote.change_hooks = keep;
    const Outcome expected = c.remote.run(texts, options);
    REQUIRE(!kept.rows.empty());
    const KeptState first = std::move(kept);
    const auto check_goes_on = [&](Fixture & f, const PassOptions & with) {
        f.change_hooks = [&](LayerPass & pass, PassHooks & hooks) {
            CHECK(pass.row_bytes() == first.rows.size());
            hooks.first_layer = after;
            hooks.restore = [&]() -> Status {
                for (size_t v = 0; v < first.statistics.size(); v++)
                    GNV_TRY(pass.restore_statistics(v, first.statistics[v]));
                size_t at = 0;
                return pass.restore_rows([&](void * data, uint64_t bytes) {
                    memcpy(data, first.rows.data() + at, bytes);
                    at += bytes;
                    return Status();
                });
            };
        };
        const Result<Outcome> found = f.try_run(texts, with);
        REQUIRE_MESSAGE(found.ok(), found.status().message());
        for (size_t v = 0; v < expected.values.size(); v++) {
            CHECK(found.value().statistics[v] == expected.statistics[v]);
            CHECK(found.value().values[v].count("layer.2") == 0);
            for (const auto & [tap, bytes] : found.value().values[v])
                CHECK_MESSAGE(bytes == expected.values[v].at(tap), "variant ", v, " ", tap);
        }
        f.change_hooks = {};
    };
    for (const char * const kinds : {"d", "ddd", "cd"}) {
        CAPTURE(kinds);
        LanesComparison other(kinds);
        options.batch_positions = 70;
        check_goes_on(other.remote, options);
    }
    // Hidden states in host memory, then in a file, with ranges of experts.
    const ScratchFolder scratch;
    PassOptions small = all_experts();
    small.device = 1;
    small.device = smallest_budget(c.remote.create(texts, small).take_status());
    check_goes_on(c.remote, small);
    small.scratch_folder = scratch.path();
    small.host = 1;
    small.host = smallest_budget(c.remote.create(texts, small).take_status());
    check_goes_on(c.remote, small);
    check_goes_on(c.host, all_experts());
    // A state of another pass is refused.
    c.host.change_hooks = [&](LayerPass & pass, PassHooks & hooks) {
        hooks.first_layer = after;
        hooks.restore = [&] { return pass.restore_statistics(0, "too short"); };
    };
    CHECK(c.host.try_run(texts, all_experts()).status().code() == Code::format);
}

TEST_CASE("hooks see the weights of every lane; those of others come from the first one's memory, or from the host") {
    for (const bool connected : {true, false}) {
        Fixture f;
        Lanes lanes;
        lanes.give(f, "ddd");
        for (DeferredDevice * const device : lanes.deferred) device->connected = connected;
        const auto texts = make_texts(lengths);
        const auto pass = f.create(texts, everything()).take();
        PassHooks hooks;
        size_t seen = 0;
        uint64_t bytes = 0;
        hooks.on_group = [&](const PassGroup & group, const WeightGroup & host,
                             const std::vector<LaneWeights> & devices) -> Status {
            REQUIRE(devices.size() == 3);
            const WeightRef ref = weights_of(*f.variants().front().model, group.stages).front();
            const Tensor here = host.find(ref);
            std::vector<uint8_t> copy(tensor_bytes(here.dtype, here.shape));
            for (size_t i = 0; i < devices.size(); i++) {
                CHECK(devices[i].device == lanes.deferred[i]);
                devices[i].device->download(copy.data(), devices[i].group->find(ref).data, copy.size());
                GNV_TRY(devices[i].device->synchronize());
                CHECK(memcmp(copy.data(), here.data, copy.size()) == 0);
            }
            bytes += host.bytes();
            seen++;
            return {};
        };
        REQUIRE(pass->run(hooks).ok());
        CHECK(seen == pass->plan().groups.size());
        CHECK(lanes.deferred[0]->copied == 0);
        for (const size_t i : {size_t(1), size_t(2)}) {
            CHECK(lanes.deferred[i]->copied == (connected ? bytes : 0));
            CHECK((lanes.deferred[i]->uploads == 0) == connected); // none of weights
        }
    }
}

TEST_CASE("the host is one lane at most") {
    Fixture f;
    Lanes lanes;
    lanes.give(f, "cc");
    const Status refused = f.create(make_texts({5}), everything()).take_status();
    CHECK(refused.code() == Code::unsupported);
    CHECK(refused.message().find("one lane") != std::string::npos);
}
