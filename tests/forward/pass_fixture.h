// Forward passes over made-up texts, and all that they give.
#pragma once

#include "budget_message.h"
#include "faults/small_model.h"
#include "forward/forward_fixture.h"
#include "models/qwen35_names.h"
#include "pass/layer_pass.h"

#include <cstring>
#include <doctest/doctest.h>
#include <map>
#include <string>
#include <vector>

namespace gnv::test {

inline std::vector<int32_t> text_ids(int64_t length, int32_t vocabulary, uint32_t seed) {
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < length; t++) {
        seed = seed * 1664525 + 1013904223;
        ids.push_back(int32_t((seed >> 8) % uint32_t(vocabulary)));
    }
    return ids;
}

inline std::vector<TextSequence> make_texts(const std::vector<int64_t> & lengths, int32_t vocabulary = 4000) {
    std::vector<TextSequence> out;
    for (const int64_t length : lengths) {
        TextSequence text;
        text.ids = text_ids(length, vocabulary, uint32_t(out.size() * 977 + 1));
        out.push_back(text);
    }
    return out;
}

// All that a pass gives: bytes of every row of some taps and of the logits, for all positions in order, and statistics.
struct Outcome {
    std::vector<std::map<std::string, std::string>> values; // by variant, by tap
    std::vector<StatisticSet> statistics;                   // by variant
    std::map<StatisticKey, std::string> given_away;         // totals of the first variant that are not kept
    PassPlan plan;
    size_t groups_seen = 0;
};

inline void check_same(const Outcome & found, const Outcome & expected) {
    REQUIRE(found.values.size() == expected.values.size());
    CHECK(found.given_away == expected.given_away);
    for (size_t v = 0; v < expected.values.size(); v++) {
        CHECK(found.statistics[v] == expected.statistics[v]);
        REQUIRE(found.values[v].size() == expected.values[v].size());
        for (const auto & [tap, bytes] : expected.values[v])
            CHECK_MESSAGE(found.values[v].at(tap) == bytes, "variant ", v, " ", tap);
    }
}

struct Fixture {
    explicit Fixture(const std::string & folder = tiny_folder) : model(open_model(folder)) {}
    std::unique_ptr<OpenModel> model;
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(2).take();
    std::unique_ptr<Backend> device = open_cpu(*threads);
    std::vector<Backend *> more_devices; // lanes beside that of `device`
    std::vector<Precision> precisions = {Precision::f32};
    std::vector<TextVariant> given;                             // instead of the model in these precisions
    std::function<void(LayerPass &, PassHooks &)> change_hooks; // of a run; empty: not

    std::vector<TextVariant> variants() const {
        std::vector<TextVariant> list = given;
        if (!given.empty()) return list;
        for (const Precision precision : precisions) list.push_back(model->variant(precision));
        return list;
    }
    Result<std::unique_ptr<LayerPass>> create(const std::vector<TextSequence> & texts, const PassOptions & options) {
        std::vector<Backend *> devices = {device.get()};
        devices.insert(devices.end(), more_devices.begin(), more_devices.end());
        return LayerPass::create(variants(), devices, *threads, texts, options);
    }
    Result<Outcome> try_run(const std::vector<TextSequence> & texts, const PassOptions & options) {
        GNV_ASSIGN(const std::unique_ptr<LayerPass> pass, create(texts, options));
        Outcome outcome;
        outcome.plan = pass->plan();
        const size_t count = variants().size();
        outcome.values.resize(count);
        const auto keep = [&](size_t variant, int64_t begin, const std::string & name, const Tensor & tensor) {
            const auto rows = uint64_t(tensor.shape[0]);
            const uint64_t row_bytes = uint64_t(tensor.shape.elements()) * 4 / rows;
            std::string & bytes = outcome.values[variant][name];
            bytes.resize(uint64_t(outcome.plan.store.positions) * row_bytes, '?');
            memcpy(bytes.data() + uint64_t(begin) * row_bytes, tensor.data, rows * row_bytes);
        };
        std::map<std::pair<StatisticKey, int32_t>, std::string> lanes_agree;
        PassHooks hooks;
        hooks.on_tap = [&](size_t variant, const PassBatch & batch, const Tap & tap, const Tensor & tensor) -> Status {
            using namespace qwen35;
            if (tap.site != site_block && tap.site != site_mlp_gate_1 && tap.site != site_mlp_gate_2) return {};
            CHECK(tensor.shape[0] == batch.positions);
            keep(variant, batch.begin, tap_name(names, tap), tensor);
            return {};
        };
        hooks.on_logits = [&](int64_t first, const std::vector<Tensor> & logits) -> Status {
            for (size_t v = 0; v < logits.size(); v++) keep(v, first, "logits", logits[v]);
            return {};
        };
        hooks.on_statistics = [&](size_t variant, const PassGroup &, const StatisticWindow & window) -> Status {
            for (const StatisticWindow::Total & total : window.totals()) {
                if (variant > 0 || total.key.statistic->is_kept) continue;
                const Tensor & part = total.tensor;
                const uint64_t bytes = tensor_bytes(part.dtype, part.shape), each = bytes / uint64_t(part.shape[0]);
                const int64_t groups = pass->statistics(variant).totals().at(total.key).shape[0];
                std::string & all = outcome.given_away[total.key];
                all.resize(uint64_t(groups) * each, '?');
                // Each lane's window has the totals of all.
                std::string here(bytes, '?');
                window.backend().download(here.data(), part.data, bytes);
                GNV_TRY(window.backend().synchronize());
                std::string & before = lanes_agree[{total.key, total.first_group}];
                CHECK((before.empty() || before == here));
                before = here;
                memcpy(all.data() + uint64_t(total.first_group) * each, here.data(), bytes);
            }
            return {};
        };
        hooks.on_group = [&](const PassGroup & group, const WeightGroup &, const std::vector<LaneWeights> &) -> Status {
            outcome.groups_seen++;
            if (group.stages.back().kind != StageKind::combine) return {};
            const int64_t positions = pass->plan().store.positions, hidden = model->model->sizes().hidden;
            std::vector<float> memory(size_t(positions * hidden));
            for (size_t v = 0; v < count; v++) { // in two pieces
                const int64_t half = positions / 2;
                for (const auto & [first, rows] : {std::pair(int64_t(0), half), std::pair(half, positions - half)}) {
                    Tensor tensor;
                    tensor.shape = {rows, hidden};
                    GNV_ASSIGN(const void * const found, pass->rows(v, hidden_field, first, rows, memory.data()));
                    tensor.data = const_cast<void *>(found);
                    keep(v, first, concat("rows after layer ", layer_of(group)), tensor);
                }
            }
            return {};
        };
        if (change_hooks) change_hooks(*pass, hooks);
        GNV_TRY(pass->run(hooks));
        outcome.plan = pass->plan();
        for (size_t v = 0; v < count; v++) outcome.statistics.push_back(pass->statistics(v));
        return outcome;
    }
    Outcome run(const std::vector<TextSequence> & texts, const PassOptions & options) {
        Result<Outcome> outcome = try_run(texts, options);
        REQUIRE_MESSAGE(outcome.ok(), outcome.status().message());
        CHECK(outcome.value().groups_seen == outcome.value().plan.groups.size());
        return outcome.take();
    }
};

// A copy of the small checkpoint with a NaN in it.
inline std::string save_with_nan(const std::string & folder, const std::string & tensor, size_t element) {
    std::vector<MemoryTensor> tensors = load_tensors(tiny_folder);
    constexpr uint16_t nan = 0x7fc0;
    memcpy(&find_tensor(tensors, "model.language_model." + tensor).data[element * sizeof nan], &nan, sizeof nan);
    REQUIRE(make_directory(folder).ok());
    save_tensors(folder, tensors, 1);
    copy_other_files(tiny_folder, folder);
    return folder;
}
// Where a NaN shows: in the input of the first block, behind attention, inside of an expert.
inline std::vector<std::string> save_models_with_nan(const ScratchFolder & scratch, int32_t token) {
    return {save_with_nan(scratch / "embedding", "embed_tokens.weight", size_t(token) * 256 + 3),
            save_with_nan(scratch / "value", "layers.3.self_attn.v_proj.weight", 300),
            save_with_nan(scratch / "expert", "layers.3.mlp.experts.gate_up_proj", size_t(5) * 128 * 256 + 70 * 256)};
}
inline std::string failure(Fixture & f, const std::vector<TextSequence> & texts, const PassOptions & options) {
    const Status status = f.try_run(texts, options).take_status();
    CHECK(status.code() == Code::bad_value);
    return status.message();
}

// What a comparison runs: the source, its inputs in NVFP4, the quantized checkpoint in both ways.
struct Comparison {
    std::unique_ptr<OpenModel> quantized;
    InputScales scales;
    Fixture host, remote; // remote: its device is the caller's to set

    Comparison(const std::string & folder, Precision precision) : quantized(open_model(folder)) {
        scales = InputScales::read(quantized->weights, quantized->files).take();
        TextVariant source = host.model->variant(precision), activations = source;
        TextVariant w4a16 = quantized->variant(precision), w4a4 = w4a16;
        activations.quantize_inputs = w4a4.quantize_inputs = true;
        activations.input_scales = &scales;
        activations.observe = w4a16.observe = false;
        host.given = remote.given = {source, activations, w4a4, w4a16};
    }
    // Two variants in place of four.
    void keep(size_t first, size_t second) {
        for (Fixture * const f : {&host, &remote}) f->given = {f->given[first], f->given[second]};
    }
};

inline PassOptions all_experts() {
    PassOptions options;
    options.statistics = {{&Statistic::maximum}, {&Statistic::tokens}};
    options.expert_tokens = ExpertTokens::all;
    options.head = true;
    return options;
}

inline PassOptions everything() {
    PassOptions options = all_experts();
    options.statistics.push_back({&Statistic::magnitudes});
    return options;
}

inline uint64_t smallest_budget(const Status & failure) { return smallest_budget(failure.message()); }

// Runs with the smallest sufficient device memory, and leaves it in `options`: hidden states are in host memory then.
inline Outcome run_on_host(Fixture & f, const std::vector<TextSequence> & texts, PassOptions & options) {
    options.device = 1;
    options.device = smallest_budget(f.create(texts, options).take_status());
    Outcome outcome = f.run(texts, options);
    CHECK(outcome.plan.store_place == StorePlace::host);
    return outcome;
}

// The same with the least host memory: they are in a file of the folder then.
inline Outcome run_in_file(Fixture & f, const std::vector<TextSequence> & texts, PassOptions & options,
                           const std::string & folder) {
    options.scratch_folder = folder;
    options.host = 1;
    options.host = smallest_budget(f.create(texts, options).take_status());
    Outcome outcome = f.run(texts, options);
    CHECK(outcome.plan.store_place == StorePlace::file);
    return outcome;
}

} // namespace gnv::test
