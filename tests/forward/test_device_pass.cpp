// The pass on a device with memory of its own: what the CPU gives, to the bit, wherever hidden states are and however short
// memory is. The device is made of the CPU (deferred_device.h); test_cuda runs the same on a GPU.
#include "forward/deferred_device.h"
#include "forward/pass_fixture.h"
#include "verify/verify_fixture.h"

#include <chrono>
#include <set>
#include <thread>
#include <tuple>
#include <unistd.h>
#include <utility>

using namespace gnv;
using namespace gnv::test;

namespace {

DeferredDevice * give_device(Fixture & f) {
    auto device = std::make_unique<DeferredDevice>(*f.threads);
    DeferredDevice * const given = device.get();
    f.device = std::move(device);
    return given;
}

struct DeferredComparison : Comparison {
    DeferredDevice * device = nullptr;
    DeferredComparison() : Comparison(untripped_pair().quantized, Precision::f32) { device = give_device(remote); }
};

// A small model on the CPU and on a device, in two precisions, and texts of which some fill a batch.
struct SmallPair {
    SmallPair() {
        host.precisions = remote.precisions = {Precision::f32, Precision::bf16};
        device = give_device(remote);
    }
    const std::vector<TextSequence> texts = make_texts({130, 64, 200, 3, 700, 700, 700, 700}, 4000);
    const ScratchFolder scratch;
    const std::string model = written(scratch / "model");
    Fixture host{model}, remote{model};
    DeferredDevice * device = nullptr;

  private:
    static std::string written(const std::string & folder) {
        write_small_model(folder);
        return folder;
    }
};

// What hooks of a pass are promised of weights: in host memory they stay until before_reuse(), on the device until what
// on_group() queued is done.
struct WeightWatch {
    Fixture & f;
    LayerPass & pass;
    struct Seen {
        std::vector<uint8_t> host, device; // device: once what was queued is done
        const uint8_t * in_place = nullptr;
    };
    std::vector<std::unique_ptr<Seen>> seen = {};
    size_t checked = 0, reused = 0;
    int busy = 0; // how many times whoever was given weights says that it still reads them; 0: nobody asks
    int asked = 0, most_asked = 0;

    // Every group's first weight, which is read first and overwritten first, and its last.
    Status on_group(const PassGroup & group, const WeightGroup & host, const WeightGroup & device) {
        const std::vector<WeightRef> refs = weights_of(*f.variants().front().model, group.stages);
        for (const WeightRef & ref : {refs.front(), refs.back()}) {
            const Tensor here = host.find(ref), there = device.find(ref);
            seen.push_back(std::make_unique<Seen>());
            Seen & now = *seen.back();
            now.in_place = here.as<const uint8_t>();
            now.host.assign(now.in_place, now.in_place + tensor_bytes(here.dtype, here.shape));
            now.device.resize(now.host.size());
            f.device->download(now.device.data(), there.data, now.device.size());
        }
        return {};
    }
    Status before_reuse() {
        check_in_place();
        checked = seen.size();
        reused++;
        most_asked = std::max(most_asked, std::exchange(asked, 0));
        return {};
    }
    bool may_reuse() {
        check_in_place();
        return ++asked > busy;
    }
    void check_in_place() const { // nobody has read into them since on_group()
        for (size_t i = checked; i < seen.size(); i++)
            CHECK(memcmp(seen[i]->in_place, seen[i]->host.data(), seen[i]->host.size()) == 0);
    }
    void run() {
        PassHooks hooks;
        hooks.on_group = [&](const PassGroup & group, const WeightGroup & host,
                             const std::vector<LaneWeights> & devices) {
            return on_group(group, host, *devices.front().group);
        };
        hooks.before_reuse = [&] { return before_reuse(); };
        if (busy > 0) hooks.may_reuse = [&] { return may_reuse(); };
        const Status done = pass.run(hooks);
        REQUIRE_MESSAGE(done.ok(), done.message());
        REQUIRE(f.device->synchronize().ok());
        check_in_place();
        CHECK(seen.size() == 2 * pass.plan().groups.size());
        CHECK(reused > 0);
        for (const auto & now : seen) CHECK(now->device == now->host);
    }
};

} // namespace

TEST_CASE("variants of two checkpoints on a device: values, rows, logits and statistics are the CPU's") {
    DeferredComparison c;
    const auto texts = make_texts({70, 1, 64, 65, 7, 90});
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
        CHECK(c.device->peak() <= found.plan.device.used() - device_context_bytes);
        CHECK(c.device->host_peak() <= found.plan.host.used());
    }
}

TEST_CASE("pads and packed texts on a device") {
    Fixture host, remote;
    give_device(remote);
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
    SmallPair pair;
    Fixture &host = pair.host, &remote = pair.remote;
    DeferredDevice & device = *pair.device;
    const std::vector<TextSequence> & texts = pair.texts;
    PassOptions options = everything();
    options.head = false; // its weights would be the largest group
    const Outcome expected = host.run(texts, options), wide = remote.run(texts, options);
    check_same(wide, expected);
    CHECK(wide.plan.store_place == StorePlace::device);

    options.scratch_folder = pair.scratch.path();
    const auto refused = [&](uint64_t on_device, uint64_t on_host) {
        options.device = on_device;
        options.host = on_host;
        const Status status = remote.create(texts, options).take_status();
        CHECK(status.code() == Code::out_of_memory);
        return smallest_budget(status);
    };
    const uint64_t least = refused(1, 1 << 30), host_least = refused(uint64_t(1) << 40, 1);
    refused(least - 1, 1 << 30);
    refused(uint64_t(1) << 40, host_least - 1);
    std::set<std::pair<StorePlace, int>> seen; // of hidden states, and with how many buffers for weights
    const uint64_t most = wide.plan.device.used(),
                   host_most = wide.plan.host.used() + wide.plan.device.reserved("hidden states");
    for (int step = 0; step <= 8; step++)
        for (const uint64_t on_host : {host_least, host_least + (host_most - host_least) / 4, host_most}) {
            options.device = least + (most - least) * uint64_t(step * step) / 64;
            options.host = on_host;
            Result<std::unique_ptr<LayerPass>> pass = remote.create(texts, options);
            if (!pass.ok()) continue; // the least of each need not do together
            const PassPlan & plan = pass.value()->plan();
            CHECK(plan.device.used() <= options.device.total());
            CHECK(plan.host.used() <= options.host.total());
            if (!seen.insert({plan.store_place, plan.weight_buffers}).second && step > 0) continue;
            CAPTURE(place_name(plan.store_place));
            CAPTURE(plan.weight_buffers);
            for (const bool eager : {false, true}) {
                device.eager_copies = eager;
                check_same(remote.run(texts, options), expected);
                CHECK(device.used() == 0);
            }
        }
    CHECK(seen.size() == 4); // every place, and the device's with both
}

TEST_CASE("logits with hidden states in every place") {
    const ScratchFolder scratch;
    DeferredComparison c;
    const auto texts = make_texts({70, 33, 64});
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
        DeferredDevice & device = *give_device(remote);
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
            PassOptions joined = options; // the first pass sees it in a maximum, and looks for it in the parts
            joined.statistics = all_experts().statistics;
            device.joins = true;
            CHECK(failure(remote, texts, joined) == expected);
            device.joins = false;
            options.device = 1; // experts in parts, hidden states outside
            options.device = smallest_budget(remote.create(texts, options).take_status());
            CHECK(failure(remote, texts, options) == expected);
        }
    }
}

// Trained weights, and texts of which some batches are short; then the experts in ranges.
TEST_CASE("inputs of experts as one op, screened or not: the statistics of its parts") {
    std::vector<int32_t> ids = GoldenFile("text.safetensors").ints("text700.input_ids");
    std::vector<TextSequence> texts(3);
    for (const auto & [text, begin, end] : {std::tuple(0, 0, 90), {1, 90, 91}, {2, 91, 160}})
        texts[size_t(text)].ids.assign(ids.begin() + begin, ids.begin() + end);
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        Fixture host, remote;
        host.precisions = remote.precisions = {precision};
        DeferredDevice & device = *give_device(remote);
        PassOptions options = all_experts();
        options.batch_positions = 91;
        const Outcome expected = host.run(texts, options);
        for (const Screening screening : {Screening::off, Screening::on}) {
            options.screening = screening;
            device.joins = true;
            check_same(remote.run(texts, options), expected);
        }
        device.joins = false;
        options.device = 1;
        options.device = smallest_budget(remote.create(texts, options).take_status());
        device.joins = true;
        if (remote.create(texts, options).ok()) check_same(remote.run(texts, options), expected);
    }
}

TEST_CASE("memory that was free when the pass was planned is taken when it starts") {
    const ScratchFolder scratch;
    Fixture host, remote;
    DeferredDevice & device = *give_device(remote);
    const auto texts = make_texts({300, 200, 200});
    PassOptions options = everything();
    const Outcome expected = host.run(texts, options), wide = remote.run(texts, options);
    options.scratch_folder = scratch.path();
    device.memory = wide.plan.device.used();
    device.taken = device_context_bytes + wide.plan.device.reserved("hidden states") / 2;
    const Outcome tight = remote.run(texts, options);
    CHECK(tight.plan.device.used() < wide.plan.device.used());
    check_same(tight, expected);
    device.taken = device.memory - 1000;
    const Status hopeless = remote.try_run(texts, options).take_status();
    CHECK(hopeless.code() == Code::out_of_memory);
    CHECK_MESSAGE(hopeless.message().find("in use now") != std::string::npos, hopeless.message());
    device.taken = 0;
    device.host_memory = wide.plan.host.used();
    device.host_taken = wide.plan.host.reserved("weights") / 4;
    check_same(remote.run(texts, options), expected);
}

TEST_CASE("one buffer for weights on the device or two: the same bytes, and no other plan") {
    for (const bool eager : {false, true}) {
        CAPTURE(eager);
        DeferredComparison c;
        c.keep(0, 2);
        c.device->eager_copies = eager;
        const auto texts = make_texts({70, 1, 65});
        PassOptions options = everything();
        options.batch_positions = 80;
        const Outcome expected = c.host.run(texts, options);
        const Outcome two = c.remote.run(texts, options);
        CHECK(two.plan.weight_buffers == 2);
        CHECK(two.plan.device.reserved("weights") == 2 * two.plan.weight_bytes);
        check_same(two, expected);
        options.device = two.plan.device.used();
        CHECK(c.remote.create(texts, options).value()->plan().weight_buffers == 2);
        // Whether the second fits or not, everything else is as with all memory there is.
        for (const uint64_t lacking : {uint64_t(1), two.plan.weight_bytes}) {
            options.device = two.plan.device.used() - lacking;
            c.device->reset_peaks();
            const Outcome one = c.remote.run(texts, options);
            CHECK(one.plan.weight_buffers == 1);
            CHECK(one.plan.device.used() == two.plan.device.used() - two.plan.weight_bytes);
            CHECK(one.plan.host.used() == two.plan.host.used());
            CHECK(one.plan.store_place == two.plan.store_place);
            CHECK(one.plan.groups.size() == two.plan.groups.size());
            CHECK(one.plan.head_positions == two.plan.head_positions);
            CHECK(c.device->peak() <= one.plan.device.used() - device_context_bytes);
            check_same(one, expected);
        }
        // The smallest sufficient budget is with one.
        const Outcome least = run_on_host(c.remote, texts, options);
        CHECK(least.plan.weight_buffers == 1);
        check_same(least, expected);
    }
}

TEST_CASE("weights and rows of batches come through one queue") {
    SmallPair pair;
    Fixture &host = pair.host, &remote = pair.remote;
    DeferredDevice & device = *pair.device;
    const std::vector<TextSequence> & texts = pair.texts;
    PassOptions options = everything();
    options.head = false;
    options.batch_positions = 700;
    options.scratch_folder = pair.scratch.path();
    const Outcome expected = host.run(texts, options), wide = remote.run(texts, options);
    check_same(wide, expected);
    CHECK(wide.plan.batches.size() == 5);
    // Too little for the rows of all batches: then there is room for a second buffer.
    options.device = wide.plan.device.used() - wide.plan.weight_bytes - 1;
    const uint64_t most_on_host = wide.plan.host.used() + wide.plan.device.reserved("hidden states");
    for (const bool eager : {false, true})
        for (const auto & [place, ram_bytes] : {std::pair(StorePlace::host, most_on_host),
                                                std::pair(StorePlace::file, wide.plan.host.used() + 500'000)}) {
            CAPTURE(eager);
            CAPTURE(place_name(place));
            device.eager_copies = eager;
            options.host = ram_bytes;
            const Outcome found = remote.run(texts, options);
            CHECK(found.plan.store_place == place);
            CHECK(found.plan.weight_buffers == 2);
            CHECK(found.plan.batches.size() == 5);
            check_same(found, expected);
        }
}

TEST_CASE("weights stay where hooks saw them, on the host and on the device, as long as they may look") {
    DeferredComparison c;
    const auto texts = make_texts({70, 64, 130});
    for (const bool eager : {false, true})
        for (const int buffers : {2, 1}) {
            CAPTURE(eager);
            CAPTURE(buffers);
            c.device->eager_copies = eager;
            PassOptions options = everything();
            options.batch_positions = 100;
            const auto wide = c.remote.create(texts, options).take();
            options.device = wide->plan().device.used() - (buffers == 1 ? 1 : 0);
            const auto pass = c.remote.create(texts, options).take();
            CHECK(pass->plan().weight_buffers == buffers);
            WeightWatch{c.remote, *pass}.run();
        }
}

// Three batches for each of the two variants that share a checkpoint: asked before them and after each, but not after the last.
TEST_CASE("the next group computes while somebody still reads the weights of the last") {
    DeferredComparison c;
    const auto texts = make_texts({70, 64, 130});
    PassOptions options = everything();
    options.batch_positions = 100;
    for (const auto & [busy, asked] : {std::pair<int, int>{1, 2}, {3, 4}, {1000, 6}}) {
        CAPTURE(busy);
        const auto pass = c.remote.create(texts, options).take();
        CHECK(pass->plan().batches.size() == 3);
        WeightWatch watch{c.remote, *pass};
        watch.busy = busy;
        watch.run();
        CHECK(watch.most_asked == asked);
    }
    check_same(c.remote.run(texts, options), c.host.run(texts, options));
}

TEST_CASE("the plan says how many buffers there are for weights on the device") {
    DeferredComparison c;
    const auto texts = make_texts({70});
    PassOptions options = everything();
    for (const int buffers : {2, 1}) {
        const auto pass = c.remote.create(texts, options).take();
        const PassPlan & plan = pass->plan();
        CHECK(plan.weight_buffers == buffers);
        const std::string text = pass_plan_text(plan, c.device->device());
        CHECK((text.find("one at a time, the next copied while one computes") != std::string::npos) == (buffers == 2));
        const Json json = Json::parse(pass_plan_json(plan, c.device->device()));
        CHECK(json.at("weight_buffers") == buffers);
        CHECK(json.at("device").at("weights") == uint64_t(buffers) * plan.weight_bytes);
        CHECK(json.at("host").at("weights") == 2 * plan.weight_bytes);
        options.device = plan.device.used() - 1;
    }
}

TEST_CASE("a pass ends in its middle, with copies of weights under way") {
    const ScratchFolder scratch;
    write_small_model(scratch / "model");
    const auto texts = make_texts({130, 64, 200});
    for (const bool eager : {false, true})
        for (const char * const how : {"read", "hook", "progress"}) {
            CAPTURE(eager);
            CAPTURE(how);
            const std::string folder = scratch / concat("model-", eager, "-", how);
            write_small_model(folder);
            Fixture f(folder);
            DeferredDevice & device = *give_device(f);
            device.eager_copies = eager;
            PassOptions options = everything();
            options.batch_positions = 100;
            {
                const auto pass = f.create(texts, options).take();
                CHECK(pass->plan().weight_buffers == 2);
                size_t groups = 0;
                int64_t waited_at = -1;
                // After each batch: the next weights are read while it sleeps, and sent beside the batches that follow.
                const auto wait = [] { std::this_thread::sleep_for(std::chrono::milliseconds(100)); };
                PassHooks hooks;
                hooks.on_group = [&](const PassGroup &, const WeightGroup &,
                                     const std::vector<LaneWeights> &) -> Status {
                    if (++groups != 2) return {};
                    CHECK(device.uploads > 2); // of the next group's weights, beside those of the first two
                    if (how == std::string("hook")) return Status(Code::bad_value, "seen enough");
                    if (how == std::string("read"))
                        for (const DirectoryEntry & entry : list_directory(folder).take())
                            if (ends_with(entry.name, ".safetensors"))
                                REQUIRE(truncate(join_path(folder, entry.name).c_str(), 100) == 0);
                    return {};
                };
                hooks.progress = [&](const PassProgress & now) {
                    if (now.group == 1 && std::exchange(waited_at, now.positions) != now.positions) wait();
                    return how != std::string("progress") || now.group < 2;
                };
                const Status status = pass->run(hooks);
                CAPTURE(status.message());
                CHECK(!status.ok());
                if (how == std::string("hook")) CHECK(status.message() == "seen enough");
                if (how == std::string("progress")) CHECK(status.code() == Code::cancelled);
                if (how == std::string("read")) {
                    CHECK(status.message().find(".safetensors") != std::string::npos);
                    CHECK(status.message().find("model.language_model.") != std::string::npos);
                    CHECK(groups >= 2);
                }
                CHECK((device.waiting(Queue::upload) > 0) == !eager);
            }
            CHECK(device.used() == 0); // and freed when nothing was under way, which the device checks
        }
}

TEST_CASE("memory for the second buffer is taken before the pass starts: one has to do, all else is as planned") {
    Fixture host, remote;
    DeferredDevice & device = *give_device(remote);
    const auto texts = make_texts({300, 200, 200});
    const PassOptions options = everything();
    const Outcome expected = host.run(texts, options), wide = remote.run(texts, options);
    device.memory = wide.plan.device.used();
    device.taken = device_context_bytes + wide.plan.weight_bytes / 2;
    const Outcome found = remote.run(texts, options);
    CHECK(found.plan.weight_buffers == 1);
    CHECK(found.plan.device.used() == wide.plan.device.used() - wide.plan.weight_bytes);
    CHECK(found.plan.store_place == wide.plan.store_place);
    CHECK(found.plan.batches.size() == wide.plan.batches.size());
    check_same(found, expected);
}
