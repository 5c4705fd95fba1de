// Products of experts on a CUDA device against the CPU's: weights in BF16, F32 and NVFP4, inputs as they are and quantized,
// experts without rows. What a launch covers is known to the device alone, so no case may depend on how rows are distributed.
#include "cuda/device_fixture.h"
#include "cuda/expert_choices.h"

using namespace gnv;
using namespace gnv::test;

namespace {

using Row = GroupedLinearParams::Row;

struct Product {
    int64_t tokens, experts, n, k;
};

// Four experts of each token, all slots in use so that all rows of the result are defined. Experts from `used` on get no rows.
OpCase product_case(std::mt19937 & random, const Product & size, Row row, OpInput weight, bool quantized, int64_t used,
                    bool few_rows = false) {
    const int64_t chosen = 4, room = size.tokens * chosen;
    const std::vector<int32_t> choices = random_choices(random, size.tokens, int(chosen), int(used));
    const Order order = order_of(choices, 0, int(size.experts), size_t(room));
    const int64_t rows = row == Row::own ? room : size.tokens;
    std::vector<float> scales(size_t(size.experts), 400);
    for (size_t i = 0; i < scales.size(); i++) scales[i] += float(i);
    return {GroupedLinearParams{row, chosen, few_rows},
            {activation(random, {rows, size.k}), std::move(weight), indices({room}, order.slots),
             indices({size.experts + 1}, order.offsets), numbers({size.experts}, scales)},
            {true, true, true, true, quantized}};
}

constexpr Product sizes[] = {{200, 32, 48, 64}, {1, 32, 130, 208}, {700, 5, 257, 80}, {64, 8, 512, 2048}};

constexpr Product few_rows_sizes[] = {
    {1, 32, 130, 224}, {3, 8, 64, 32}, {1, 256, 512, 2048}, {2, 64, 2048, 512}, {9, 5, 33, 96}};

template <class MakeWeight>
void compare_few_rows(bool quantized, const MakeWeight & make_weight) {
    Devices devices;
    std::mt19937 random(17);
    for (const Product & size : few_rows_sizes)
        for (const Row row : {Row::token, Row::own}) {
            CAPTURE(size.tokens);
            CAPTURE(size.k);
            CAPTURE(int(row));
            compare(devices, product_case(random, size, row, make_weight(random, size), quantized, size.experts, true));
        }
}

template <class MakeWeight>
void compare_products(bool quantized, const MakeWeight & make_weight) {
    Devices devices;
    std::mt19937 random(13);
    for (const Product & size : sizes)
        for (const Row row : {Row::token, Row::own})
            for (const bool all_used : {true, false}) {
                CAPTURE(size.tokens);
                CAPTURE(int(row));
                CAPTURE(all_used);
                const int64_t used = all_used ? size.experts : std::max<int64_t>(4, size.experts / 2);
                compare(devices, product_case(random, size, row, make_weight(random, size), quantized, used));
            }
}

OpInput bf16_weight(std::mt19937 & random, const Product & size) {
    return weight(random, DType::bf16, {size.experts, size.n, size.k}, 0.1f);
}
OpInput coded_weight(std::mt19937 & random, const Product & size) {
    return nvfp4_weight(random, {size.experts, size.n, size.k}, 100);
}

} // namespace

TEST_CASE("experts: products of few rows") {
    for (const bool quantized : {false, true}) {
        compare_few_rows(quantized, bf16_weight);
        compare_few_rows(quantized, coded_weight);
    }
}
TEST_CASE("experts: products") { compare_products(false, bf16_weight); }
TEST_CASE("experts: products with quantized inputs") { compare_products(true, bf16_weight); }
TEST_CASE("experts: products with NVFP4 weights") { compare_products(false, coded_weight); }
TEST_CASE("experts: products with NVFP4 weights and quantized inputs") { compare_products(true, coded_weight); }

// k that 8 and not 16 divides, and n that 8 does not.
TEST_CASE("experts: products of ragged shapes") {
    Devices devices;
    std::mt19937 random(17);
    for (const Product & size : {Product{1, 32, 130, 200}, {90, 6, 33, 72}})
        for (const Row row : {Row::token, Row::own})
            compare(devices, product_case(random, size, row, bf16_weight(random, size), false, size.experts));
}

// Sums in the order of the index: the bits of the CPU.
TEST_CASE("experts: products in F32, and rows that 8 does not divide") {
    Devices devices;
    std::mt19937 random(14);
    for (const Product & size : {Product{60, 16, 48, 64}, {60, 16, 48, 36}, {300, 7, 130, 100}, {1, 9, 5, 20}})
        for (const DType dtype : {DType::f32, DType::bf16})
            for (const Row row : {Row::token, Row::own})
                for (const int64_t used : {size.experts, int64_t(4)}) {
                    CAPTURE(size.k);
                    CAPTURE(int(row));
                    OpInput w = weight(random, dtype, {size.experts, size.n, size.k}, 0.1f);
                    if (dtype == DType::f32) // values that BF16 does not hold
                        for (float & value : w.numbers) value *= 1.0f + float(random() % 1000) * 1e-5f;
                    if (size.k % 8 == 0 && dtype == DType::bf16) continue;
                    compare_exactly(devices, product_case(random, size, row, w, false, used));
                    if (size.k % 16 == 0) compare(devices, product_case(random, size, row, w, true, used));
                }
}

// Rows with a single 1 pick columns of the weight: every code with every scale, and nothing is rounded.
TEST_CASE("experts: NVFP4 weights are widened exactly") {
    Devices devices;
    std::mt19937 random(15);
    const int64_t k = 128, n = 200, experts = 3;
    OpInput w = nvfp4_weight(random, {experts, n, k}, 1);
    w.global_scales.assign(size_t(experts), 1.0f);
    for (size_t i = 0; i < w.block_scales.size(); i++) w.block_scales[i] = uint8_t(i % 0x7f); // all but NaN
    OpInput x = activation(random, {experts * k, k});
    for (int64_t i = 0; i < experts * k; i++)
        for (int64_t j = 0; j < k; j++) x.numbers[size_t(i * k + j)] = i % k == j ? 1.0f : 0.0f;
    const std::vector<int32_t> slots(size_t(experts * k), 0), offsets = {0, int32_t(k), int32_t(2 * k), int32_t(3 * k)};
    compare_exactly(devices, {GroupedLinearParams{Row::own, 1},
                              {x, w, indices({experts * k}, slots), indices({experts + 1}, offsets), {}},
                              {true, true, true, true, false}});
    OpInput dense = w, first = x; // the same through the product of a single weight
    dense.shape = {n, k};
    dense.bytes.resize(size_t(n * k / 2));
    dense.block_scales.resize(size_t(n * k / 16));
    dense.global_scales.resize(1);
    first.shape = {k, k};
    first.numbers.resize(size_t(k * k));
    compare_exactly(devices, {LinearParams{}, {first, dense}, {}});
}

TEST_CASE("experts: a row's bits do not depend on the others") {
    Devices devices;
    std::mt19937 random(12);
    OpRunner cuda(*devices.cuda);
    const int64_t rows = 600, k = 320, n = 200;
    const OpInput x = activation(random, {rows, k}), same_scales = numbers({3}, {300, 300, 300});
    OpInput coded = nvfp4_weight(random, {3, n, k}, 100);
    const std::pair<OpInput, bool> cases[] = {{weight(random, DType::bf16, {3, n, k}), false},
                                              {weight(random, DType::bf16, {3, n, k}), true},
                                              {weight(random, DType::f32, {3, n, k}), false},
                                              {coded, false},
                                              {coded, true}};
    for (const auto & [w, quantized] : cases) {
        CAPTURE(int(w.dtype));
        CAPTURE(quantized);
        const auto product = [&](int32_t first, int32_t second, int32_t last) {
            const std::vector<int32_t> slots(size_t(rows), 0);
            return cuda
                .run({GroupedLinearParams{Row::own, 1},
                      {x, w, indices({rows}, slots), indices({4}, {0, first, second, last}), same_scales},
                      {true, true, true, true, quantized}})
                .tensors[0];
        };
        const std::vector<float> all = product(0, 600, 600); // the second expert has them all
        for (const auto & [first, second] : {std::pair<int32_t, int32_t>{1, 2}, {77, 300}, {128, 257}, {599, 600}}) {
            const std::vector<float> some = product(first, second, second + (600 - second) / 2);
            CHECK(std::equal(some.begin() + first * n, some.begin() + second * n, all.begin() + first * n));
        }
    }
}
