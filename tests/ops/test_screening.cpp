// expert_inputs, and the bound by which it leaves out pairs (docs/screening.md): against exact arithmetic, and with and
// without.
#include "codec/nvfp4.h"
#include "cpu/coded_rows.h"
#include "cpu/row_kernels.h"
#include "ops/run_op.h"

#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <limits>
#include <numeric>
#include <random>

using namespace gnv;
using namespace gnv::test;

namespace {

float to_bf16(float value) { return nvfp4::bf16_to_float(nvfp4::bf16_from_float(value)); }

std::vector<float> random_row(std::mt19937 & random, int64_t k, float scale) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> row(static_cast<size_t>(k));
    for (float & value : row) value = to_bf16(normal(random));
    return row;
}

double exact_product(const std::vector<float> & a, const std::vector<float> & b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++) sum += double(a[i]) * double(b[i]);
    return sum;
}
// How far the product of codes is from the exact one, over its bound.
double share_of_bound(const std::vector<float> & x, const std::vector<float> & w) {
    const auto k = int64_t(x.size());
    const cpu::CodedRow a = cpu::coded_activation(x.data(), k), b = cpu::coded_weight(w.data(), k);
    REQUIRE(a.is_bounded);
    REQUIRE(b.is_bounded);
    int64_t sum = 0;
    for (size_t i = 0; i < a.codes.size(); i++) sum += int64_t(a.codes[i]) * b.codes[i];
    const double found = double(a.s) * double(b.s) * double(sum);
    return std::abs(exact_product(x, w) - found) / (double(a.s) * double(cpu::error_of(a, b)));
}

// Rows whose transform is `rotated`: a transform of a transform is K times the row. K is a power of two.
std::vector<float> row_with(std::vector<float> rotated, float factor) {
    const auto k = int64_t(rotated.size());
    REQUIRE(cpu::rotate(rotated.data(), k) == k);
    for (float & value : rotated) value *= factor;
    return rotated;
}

// --- expert_inputs ----------------------------------------------------------------------------------------------------

struct Data {
    int64_t tokens, experts, columns, k, chosen;
    std::vector<float> x;
    std::vector<uint16_t> gate, up;
    std::vector<int32_t> slots, offsets;
    std::vector<float> maxima;

    Data(int64_t T, int64_t E, int64_t I, int64_t K, int64_t chosen_, std::mt19937 & random)
        : tokens(T), experts(E), columns(I), k(K), chosen(chosen_), maxima(size_t(E), 0.0f) {
        x = random_row(random, T * K, 1);
        for (std::vector<uint16_t> * const w : {&gate, &up})
            for (const float value : random_row(random, E * I * K, 0.1f)) w->push_back(nvfp4::bf16_from_float(value));
        std::vector<std::vector<int32_t>> of_expert(static_cast<size_t>(E));
        for (int64_t t = 0; t < T; t++)
            for (int64_t c = 0; c < chosen; c++)
                of_expert[size_t((t * 7 + c * 3) % std::max<int64_t>(E - 1, 1))].push_back(int32_t(t * chosen + c));
        offsets.push_back(0); // the last expert has no token, unless it is the only one
        for (const std::vector<int32_t> & own : of_expert) {
            slots.insert(slots.end(), own.begin(), own.end());
            offsets.push_back(int32_t(slots.size()));
        }
    }
    void set_weight(std::vector<uint16_t> & w, int64_t expert, int64_t column, const std::vector<float> & row) const {
        for (int64_t i = 0; i < k; i++)
            w[size_t((expert * columns + column) * k + i)] = nvfp4::bf16_from_float(row[size_t(i)]);
    }

    struct Result {
        std::vector<uint32_t> chosen, maxima; // bits
        bool operator==(const Result & other) const { return chosen == other.chosen && maxima == other.maxima; }
        // With one NaN for all: which of them an operation gives is not said.
        Result with_one_nan() const {
            Result out = *this;
            for (std::vector<uint32_t> * const all : {&out.chosen, &out.maxima})
                for (uint32_t & bits : *all)
                    if ((bits & 0x7fffffff) > 0x7f800000) bits = 0x7fc00000;
            return out;
        }
    };
    Result run(Screening screening, Precision precision, int threads) {
        std::vector<float> out(slots.size() * size_t(columns), -7.0f), most = maxima;
        const Status status = run_op(cpu::expert_inputs_entry, ExpertInputsParams{chosen, screening},
                                     {tensor_of(x, {tokens, k}), tensor_of(gate, {experts, columns, k}),
                                      tensor_of(up, {experts, columns, k}), tensor_of(slots, {int64_t(slots.size())}),
                                      tensor_of(offsets, {experts + 1}), tensor_of(most, {experts})},
                                     {tensor_of(out, {int64_t(slots.size()), columns})}, precision, threads);
        REQUIRE_MESSAGE(status.ok(), status.message());
        Result result;
        result.chosen.resize(out.size()), result.maxima.resize(most.size());
        memcpy(result.chosen.data(), out.data(), out.size() * sizeof(float));
        memcpy(result.maxima.data(), most.data(), most.size() * sizeof(float));
        return result;
    }
    // The contract by plain loops.
    Result expected(Precision precision) const {
        Result result;
        const bool rounds = precision == Precision::bf16;
        const auto rounded = [&](float value) { return rounds ? to_bf16(value) : value; };
        std::vector<float> y(size_t(tokens * columns));
        result.chosen.resize(slots.size() * size_t(columns));
        for (int64_t e = 0; e < experts; e++) {
            float known = maxima[size_t(e)];
            uint32_t most;
            memcpy(&most, &known, sizeof most);
            for (int64_t t = 0; t < tokens; t++)
                for (int64_t c = 0; c < columns; c++) {
                    float sums[2] = {0, 0};
                    for (int64_t i = 0; i < k; i++)
                        for (const int side : {0, 1})
                            sums[side] =
                                std::fma(x[size_t(t * k + i)],
                                         nvfp4::bf16_to_float((side ? up : gate)[size_t((e * columns + c) * k + i)]),
                                         sums[side]);
                    std::vector<float> g = {rounded(sums[0])}, u = {rounded(sums[1])}, one = {0};
                    const Status status =
                        run_op(cpu::silu_mul_entry, SiluMulParams{}, {tensor_of(g, {1, 1}), tensor_of(u, {1, 1})},
                               {tensor_of(one, {1, 1})}, precision);
                    REQUIRE(status.ok());
                    y[size_t(t * columns + c)] = one[0];
                    uint32_t bits;
                    memcpy(&bits, one.data(), sizeof bits);
                    most = std::max(most, bits & 0x7fffffff);
                }
            result.maxima.push_back(most);
            for (int32_t j = offsets[size_t(e)]; j < offsets[size_t(e) + 1]; j++)
                memcpy(result.chosen.data() + size_t(j) * size_t(columns),
                       y.data() + slots[size_t(j)] / chosen * columns, size_t(columns) * sizeof(float));
        }
        return result;
    }
};

} // namespace

TEST_CASE("screening: the bound holds for rows of any kind") {
    std::mt19937 random(1);
    for (const int64_t k : {16, 48, 64, 96, 320, 1024})
        for (int round = 0; round < 40; round++) {
            std::vector<float> x = random_row(random, k, round % 3 == 0 ? 100.0f : 1.0f),
                               w = random_row(random, k, 0.02f);
            if (round % 4 == 1) x[size_t(k / 3)] = 3000, w[size_t(k / 5)] = 7; // outliers
            if (round % 4 == 2) w = x;
            if (round % 4 == 3) std::fill(x.begin() + 4, x.end(), 0.0f);
            CAPTURE(k);
            CHECK(share_of_bound(x, w) <= 1);
        }
}

// The activation's rounding errors have the weight's signs, and the weight has none: Cauchy-Schwarz is an equation.
TEST_CASE("screening: a bound that is smaller by one percent does not hold") {
    constexpr size_t k = 32;
    std::mt19937 random(2);
    std::vector<float> rotated(k), signs(k);
    for (size_t i = 0; i < k; i++) {
        signs[i] = random() % 2 == 0 ? 1.0f : -1.0f;
        rotated[i] = float(int(random() % 201) - 100) + signs[i] * 0.49609375f;
    }
    rotated[0] = 127, signs[0] = 0; // the scale is one
    const std::vector<float> x = row_with(rotated, 1.0f / k), w = row_with(signs, 1.0f);
    const double share = share_of_bound(x, w);
    CHECK(share <= 1);
    CHECK(share / 0.99 > 1);
    CHECK(share_of_bound(w, x) <= 1);
}

TEST_CASE("screening: rows without a bound are candidates") {
    const std::vector<float> one(64, 1.0f), zero(64, 0.0f);
    std::vector<float> bad = one;
    const cpu::CodedRow good = cpu::coded_weight(one.data(), 64);
    for (const float value :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30f, 1e-30f}) {
        bad = value < 1 ? std::vector<float>(64, value) : one;
        bad[5] = value;
        const cpu::CodedRow coded = cpu::coded_activation(bad.data(), 64);
        CHECK(!coded.is_bounded);
        CHECK(cpu::may_exceed(coded, good, good, 1e20f));
        CHECK(cpu::may_exceed(cpu::coded_activation(one.data(), 64), cpu::coded_weight(bad.data(), 64), good, 1e20f));
    }
    // Zeros have one: nothing exceeds zero.
    const cpu::CodedRow empty = cpu::coded_activation(zero.data(), 64);
    CHECK(empty.is_bounded);
    CHECK(!cpu::may_exceed(empty, good, good, 0.0f));
}

TEST_CASE("expert_inputs: the contract, screened or not, threads, precisions") {
    std::mt19937 random(3);
    const auto check = [](Data & data) {
        for (const Precision precision : {Precision::f32, Precision::bf16}) {
            const Data::Result full = data.run(Screening::off, precision, 1);
            CHECK(full.with_one_nan() == data.expected(precision).with_one_nan());
            for (const int threads : {1, 3})
                for (const Screening screening : {Screening::off, Screening::on, Screening::check})
                    CHECK(data.run(screening, precision, threads) == full);
        }
    };
    Data data(30, 5, 12, 48, 2, random);
    SUBCASE("random numbers") {}
    SUBCASE("one token, one expert") { data = Data(1, 1, 4, 16, 1, random); }
    SUBCASE("maxima of earlier batches") { data.maxima = {0, 1e9f, 0.5f, 1.0f, 0.01f}; }
    SUBCASE("channels with outliers") {
        for (int64_t t = 0; t < data.tokens; t++)
            for (const int64_t i : {3, 17, 40}) data.x[size_t(t * data.k + i)] *= 200;
    }
    SUBCASE("all tokens alike") {
        for (int64_t t = 1; t < data.tokens; t++) std::copy_n(data.x.begin(), data.k, data.x.begin() + t * data.k);
    }
    SUBCASE("each token a little above the one before") {
        for (int64_t t = 1; t < data.tokens; t++)
            for (int64_t i = 0; i < data.k; i++)
                data.x[size_t(t * data.k + i)] = data.x[size_t(i)] * (1 + 0x1p-9f * float(t));
    }
    SUBCASE("NaN and Inf in tokens") {
        data.x[size_t(7 * data.k + 3)] = std::numeric_limits<float>::quiet_NaN();
        data.x[size_t(9 * data.k + 3)] = std::numeric_limits<float>::infinity();
    }
    SUBCASE("NaN and Inf in weights") {
        data.gate[size_t((2 * data.columns + 3) * data.k)] = 0x7fc0;
        data.up[size_t((4 * data.columns + 1) * data.k)] = 0x7f80;
    }
    SUBCASE("weights and tokens of zeros") {
        std::fill(data.up.begin(), data.up.begin() + data.columns * data.k, uint16_t(0));
        std::fill(data.x.begin() + data.k, data.x.begin() + 2 * data.k, 0.0f);
    }
    SUBCASE("numbers that overflow in BF16") {
        for (float & value : data.x) value *= 1e18f;
        data.set_weight(data.gate, 1, 0, random_row(random, data.k, 1e18f));
    }
    SUBCASE("the smallest numbers") {
        for (float & value : data.x) value *= 1e-20f;
        data.set_weight(data.up, 3, 1, random_row(random, data.k, 1e-19f));
    }
    check(data);
}
