// Statistics that are asked of a pass: second moments of every expert within small budgets, range by range, and a statistic
// that the library does not know. What is expected is computed in double from tapped activations.
#include "codec/nvfp4.h"
#include "core/memory.h"
#include "forward/deferred_device.h"
#include "forward/pass_fixture.h"
#include "load_group.h"
#include "ops/toy_statistic.h"

#include <set>

using namespace gnv;
using namespace gnv::test;
using namespace gnv::qwen35;

namespace {

constexpr int32_t observed_layer = 3;
const std::vector<int64_t> lengths = {70, 1, 63, 64, 40};

PassOptions moments_of_experts(ExpertTokens tokens) {
    PassOptions options;
    options.expert_tokens = tokens;
    options.statistics = {{&Statistic::tokens},
                          {&Statistic::second_moments, Part::text, -1, expert_down_input},
                          {&Statistic::second_moments_16, Part::text, -1, expert_down_input},
                          {&Statistic::second_moments, Part::text, observed_layer, mixer_input},
                          {&toy_sum, Part::text, observed_layer, -1}};
    return options;
}

// Taps of a layer, by name: [positions, columns].
std::map<std::string, std::vector<float>> tapped(const std::vector<TextSequence> & texts, int32_t layer) {
    Fixture f;
    std::map<std::string, std::vector<float>> values;
    PassHooks hooks;
    hooks.wants_tap = [&](const Tap & tap) { return tap.layer == layer; };
    hooks.on_tap = [&](size_t, const PassBatch &, const Tap & tap, const Tensor & tensor) -> Status {
        std::vector<float> & list = values[tap_name(names, tap)];
        for (int64_t i = 0; i < tensor.shape.elements(); i++)
            list.push_back(tensor.dtype == DType::i32 ? float(tensor.as<const int32_t>()[i])
                                                      : tensor.as<const float>()[i]);
        return {};
    };
    Result<std::unique_ptr<LayerPass>> pass = f.create(texts, {});
    REQUIRE(pass.ok());
    REQUIRE(pass.value()->run(hooks).ok());
    return values;
}

// BF16 weights of one expert of a layer, [rows, columns], as doubles.
std::vector<double> expert_weights(const OpenModel & model, Role role, int32_t expert, ThreadPool & threads) {
    const WeightRef ref = {role, observed_layer, expert, 1};
    WeightGroup group = WeightGroup::plan(model.weights, {ref}).take();
    const AlignedBlock memory = allocate_block(group.bytes(), "weights").take();
    REQUIRE(load_group(group, model.weights, model.files, memory.get(), threads).ok());
    const Tensor tensor = group.find(ref);
    std::vector<double> values;
    for (int64_t i = 0; i < tensor.shape.elements(); i++)
        values.push_back(double(nvfp4::bf16_to_float(tensor.as<const uint16_t>()[i])));
    return values;
}

// The inputs of an expert's down projection for some positions: SiLU(gate h) * up h.
std::vector<std::vector<double>> expert_inputs(const OpenModel & model, int32_t expert, const std::vector<float> & h,
                                               const std::vector<int64_t> & positions, ThreadPool & threads) {
    const std::vector<double> gate = expert_weights(model, Role::expert_gate, expert, threads);
    const std::vector<double> up = expert_weights(model, Role::expert_up, expert, threads);
    const size_t hidden = 256, width = gate.size() / hidden;
    std::vector<std::vector<double>> rows;
    for (const int64_t t : positions) {
        rows.emplace_back(width);
        for (size_t i = 0; i < width; i++) {
            double g = 0, u = 0;
            for (size_t k = 0; k < hidden; k++) {
                const double x = double(h[size_t(t) * hidden + k]);
                g += gate[i * hidden + k] * x, u += up[i * hidden + k] * x;
            }
            rows.back()[i] = g / (1 + std::exp(-g)) * u;
        }
    }
    return rows;
}

// Largest difference over the largest expected.
double moments_error(const float * found, const std::vector<std::vector<double>> & rows, size_t width, size_t block) {
    double error = 0, largest = 0;
    for (size_t i = 0; i < width; i++)
        for (size_t j = 0; j < block; j++) {
            double expected = 0;
            for (const std::vector<double> & row : rows) expected += row[i] * row[i / block * block + j];
            error = std::max(error, std::abs(double(found[i * block + j]) - expected));
            largest = std::max(largest, std::abs(expected));
        }
    return largest > 0 ? error / largest : error;
}

const float * floats(const std::string & bytes) { return reinterpret_cast<const float *>(bytes.data()); }

} // namespace

TEST_CASE("second moments of every expert are those of the activations, in double") {
    Fixture f;
    const auto texts = make_texts(lengths);
    const auto taps = tapped(texts, observed_layer);
    const std::string layer = concat("layer.", observed_layer);
    const std::vector<float> &h = taps.at(layer + ".post_attention_layernorm"),
                             &x = taps.at(layer + ".input_layernorm"), &chosen = taps.at(layer + ".mlp.gate.2");
    const int64_t positions = 238, experts = f.model->model->sizes().experts, per_token = 4;
    std::vector<std::vector<int64_t>> routed(static_cast<size_t>(experts));
    for (int64_t slot = 0; slot < positions * per_token; slot++)
        routed[size_t(chosen[size_t(slot)])].push_back(slot / per_token);
    std::vector<int64_t> all;
    for (int64_t t = 0; t < positions; t++) all.push_back(t);

    for (const ExpertTokens tokens : {ExpertTokens::routed, ExpertTokens::all}) {
        const Outcome found = f.run(texts, moments_of_experts(tokens));
        const StatisticSet & set = found.statistics[0];
        const std::span<const int64_t> counts = set.tokens_per_expert(observed_layer);
        REQUIRE(int64_t(counts.size()) == experts);
        const StatisticKey key = {Part::text, observed_layer, expert_down_input, &Statistic::second_moments},
                           of_16 = {Part::text, observed_layer, expert_down_input, &Statistic::second_moments_16};
        CHECK(set.find<float>(key).empty()); // too large to keep
        REQUIRE(found.given_away.size() == 8 * 2 + 1);
        for (int64_t e = 0; e < experts; e++) {
            CHECK(counts[size_t(e)] == int64_t(routed[size_t(e)].size()));
            const auto rows = expert_inputs(*f.model, int32_t(e), h,
                                            tokens == ExpertTokens::all ? all : routed[size_t(e)], *f.threads);
            const float *full = floats(found.given_away.at(key)), *blocks = floats(found.given_away.at(of_16));
            CHECK(moments_error(full + e * 64 * 64, rows, 64, 64) < 1e-5);
            CHECK(moments_error(blocks + e * 64 * 16, rows, 64, 16) < 1e-5);
        }
        std::vector<std::vector<double>> rows;
        for (int64_t t = 0; t < positions; t++) rows.emplace_back(x.begin() + t * 256, x.begin() + (t + 1) * 256);
        const StatisticKey mixer = {Part::text, observed_layer, mixer_input, &Statistic::second_moments};
        CHECK(moments_error(floats(found.given_away.at(mixer)), rows, 256, 256) < 1e-5);
        const std::span<const double> sums = set.find<double>({Part::text, observed_layer, mixer_input, &toy_sum});
        REQUIRE(sums.size() == 256);
        for (size_t i = 0; i < 256; i++) {
            double expected = 0;
            for (const std::vector<double> & row : rows) expected += row[i];
            CHECK(sums[i] == expected);
        }
        CHECK(set.find<double>({Part::text, observed_layer, shared_down_input, &toy_sum}).size() == 64);
        CHECK_FALSE(set.wants({Part::text, observed_layer + 1, mixer_input, &toy_sum}));
        CHECK_FALSE(set.is_order_free());
    }
}

TEST_CASE("second moments do not depend on batches, ranges of experts, threads or devices") {
    const ScratchFolder scratch;
    const auto texts = make_texts(lengths);
    for (const ExpertTokens tokens : {ExpertTokens::routed, ExpertTokens::all}) {
        Fixture f;
        PassOptions options = moments_of_experts(tokens);
        const Outcome expected = f.run(texts, options);
        for (const int64_t positions : {1, 100}) {
            options.batch_positions = positions;
            check_same(f.run(texts, options), expected);
        }
        options.batch_positions = 0;
        options.scratch_folder = scratch.path();
        options.host = 1;
        const Status refused = f.create(texts, options).take_status();
        CHECK(refused.code() == Code::out_of_memory);
        std::set<size_t> parts;
        for (const double share : {0.0, 0.1, 0.4}) {
            const uint64_t least = smallest_budget(refused), most = expected.plan.host.used();
            options.host = least + uint64_t(share * double(most - least));
            const Outcome found = f.run(texts, options);
            CHECK(found.plan.host.used() <= options.host.total());
            CHECK(found.plan.host.reserved("statistics") >= found.plan.statistics.bytes);
            parts.insert(found.plan.groups.size());
            check_same(found, expected);
        }
        CHECK(parts.size() > 1);
        CHECK(*parts.rbegin() > expected.plan.groups.size());

        Fixture alone;
        alone.threads = ThreadPool::create(1).take();
        alone.device = open_cpu(*alone.threads);
        check_same(alone.run(texts, moments_of_experts(tokens)), expected);
        Fixture remote;
        remote.device = std::make_unique<DeferredDevice>(*remote.threads);
        PassOptions on_device = moments_of_experts(tokens);
        const Outcome far = remote.run(texts, on_device);
        check_same(far, expected);
        // Totals of all experts of one layer, those that are kept, those of the block's other inputs: no more.
        CHECK(far.plan.device.reserved("statistics") == far.plan.statistics.bytes);
        check_same(run_on_host(remote, texts, on_device), expected);
    }
}

TEST_CASE("totals merge by the rule of their statistic, and no count overflows in silence") {
    StatisticSet a, b;
    const StatisticKey maxima = {Part::text, 0, mixer_input, &Statistic::maximum},
                       of_draft = {Part::mtp, 0, mixer_input, &Statistic::maximum},
                       tokens = {Part::text, 0, chosen_experts, &Statistic::tokens};
    for (StatisticSet * const set : {&a, &b}) {
        set->set_names(&names);
        set->set_layers(1);
        for (const StatisticKey & key : {maxima, of_draft, tokens}) set->insert(key, {2});
    }
    const float first[] = {1, 5}, second[] = {3, 2};
    const int64_t counts[] = {INT64_MAX - 1, 7}, more[] = {1, 1};
    REQUIRE(a.add(maxima, 0, 2, first).ok());
    REQUIRE(b.add(maxima, 0, 2, second).ok());
    REQUIRE(b.add(of_draft, 1, 1, second).ok()); // layer 0 of the draft head is another layer
    REQUIRE(a.add(tokens, 0, 2, counts).ok());
    REQUIRE(b.add(tokens, 0, 2, more).ok());
    REQUIRE(a.merge(b).ok());
    CHECK(a.maxima(0, mixer_input)[0] == 3);
    CHECK(a.maxima(0, mixer_input)[1] == 5);
    CHECK(a.find<float>(of_draft)[1] == 3);
    CHECK(a.tokens_per_expert(0)[0] == INT64_MAX);
    CHECK(a.tokens_per_expert(0)[1] == 8);
    const Status overflow = a.merge(b);
    CHECK(overflow.code() == Code::format);
    CHECK(overflow.message() == concat("layer 0: expert 0: tokens_per_expert: ", INT64_MAX,
                                       " and 1 exceed 2^63 together: a file is damaged"));
}

TEST_CASE("where anything is asked of an input, so is its largest magnitude") {
    PassOptions options;
    options.statistics = {{&Statistic::second_moments_16, Part::text, 0, mixer_input}};
    Fixture f;
    const Outcome found = f.run(make_texts({20}), options);
    const StatisticSet & set = found.statistics[0];
    CHECK(set.wants({Part::text, 0, mixer_input, &Statistic::maximum})); // which tells of NaN
    CHECK(set.totals().size() == 2);
}
