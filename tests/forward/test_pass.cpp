// The layer-major pass: what it gives for a position depends neither on batches nor on groups of weights nor on where hidden
// states are kept.
#include "forward/pass_fixture.h"

#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

// Experts that are in memory together.
int32_t experts_at_once(const PassPlan & plan) {
    int32_t most = 0;
    for (const PassGroup & group : plan.groups)
        for (const Stage & stage : group.stages)
            if (stage.kind == StageKind::experts) most = std::max(most, stage.expert_count);
    return most;
}

// Rows of [positions] of a value.
std::string rows(const std::string & bytes, int64_t positions, int64_t first, int64_t count) {
    const size_t row = bytes.size() / size_t(positions);
    return bytes.substr(size_t(first) * row, size_t(count) * row);
}

} // namespace

TEST_CASE("batches of any composition, statistics and values") {
    Fixture f;
    const auto texts = make_texts({70, 1, 63, 64, 65, 7, 130});
    for (const ExpertTokens tokens : {ExpertTokens::all, ExpertTokens::routed}) {
        PassOptions options = all_experts();
        options.expert_tokens = tokens;
        const Outcome expected = f.run(texts, options);
        REQUIRE(expected.values[0].size() == 2 * 8 + 2 * 8 + 1);
        for (const int64_t positions : {1, 100, 300, 100000}) {
            CAPTURE(positions);
            options.batch_positions = positions;
            const Outcome found = f.run(texts, options);
            CHECK(found.plan.batches.size() == (positions == 1        ? 7u
                                                : positions == 100000 ? 1u
                                                : positions == 100    ? 5u
                                                                      : 2u));
            check_same(found, expected);
        }
    }
}

TEST_CASE("a batch of many short texts after one long text of as many positions") {
    Fixture f;
    std::vector<int64_t> lengths = {300};
    lengths.insert(lengths.end(), 290, 1);
    const auto texts = make_texts(lengths);
    for (const ExpertTokens tokens : {ExpertTokens::all, ExpertTokens::routed}) {
        PassOptions options = all_experts();
        options.expert_tokens = tokens;
        options.batch_positions = 300;
        const Outcome found = f.run(texts, options);
        CHECK(found.plan.batches.size() == 2);
        options.batch_positions = 7;
        check_same(f.run(texts, options), found);
    }
}

// Attention's list of tasks is what such a model needs most memory for, and grows with the texts of a batch.
TEST_CASE("memory is planned for the batch with the most texts, not only for that with the most positions") {
    const ScratchFolder scratch;
    const std::string config = R"({
      "architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "hidden_size": 16, "vocab_size": 64,
      "num_hidden_layers": 1, "layer_types": ["full_attention"], "num_attention_heads": 1, "num_key_value_heads": 1,
      "head_dim": 64, "intermediate_size": 16, "linear_num_key_heads": 1, "linear_num_value_heads": 1,
      "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "tie_word_embeddings": true,
      "rope_parameters": {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.25,
                          "mrope_section": [4, 2, 2]}
    })";
    SyntheticOptions layout;
    layout.layout.nested_prefix = layout.layout.with_vision = layout.layout.with_mtp = false;
    const auto made = write_synthetic_checkpoint(config, scratch / "model", layout);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    Fixture f(scratch / "model");
    std::vector<int64_t> lengths = {8192};
    lengths.insert(lengths.end(), 8192, 1);
    PassOptions options;
    options.batch_positions = 8192;
    const Outcome found = f.run(make_texts(lengths, 64), options);
    CHECK(found.plan.batches.size() == 2);
}

TEST_CASE("smaller and smaller budgets: hidden states in a file, experts in ranges") {
    const ScratchFolder scratch;
    write_small_model(scratch / "model");
    for (const std::string & folder : {tiny_folder, scratch / "model"}) {
        for (const ExpertTokens tokens : {ExpertTokens::all, ExpertTokens::routed}) {
            Fixture f(folder);
            const auto texts = make_texts({130, 64, 200, 3}, 4000);
            PassOptions options = all_experts();
            options.expert_tokens = tokens;
            options.head = false; // its weights would be the largest group
            const Outcome expected = f.run(texts, options);
            CHECK(expected.plan.store_place == StorePlace::host);
            const auto experts = int32_t(f.model->model->sizes().experts);
            CHECK(experts_at_once(expected.plan) == experts);

            options.scratch_folder = scratch.path();
            options.host = 1;
            const Status refused = f.create(texts, options).take_status();
            CHECK(refused.code() == Code::out_of_memory);
            const uint64_t smallest = smallest_budget(refused), largest = expected.plan.host.used();
            REQUIRE(smallest < largest);
            options.host = smallest - 1;
            CHECK(f.create(texts, options).status().code() == Code::out_of_memory);
            std::set<std::pair<bool, int32_t>> seen;
            for (int step = 0; step <= 24; step++) {
                options.host = smallest + (largest - smallest) * uint64_t(step) * uint64_t(step) / (24 * 24);
                Result<std::unique_ptr<LayerPass>> pass = f.create(texts, options);
                REQUIRE_MESSAGE(pass.ok(), pass.status().message());
                const PassPlan & plan = pass.value()->plan();
                CHECK(plan.host.used() <= options.host.total());
                if (!seen.insert({plan.store_place == StorePlace::file, experts_at_once(plan)}).second) continue;
                CAPTURE(place_name(plan.store_place));
                CAPTURE(experts_at_once(plan));
                check_same(f.run(texts, options), expected);
            }
            bool in_file = false, in_memory = false, ranges = false;
            for (const auto & [file, count] : seen) {
                (file ? in_file : in_memory) = true;
                ranges |= count < experts;
            }
            CHECK(in_file);
            CHECK(in_memory);
            CHECK(ranges);
        }
    }
}

TEST_CASE("two variants in one pass give what each gives alone") {
    const ScratchFolder scratch;
    const auto texts = make_texts({70, 33, 129});
    Fixture f32, bf16, both;
    bf16.precisions = {Precision::bf16};
    both.precisions = {Precision::f32, Precision::bf16};
    const Outcome a = f32.run(texts, all_experts()), b = bf16.run(texts, all_experts());
    CHECK(a.values[0].at("logits") != b.values[0].at("logits"));
    Outcome expected;
    for (const Outcome * one : {&a, &b}) {
        expected.values.push_back(one->values[0]);
        expected.statistics.push_back(one->statistics[0]);
    }
    PassOptions options = all_experts();
    const Outcome together = both.run(texts, options);
    check_same(together, expected);
    CHECK(together.plan.host.reserved("hidden states") == 2 * a.plan.host.reserved("hidden states"));
    options.scratch_folder = scratch.path(); // a file each
    options.batch_positions = 70;
    options.host = 1;
    options.host = smallest_budget(both.create(texts, options).status());
    const Outcome tight = both.run(texts, options);
    CHECK(tight.plan.store_place == StorePlace::file);
    check_same(tight, expected);
}

TEST_CASE("texts packed into one sequence see nothing of each other") {
    Fixture f;
    const auto texts = make_texts({70, 1, 64, 90});
    const Outcome expected = f.run(texts, all_experts());
    TextSequence packed;
    for (const TextSequence & text : texts) {
        packed.segments.push_back(int32_t(packed.ids.size()));
        packed.ids.insert(packed.ids.end(), text.ids.begin(), text.ids.end());
    }
    check_same(f.run({packed}, all_experts()), expected);
}

TEST_CASE("pads after a text change nothing before them and are no tokens") {
    Fixture f;
    const auto texts = make_texts({70, 129, 3});
    std::vector<TextSequence> padded = texts;
    for (TextSequence & text : padded) {
        text.mask.assign(text.ids.size(), 1);
        text.ids.resize(200, 17);
        text.mask.resize(200, 0);
    }
    const Outcome expected = f.run(texts, all_experts()), found = f.run(padded, all_experts());
    int64_t begin = 0;
    for (size_t i = 0; i < texts.size(); i++) {
        for (const auto & [tap, bytes] : expected.values[0])
            CHECK_MESSAGE(rows(found.values[0].at(tap), 600, int64_t(i) * 200, texts[i].length()) ==
                              rows(bytes, 202, begin, texts[i].length()),
                          tap);
        begin += texts[i].length();
    }
    REQUIRE(found.statistics[0].same_shapes(expected.statistics[0]));
    for (const auto & [key, total] : expected.statistics[0].totals()) { // pads are looked at, but not counted
        const StatisticTotal & with_pads = found.statistics[0].totals().at(key);
        if (key.statistic == &Statistic::tokens) CHECK(with_pads.words == total.words);
        if (key.statistic != &Statistic::maximum) continue;
        for (int64_t g = 0; g < total.shape[0]; g++) CHECK(with_pads.as<float>()[g] >= total.as<float>()[g]);
    }
}

TEST_CASE("sequences that no pass can take") {
    Fixture f;
    const auto refusal = [&](const TextSequence & bad) {
        std::vector<TextSequence> texts = make_texts({5});
        texts.push_back(bad);
        return f.create(texts, all_experts()).take_status();
    };
    const auto expect = [&](const TextSequence & bad, const std::string & part) {
        const Status status = refusal(bad);
        CHECK(status.code() == Code::invalid_argument);
        CHECK_MESSAGE(status.message().find("sequence 1") != std::string::npos, status.message());
        CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.message());
    };
    TextSequence bad;
    expect(bad, "is empty");
    bad.ids = {1, 2, 4096};
    expect(bad, "position 2: token 4096 is not in the vocabulary of 4096");
    bad.ids = {1, -1};
    expect(bad, "token -1");
    bad.ids.assign(32769, 1);
    expect(bad, "32769 positions, the model has 32768");
    bad.ids.assign(10, 1);
    bad.mask.assign(9, 1);
    expect(bad, "a mask of 9");
    bad.mask.clear();
    bad.segments = {1, 5};
    expect(bad, "segments must begin at 0");
    bad.segments = {0, 5, 5};
    expect(bad, "segments must begin at 0");
    bad.segments = {0, 10};
    expect(bad, "segments must begin at 0");
    bad.segments = {};
    bad.positions.assign(29, 0);
    expect(bad, "[3, 10] are needed");
    CHECK(f.create({}, all_experts()).status().code() == Code::invalid_argument);
}
