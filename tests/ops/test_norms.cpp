#include "ops/row_fixture.h"
#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

std::vector<float> run_rms_norm(std::vector<float> x, int64_t stride, std::vector<float> w,
                                const RmsNormParams & params = {}, Precision precision = Precision::f32,
                                int threads = 1) {
    const int64_t rows = int64_t(x.size()) / stride, width = int64_t(w.size());
    std::vector<float> y(static_cast<size_t>(rows * width), -1.0f);
    CHECK(run_op(cpu::rms_norm_entry, params, {tensor_of(x, {rows, stride}), tensor_of(w, {width})},
                 {tensor_of(y, {rows, width})}, precision, threads)
              .ok());
    return y;
}

std::vector<float> run_gated(std::vector<float> x, std::vector<float> w, std::vector<float> z,
                             const GatedRmsNormParams & params = {}, Precision precision = Precision::f32,
                             int threads = 1) {
    const int64_t width = int64_t(w.size()), rows = int64_t(x.size()) / width;
    std::vector<float> y(x.size(), -1.0f);
    CHECK(run_op(cpu::gated_rms_norm_entry, params,
                 {tensor_of(x, {rows, width}), tensor_of(w, {width}), tensor_of(z, {rows, width})},
                 {tensor_of(y, {rows, width})}, precision, threads)
              .ok());
    return y;
}

void check_recorded(const std::vector<float> & x, int64_t stride, const std::string & weight,
                    const std::string & output) {
    CAPTURE(output);
    const std::vector<float> expected = recorded_text().floats(output);
    const std::vector<float> y = run_rms_norm(x, stride, checkpoint_floats("model.language_model." + weight));
    REQUIRE(y.size() == expected.size());
    int wrong = 0;
    for (size_t i = 0; i < y.size(); i++) wrong += !near(y[i], expected[i], 1e-6);
    CHECK(wrong == 0);
}

std::vector<float> sum_of(std::vector<float> a, const std::vector<float> & b) {
    for (size_t i = 0; i < a.size(); i++) a[i] += b[i];
    return a;
}

double exact_inverse(const float * x, int64_t width, double epsilon) {
    double sum = 0;
    for (int64_t c = 0; c < width; c++) sum += double(x[c]) * double(x[c]);
    return 1 / std::sqrt(sum / double(width) + epsilon);
}

} // namespace

TEST_CASE("rms_norm: recorded outputs") {
    const auto get = [](const char * name) { return recorded_text().floats(std::string("text70.") + name); };
    check_recorded(get("embed"), 256, "layers.0.input_layernorm.weight", "text70.layer.0.input_layernorm");
    check_recorded(sum_of(get("embed"), get("layer.0.linear_attn")), 256, "layers.0.post_attention_layernorm.weight",
                   "text70.layer.0.post_attention_layernorm");
    check_recorded(get("layer.2"), 256, "layers.3.input_layernorm.weight", "text70.layer.3.input_layernorm");
    check_recorded(sum_of(get("layer.2"), get("layer.3.self_attn")), 256, "layers.3.post_attention_layernorm.weight",
                   "text70.layer.3.post_attention_layernorm");
    check_recorded(get("layer.7"), 256, "norm.weight", "text70.norm");
    // Query and gate of a head lie side by side: the first half of each row.
    check_recorded(get("layer.3.self_attn.q_proj"), 128, "layers.3.self_attn.q_norm.weight",
                   "text70.layer.3.self_attn.q_norm");
    check_recorded(get("layer.3.self_attn.k_proj"), 64, "layers.3.self_attn.k_norm.weight",
                   "text70.layer.3.self_attn.k_norm");
}

TEST_CASE("rms_norm: doubles, order of the sum, rounding, threads, variants") {
    for (const int64_t width : ragged_widths) {
        CAPTURE(width);
        const int64_t rows = 70, stride = width + 3;
        const RmsNormParams params = {1e-5f, 0.5f};
        const std::vector<float> x = normal_floats(rows * stride, 1, 3), w = normal_floats(width, 2);
        const std::vector<float> y = run_rms_norm(x, stride, w, params);
        int wrong = 0, other_order = 0;
        for (int64_t r = 0; r < rows; r++) {
            const float * const row = x.data() + r * stride;
            const double inverse = exact_inverse(row, width, 1e-5f);
            float partial[16] = {}; // the order of the contract, spelled out
            for (int64_t c = 0; c < width; c++) partial[c % 16] = std::fma(row[c], row[c], partial[c % 16]);
            for (const int step : {8, 4, 2, 1})
                for (int i = 0; i < step; i++) partial[i] += partial[i + step];
            const float in_order = 1.0f / std::sqrt(partial[0] / float(width) + 1e-5f);
            for (int64_t c = 0; c < width; c++) {
                const float value = y[size_t(r * width + c)], scale = 0.5f + w[size_t(c)];
                wrong += !near(value, double(row[c]) * inverse * double(scale), 1e-6);
                other_order += value != row[c] * in_order * scale;
            }
        }
        CHECK(wrong == 0);
        CHECK(other_order == 0);
        std::vector<float> rounded = y;
        for (float & value : rounded) value = nearest_bf16(value);
        CHECK(same_bits(run_rms_norm(x, stride, w, params, Precision::bf16), rounded));
        for (const int threads : thread_counts)
            CHECK(same_bits(run_rms_norm(x, stride, w, params, Precision::f32, threads), y));
        std::vector<float> scale = w;
        for (float & value : scale) value += 0.5f;
        for (const cpu::Loops * loops : cpu::all_loops())
            for (const bool bf16 : {false, true}) {
                std::vector<float> other(y.size());
                loops->rows.rms_norm(x.data(), stride, scale.data(), rows, width, params.epsilon, bf16, other.data());
                CHECK_MESSAGE(same_bits(other, bf16 ? rounded : y), loops->name);
            }
    }
}

TEST_CASE("rms_norm: BF16 weights, and a row of zeros") {
    std::vector<float> x(32, 0.0f), y(32, -1.0f);
    x[16] = 4;                           // root of the mean of squares: 1
    std::vector<uint16_t> w(16, 0x3f00); // 0.5
    CHECK(run_op(cpu::rms_norm_entry, RmsNormParams{0, 1}, {tensor_of(x, {1, 2, 16}), tensor_of(w, {16})},
                 {tensor_of(y, {1, 2, 16})})
              .ok());
    CHECK(std::isnan(y[0])); // epsilon 0: 0 * Inf
    CHECK(y[16] == 6.0f);
    CHECK(y[17] == 0.0f);
}

TEST_CASE("gated_rms_norm: doubles, rounding, threads, variants") {
    for (const int64_t width : ragged_widths)
        for (const bool sigmoid : {false, true}) {
            CAPTURE(width);
            CAPTURE(sigmoid);
            const int64_t rows = 40;
            const GatedRmsNormParams params = {1e-6f, sigmoid};
            const std::vector<float> x = normal_floats(rows * width, 3), w = normal_floats(width, 4),
                                     z = normal_floats(rows * width, 5, 4);
            const std::vector<float> y = run_gated(x, w, z, params);
            int wrong = 0;
            for (int64_t i = 0; i < rows * width; i++) {
                const double inverse = exact_inverse(x.data() + i / width * width, width, 1e-6f);
                const double act = double_sigmoid(z[size_t(i)]) * (sigmoid ? 1 : double(z[size_t(i)]));
                wrong += !near(y[size_t(i)], double(x[size_t(i)]) * inverse * double(w[size_t(i % width)]) * act, 1e-6);
            }
            CHECK(wrong == 0);
            // Each rounding, from values that are not rounded: the norm without weight, and the activation.
            const std::vector<float> ones(static_cast<size_t>(width), 1.0f), all_ones(x.size(), 1.0f);
            const std::vector<float> normed = run_rms_norm(x, width, ones, {1e-6f, 0});
            std::vector<float> act(x.size()), expected(x.size());
            if (sigmoid)
                (*cpu::all_loops().front())
                    .rows.sigmoid_gate(all_ones.data(), z.data(), int64_t(x.size()), false, act.data());
            else
                (*cpu::all_loops().front())
                    .rows.silu_mul(z.data(), all_ones.data(), int64_t(x.size()), false, act.data());
            for (size_t i = 0; i < x.size(); i++)
                expected[i] = nearest_bf16(nearest_bf16(nearest_bf16(normed[i]) * w[i % size_t(width)]) * act[i]);
            CHECK(same_bits(run_gated(x, w, z, params, Precision::bf16), expected));
            for (const int threads : thread_counts)
                CHECK(same_bits(run_gated(x, w, z, params, Precision::f32, threads), y));
            for (const cpu::Loops * loops : cpu::all_loops())
                for (const bool bf16 : {false, true}) {
                    std::vector<float> other(y.size());
                    loops->rows.gated_rms_norm(x.data(), w.data(), z.data(), rows, width, 1e-6f, sigmoid, bf16,
                                               other.data());
                    CHECK_MESSAGE(same_bits(other, bf16 ? expected : y), loops->name);
                }
        }
}
