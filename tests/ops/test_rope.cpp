// rope against its definition in long double. test_attention.cpp has a recorded run through both.
#include "formats/file.h"
#include "mixer_fixture.h"
#include "models/model_fixture.h"
#include "models/qwen35_config.h"

using namespace gnv;
using namespace gnv::test;

namespace {

struct Case {
    RopeParams params;
    int64_t heads = 2;
    Floats x;
    Integers positions; // [3, T]

    Case(int64_t count, int64_t heads_, int64_t head, int64_t rotary, std::initializer_list<int64_t> sections,
         int32_t farthest)
        : heads(heads_) {
        params.head = head, params.rotary = rotary, params.theta = 1e7;
        std::copy(sections.begin(), sections.end(), params.section);
        x = random_floats(count * heads * head, 3, 1);
        std::mt19937 random(2);
        for (int64_t i = 0; i < 3 * count; i++) positions.push_back(int32_t(random() % uint32_t(farthest)));
    }
    int64_t count() const { return int64_t(positions.size()) / 3; }

    Floats run(Precision precision = Precision::f32, const Way & way = {}) {
        Floats y(size_t(count() * heads * params.head), 99);
        const int64_t width = heads * params.head, stride = int64_t(x.size()) / count();
        run_kernel(cpu::rope_entry, cpu::rope_with, params, precision,
                   {view(x, {count(), stride}), view(positions, {3, count()})}, view(y, {count(), width}), way);
        return y;
    }

    // With two axes: half of the pairs each, all of the same frequencies; one rounding.
    Floats expected_axial(bool bf16) const {
        Floats y(size_t(count() * heads * params.head));
        const int64_t half = params.rotary / 2, quarter = half / 2, stride = int64_t(x.size()) / count();
        for (int64_t t = 0; t < count(); t++)
            for (int64_t h = 0; h < heads; h++) {
                const float * const from = &x[size_t(t * stride + params.column + h * params.head)];
                float * const to = &y[size_t((t * heads + h) * params.head)];
                std::copy(from, from + params.head, to);
                for (int64_t i = 0; i < half; i++) {
                    const auto power = std::pow(static_cast<long double>(params.theta),
                                                2.0L * static_cast<long double>(i % quarter) / half);
                    const int32_t position = positions[size_t((i < quarter ? 1 : 2) * count() + t)];
                    const float angle = float(position) * (1.0f / float(power));
                    const auto sine = float(std::sin(static_cast<long double>(angle)));
                    const auto cosine = float(std::cos(static_cast<long double>(angle)));
                    const float products[4] = {from[i] * cosine, -from[i + half] * sine, from[i + half] * cosine,
                                               from[i] * sine};
                    to[i] = products[0] + products[1], to[i + half] = products[2] + products[3];
                }
            }
        for (float & value : y)
            if (bf16) value = bf16_of(value);
        return y;
    }

    // linear_ramp_factor() and what _compute_yarn_parameters() does with it, in F32 tensors.
    float yarn_frequency(float power, int64_t i) const {
        if (params.yarn == Yarn()) return 1.0f / power;
        const auto low = float(params.yarn.low), high = float(params.yarn.high);
        const float linear = (float(i) - low) / (high - low), ramp = std::min(1.0f, std::max(0.0f, linear));
        const float extrapolation = 1.0f / power, interpolation = 1.0f / (float(params.yarn.factor) * power);
        const float extrapolation_factor = 1.0f - ramp;
        const float interpolated = interpolation * (1.0f - extrapolation_factor);
        return interpolated + extrapolation * extrapolation_factor;
    }

    // Exact but for the roundings of the contract: frequency, angle, sine, cosine and, for BF16, every step.
    Floats expected(bool bf16) const {
        Floats y = x;
        const int64_t half = params.rotary / 2, rows = count() * heads;
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t i = 0; i < half; i++) {
                int64_t axis = 0;
                if (i % 3 == 1 && i < 3 * params.section[1]) axis = 1;
                if (i % 3 == 2 && i < 3 * params.section[2]) axis = 2;
                const auto power = float(std::pow(static_cast<long double>(params.theta),
                                                  2.0L * static_cast<long double>(i) / params.rotary));
                const float frequency = yarn_frequency(power, i);
                const float angle = float(positions[size_t(axis * count() + row / heads)]) * frequency;
                auto sine = float(std::sin(static_cast<long double>(angle)));
                auto cosine = float(std::cos(static_cast<long double>(angle)));
                sine *= float(params.yarn.attention_factor), cosine *= float(params.yarn.attention_factor);
                if (bf16) sine = bf16_of(sine), cosine = bf16_of(cosine);
                const float a = x[size_t(row * params.head + i)], b = x[size_t(row * params.head + i + half)];
                float products[4] = {a * cosine, -b * sine, b * cosine, a * sine};
                if (bf16)
                    for (float & product : products) product = bf16_of(product);
                const float low = products[0] + products[1], high = products[2] + products[3];
                y[size_t(row * params.head + i)] = bf16 ? bf16_of(low) : low;
                y[size_t(row * params.head + i + half)] = bf16 ? bf16_of(high) : high;
            }
        }
        return y;
    }
};

} // namespace

TEST_CASE("rope: definition, near and far positions, three axes") {
    Case cases[] = {Case(70, 4, 64, 16, {3, 3, 2}, 100), Case(130, 2, 256, 64, {11, 11, 10}, 262144),
                    Case(65, 1, 32, 32, {16, 0, 0}, 10'000'000), Case(3, 3, 20, 6, {1, 1, 1}, 1000),
                    Case(9, 1, 64, 64, {20, 4, 7}, 5000)};
    for (Case & rope : cases) {
        CAPTURE(rope.params.head);
        CHECK(same_bits(rope.run(), rope.expected(false)));
        round_all(rope.x);
        CHECK(same_bits(rope.run(Precision::bf16), rope.expected(true)));
    }
}

TEST_CASE("rope: two axes, columns of a row") {
    for (const auto & [head, rotary] : {std::pair<int64_t, int64_t>{16, 16}, {72, 72}, {64, 64}, {20, 12}}) {
        CAPTURE(head);
        Case rope(70, 3, head, rotary, {}, 300);
        rope.params.theta = 1e4, rope.params.axial = true;
        rope.params.heads = 3, rope.params.column = 5;
        rope.x = random_floats(70 * (9 * head + 7), 3, 1);
        CHECK(same_bits(rope.run(), rope.expected_axial(false)));
        round_all(rope.x);
        const Floats rounded = rope.expected_axial(true);
        CHECK(same_bits(rope.run(Precision::bf16), rounded));
        for (const Way & way : all_ways()) CHECK(same_bits(rope.run(Precision::bf16, way), rounded));
    }
}

TEST_CASE("rope: YaRN") {
    for (const Yarn & yarn : {Yarn{4, 3, 9, 1.1386294361119891}, Yarn{8, 0, 15.5, 1}, Yarn{4, 5, 5.001, 0.9}}) {
        Case rope(70, 2, 64, 32, {6, 5, 5}, 300'000);
        rope.params.yarn = yarn;
        CHECK(same_bits(rope.run(), rope.expected(false)));
        round_all(rope.x);
        CHECK(same_bits(rope.run(Precision::bf16), rope.expected(true)));
    }
}

TEST_CASE("rope: threads, loops and batch change nothing") {
    Case rope(200, 2, 64, 16, {3, 3, 2}, 5000);
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        const Floats expected = rope.run(precision);
        for (const Way & way : all_ways()) CHECK(same_bits(rope.run(precision, way), expected));
    }
}

TEST_CASE("rope: YaRN of configs, against recorded frequencies and factors") {
    const Json cases = Json::parse(read_file(GNV_TEST_DATA "/golden/yarn.json", 1 << 20).value());
    REQUIRE(cases.size() == 8);
    for (const Json & recorded : cases) {
        Json config = read_data("qwen36-35b-a3b");
        Json & text = config["text_config"];
        REQUIRE(text["head_dim"] == recorded["head_dim"]);
        Json & keys = text["rope_parameters"];
        CAPTURE(recorded["keys"].dump());
        keys["rope_type"] = "yarn", keys["rope_theta"] = recorded["rope_theta"];
        keys["partial_rotary_factor"] = recorded["partial_rotary_factor"];
        for (const auto & [key, value] : recorded["keys"].items()) keys[key] = value;
        text["max_position_embeddings"] = int64_t(recorded["keys"]["factor"].get<double>() *
                                                  recorded["keys"]["original_max_position_embeddings"].get<double>());
        const Qwen35Config read = read_qwen35_config(parse(config).root(), Qwen35Mlp::experts).take();
        Case rope(1, 1, read.head, read.rotary, {11, 11, 10}, 1);
        rope.params.theta = read.rope_theta;
        rope.params.yarn = {read.yarn.factor, read.yarn.low, read.yarn.high, read.yarn.attention_factor};
        rope.positions.assign(3, 1);
        std::fill(rope.x.begin(), rope.x.end(), 0.0f);
        const size_t half = size_t(read.rotary / 2);
        REQUIRE(recorded["inverse_frequencies"].size() == half);
        std::fill_n(rope.x.begin(), half, 1.0f);
        // At position 1 a pair (1, 0) becomes the factor times cosine and sine of its frequency.
        const Floats y = rope.run();
        for (size_t i = 0; i < half; i++) {
            const double cosine = double(y[i]), sine = double(y[i + half]);
            CHECK(std::atan2(sine, cosine) ==
                  doctest::Approx(recorded["inverse_frequencies"][i].get<double>()).epsilon(1e-6));
            CHECK(std::hypot(sine, cosine) ==
                  doctest::Approx(recorded["attention_factor"].get<double>()).epsilon(1e-6));
        }
    }
}
