// Every op on a CUDA device against its twin on the CPU in BF16: shipped shapes and ragged edges, twice for determinism. With
// --bench (test_nvfp4_pack_cuda.cpp has the main) it measures instead.
#include "core/noise.h"
#include "cuda/copy_rate.h"
#include "cuda/delta_case.h"
#include "cuda/device_fixture.h"
#include "cuda/expert_choices.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

OpCase attention_case(std::mt19937 & random, const std::vector<int> & lengths, int query_heads, int key_heads, int head,
                      bool masked) {
    const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), 0);
    std::vector<uint8_t> real(size_t(tokens), 1);
    for (size_t t = 0; masked && t < real.size(); t++) real[t] = t % 5 != 4;
    AttentionParams params = {head, float(1 / std::sqrt(double(head)))};
    OpCase op = {params,
                 {activation(random, {tokens, query_heads * head}), activation(random, {tokens, key_heads * head}),
                  activation(random, {tokens, key_heads * head}),
                  indices({int64_t(lengths.size()) + 1}, segments_of(lengths)), mask(real)},
                 {true, true, true, true, masked}};
    return op;
}

// Every query sees all keys of its segment.
OpCase full_attention_case(std::mt19937 & random, const std::vector<int> & lengths, int heads, int head, bool masked) {
    OpCase op = attention_case(random, lengths, heads, heads, head, masked);
    std::get<AttentionParams>(op.params).causal = false;
    return op;
}

} // namespace

TEST_CASE("ops on rows") {
    Devices devices;
    std::mt19937 random(1);
    for (const Shape & shape : {Shape{1, 8}, Shape{3, 17}, Shape{70, 256}, Shape{1030, 2048}, Shape{257, 4096}}) {
        CAPTURE(dims_text(shape));
        const int64_t rows = shape[0], width = shape[1];
        compare(devices,
                {RmsNormParams{1e-6f, 1}, {activation(random, shape), weight(random, DType::f32, {width}, 0.1f)}, {}});
        compare(devices, {RmsNormParams{1e-6f, 1},
                          {activation(random, {rows, 2 * width}), weight(random, DType::f32, {width}, 0.1f)},
                          {}});
        for (const bool sigmoid : {false, true})
            compare(devices,
                    {GatedRmsNormParams{1e-6f, sigmoid},
                     {activation(random, shape), weight(random, DType::f32, {width}), activation(random, shape)},
                     {}},
                    2);
        compare_exactly(devices, {AddParams{}, {activation(random, shape), activation(random, shape)}, {}});
        compare(devices, {SiluMulParams{}, {activation(random, shape, 3), activation(random, shape)}, {}});
        compare(devices,
                {SigmoidGateParams{width}, {activation(random, shape), activation(random, {rows, 2 * width})}, {}});
        compare(devices, {SigmoidGateParams{0}, {activation(random, shape), activation(random, {rows, 1})}, {}});
        std::vector<uint8_t> real(static_cast<size_t>(rows));
        for (size_t i = 0; i < real.size(); i++) real[i] = i % 3 != 1;
        compare_exactly(devices, {MaskRowsParams{}, {activation(random, shape), mask(real)}, {}});
        std::vector<int32_t> ids(static_cast<size_t>(rows));
        for (int32_t & id : ids) id = int32_t(random() % 100);
        for (const DType dtype : {DType::bf16, DType::f32})
            compare_exactly(
                devices, {EmbeddingParams{},
                          {indices({rows}, ids), weight(random, dtype, {100, width}), activation(random, {1, width})},
                          {true, true, false}});
        for (size_t i = 0; i < ids.size(); i += 3) ids[i] = -1 - int32_t(random() % 7); // given rows
        compare_exactly(
            devices, {EmbeddingParams{},
                      {indices({rows}, ids), weight(random, DType::bf16, {100, width}), activation(random, {7, width})},
                      {}});
        compare(devices, {LayerNormParams{1e-6f},
                          {activation(random, shape, 3), weight(random, DType::f32, {width}),
                           weight(random, DType::f32, {width})},
                          {}});
        for (const bool tanh : {false, true}) compare(devices, {GeluParams{tanh}, {activation(random, shape, 3)}, {}});
        compare_exactly(devices, {ColumnsParams{width / 2, width - width / 2}, {activation(random, shape)}, {}});
        compare_exactly(devices, {ColumnsParams{width, width}, {activation(random, {rows, 3 * width})}, {}});
    }
}

TEST_CASE("rope") {
    Devices devices;
    std::mt19937 random(2);
    for (const int64_t tokens : {1, 70, 1000})
        for (const int heads : {1, 2, 16}) {
            RopeParams params;
            params.head = 256, params.rotary = 64, params.theta = 1e7;
            params.section[0] = 11, params.section[1] = 11, params.section[2] = 10;
            std::vector<int32_t> positions(size_t(3 * tokens));
            for (size_t i = 0; i < positions.size(); i++) positions[i] = int32_t(random() % 200000);
            compare(devices, {params, {activation(random, {tokens, heads * 256}), indices({3, tokens}, positions)}, {}},
                    2);
        }
}

TEST_CASE("rope with two axes, of columns of a row") {
    Devices devices;
    std::mt19937 random(14);
    for (const int head : {8, 16, 64, 72, 128})
        for (const int64_t tokens : {1, 70, 1000}) {
            CAPTURE(head);
            RopeParams params;
            params.head = params.rotary = head, params.theta = 1e4, params.axial = true;
            params.heads = 4, params.column = 4 * head;
            std::vector<int32_t> positions(size_t(3 * tokens));
            for (int32_t & position : positions) position = int32_t(random() % 300);
            compare(devices, {params, {activation(random, {tokens, 12 * head}), indices({3, tokens}, positions)}, {}},
                    1.01);
        }
}

TEST_CASE("positions of a grid from a table") {
    Devices devices;
    std::mt19937 random(15);
    for (const int side : {1, 12, 48})
        for (const int64_t tokens : {1, 500}) {
            std::vector<int32_t> positions(size_t(3 * tokens)), extents(size_t(2 * tokens));
            for (size_t axis = 0; axis < 2; axis++)
                for (size_t t = 0; t < size_t(tokens); t++) {
                    const auto extent = int32_t(1 + random() % 100);
                    extents[axis * size_t(tokens) + t] = extent;
                    positions[(axis + 1) * size_t(tokens) + t] = int32_t(random() % uint32_t(extent));
                }
            compare_exactly(devices, {GridEmbeddingParams{},
                                      {weight(random, DType::f32, {side * side, 100}), indices({3, tokens}, positions),
                                       indices({2, tokens}, extents)},
                                      {}});
        }
}

TEST_CASE("linear") {
    Devices devices;
    std::mt19937 random(3);
    struct Size {
        int64_t m, n, k;
    };
    for (const Size & size :
         {Size{1, 8, 8}, {3, 1, 2048}, {70, 32, 2048}, {129, 512, 2048}, {1000, 1024, 2048}, {77, 2048, 512}}) {
        CAPTURE(size.m);
        CAPTURE(size.n);
        compare(devices, {LinearParams{},
                          {activation(random, {size.m, size.k}), weight(random, DType::bf16, {size.n, size.k}, 0.05f)},
                          {}});
        if (size.k % 16 == 0)
            compare(devices, {LinearParams{},
                              {activation(random, {size.m, size.k}),
                               weight(random, DType::bf16, {size.n, size.k}, 0.05f), numbers({1}, {500})},
                              {}});
    }
    for (const int64_t n : {1, 100, 512}) // with a bias
        for (const DType dtype : {DType::bf16, DType::f32})
            compare(devices,
                    {LinearParams{},
                     {activation(random, {70, 256}), weight(random, dtype, {n, 256}, 0.05f), numbers({1}, {1}),
                      weight(random, DType::f32, {n})},
                     {true, true, false, true}},
                    2); // the sum is rounded, too
    // A row's bits do not depend on the others.
    OpRunner cuda(*devices.cuda);
    const OpInput x = activation(random, {1000, 2048}), w = weight(random, DType::bf16, {1024, 2048});
    const std::vector<float> all = cuda.run({LinearParams{}, {x, w}, {}}).tensors[0];
    for (const int64_t m : {1, 7, 64, 200, 513}) {
        OpInput part = x;
        part.shape = {m, 2048};
        part.numbers.resize(size_t(m * 2048));
        const std::vector<float> some = cuda.run({LinearParams{}, {part, w}, {}}).tensors[0];
        CHECK(std::equal(some.begin(), some.end(), all.begin()));
    }
}

// k of one part and of several, with parts that end early and lanes without anything; as many rows as each kernel is for, and
// one more; weights of both kinds.
TEST_CASE("linear of few rows") {
    Devices devices;
    std::mt19937 random(5);
    struct Size {
        int64_t n, k;
    };
    for (const Size & size : {Size{1, 32}, {3, 64}, {130, 128}, {512, 2048}, {2048, 512}, {70, 4096}, {33, 1056}})
        for (const int64_t m : {1, 2, 7, 8, 9, 16, 31, 33, 70})
            for (const bool coded : {false, true})
                for (const bool quantized : {false, true}) {
                    CAPTURE(size.n);
                    CAPTURE(size.k);
                    CAPTURE(m);
                    CAPTURE(coded);
                    CAPTURE(quantized);
                    const OpInput w = coded ? nvfp4_weight(random, {size.n, size.k}, 100)
                                            : weight(random, DType::bf16, {size.n, size.k}, 0.05f);
                    OpCase op = {LinearParams{true}, {activation(random, {m, size.k}), w, numbers({1}, {500})}, {}};
                    op.present = {true, true, quantized};
                    compare(devices, op);
                }
    compare(devices,
            {LinearParams{true},
             {activation(random, {3, 256}), weight(random, DType::bf16, {100, 256}, 0.05f), numbers({1}, {1}),
              weight(random, DType::f32, {100})},
             {true, true, false, true}},
            2); // the sum is rounded, too
}

// As the kernels for 8, 16, 32, 64 and 128 rows at once compute it, for n of so few blocks that several have the same weights, too.
TEST_CASE("linear of few rows: a row's bits do not depend on the others") {
    Devices devices;
    std::mt19937 random(6);
    OpRunner cuda(*devices.cuda);
    constexpr int64_t most = 270;
    for (const auto & [n, k] :
         {std::pair<int64_t, int64_t>{9000, 2048}, {4370, 1056}, {2100, 4096}, {2048, 2336}, {300, 2048}, {300, 512}})
        for (const bool coded : {false, true})
            for (const bool quantized : {false, true}) {
                CAPTURE(n);
                CAPTURE(k);
                CAPTURE(coded);
                CAPTURE(quantized);
                const OpInput x = activation(random, {most, k});
                const OpInput w = coded ? nvfp4_weight(random, {n, k}, 100) : weight(random, DType::bf16, {n, k});
                const auto product = [&, n = n, k = k](int64_t first, int64_t m) {
                    OpInput part = x;
                    part.shape = {m, k};
                    part.numbers.assign(x.numbers.begin() + first * k, x.numbers.begin() + (first + m) * k);
                    OpCase op = {LinearParams{true}, {part, w, numbers({1}, {500})}, {true, true, quantized}};
                    return cuda.run(op).tensors[0];
                };
                const std::vector<float> all = product(0, most);
                for (const int64_t m : {1, 3, 8, 9, 17, 32, 33, 64, 65, 100, 128, 200, 256}) {
                    CAPTURE(m);
                    const int64_t first = m % 3;
                    const std::vector<float> some = product(first, m);
                    CHECK(std::equal(some.begin(), some.end(), all.begin() + first * n));
                }
            }
}

// Sums in the order of the index: the bits of the CPU.
TEST_CASE("linear: weights in F32, and rows that 8 does not divide") {
    Devices devices;
    std::mt19937 random(13);
    struct Size {
        int64_t m, n, k;
    };
    for (const DType dtype : {DType::f32, DType::bf16})
        for (const Size & size : {Size{1, 1, 1}, {3, 70, 20}, {65, 64, 100}, {130, 129, 2052}, {64, 300, 2048}}) {
            CAPTURE(size.m);
            CAPTURE(size.k);
            OpInput w = weight(random, dtype, {size.n, size.k}, 0.05f);
            if (dtype == DType::f32) // values that BF16 does not hold
                for (float & value : w.numbers) value *= 1.0f + float(random() % 1000) * 1e-5f;
            if (dtype == DType::bf16 && size.k % 8 == 0) continue;
            compare_exactly(devices, {LinearParams{}, {activation(random, {size.m, size.k}), w}, {}});
            if (size.k % 16 == 0)
                compare(devices, {LinearParams{}, {activation(random, {size.m, size.k}), w, numbers({1}, {500})}, {}});
        }
}

TEST_CASE("experts") {
    Devices devices;
    std::mt19937 random(4);
    struct Size {
        int64_t tokens;
        int chosen, experts, first, count;
    };
    for (const Size & size :
         {Size{1, 4, 32, 0, 32}, {70, 4, 32, 0, 32}, {300, 8, 256, 64, 100}, {1000, 10, 512, 0, 512}}) {
        CAPTURE(size.tokens);
        const std::vector<int32_t> choices = random_choices(random, size.tokens, size.chosen, size.experts);
        const int64_t room = size.tokens * std::min(size.chosen, size.count);
        const Order order = order_of(choices, size.first, size.count, size_t(room));
        const OpInput slots = indices({room}, order.slots), offsets = indices({size.count + 1}, order.offsets);
        OpRunner cuda(*devices.cuda);
        OpResult found =
            cuda.run({ExpertOrderParams{size.first, size.count}, {indices({size.tokens, size.chosen}, choices)}, {}});
        const auto used = size_t(order.offsets.back()); // slots behind the last expert's are undefined
        CHECK(found.tensors[1] == std::vector<float>(order.offsets.begin(), order.offsets.end()));
        CHECK(std::equal(order.slots.begin(), order.slots.begin() + ptrdiff_t(used), found.tensors[0].begin()));
        std::vector<float> shares(choices.size());
        for (float & share : shares) share = to_bf16(float(random() % 1000) / 1000);
        const OpInput weights = numbers({size.tokens, size.chosen}, shares);
        for (const bool with_sum : {false, true}) {
            const OpInput sum = numbers({size.tokens, 96}, random_numbers(random, size.tokens * 96, 1));
            compare(devices,
                    {ExpertCombineParams{},
                     {sum, activation(random, {room, 96}), slots, offsets, weights},
                     {with_sum, true, true, true, true}},
                    0.01);
        }
        std::vector<uint8_t> real(size_t(size.tokens), 1);
        real[0] = 0;
        compare_exactly(devices, {CountExpertsParams{},
                                  {indices({size.tokens, size.chosen}, choices), mask(real),
                                   zero_state(DType::i64, {size.experts})},
                                  {}});
        compare(devices, {RouterParams{size.chosen}, {activation(random, {size.tokens, size.experts}, 2)}, {}}, 0.5);
    }
}

// silu_mul with groups gives the same bytes as silu_mul and observe.
static void compare_fused_maxima(Devices & devices, std::mt19937 & random, Shape shape, int groups,
                                 const std::vector<int32_t> & offsets) {
    CAPTURE(dims_text(shape));
    CAPTURE(groups);
    const OpInput gate = activation(random, shape, 3), up = activation(random, shape);
    const OpInput none = zero_state(DType::f32, {groups}), starts = indices({groups + 1}, offsets);
    const OpCase fused = {SiluMulParams{groups}, {gate, up, none, starts}, {true, true, true, !offsets.empty()}};
    compare(devices, fused);
    OpRunner cuda(*devices.cuda);
    const OpResult found = cuda.run(fused);
    OpInput product = activation(random, shape);
    product.numbers = cuda.run({SiluMulParams{}, {gate, up}, {}}).tensors[0];
    CHECK(found.tensors[0] == product.numbers);
    const OpCase observed = {
        ObserveParams{&Statistic::maximum, groups}, {product, none, starts}, {true, true, !offsets.empty()}};
    CHECK(found.tensors[1] == cuda.run(observed).tensors[0]);
}

TEST_CASE("largest magnitudes") {
    Devices devices;
    std::mt19937 random(5);
    for (const int groups : {1, 4, 32})
        for (const int64_t rows : {1, 33, 1000})
            for (const int64_t width : {20, 64, 512})
                compare_exactly(devices,
                                {ObserveParams{&Statistic::maximum, groups},
                                 {activation(random, {rows, groups * width}), zero_state(DType::f32, {groups})},
                                 {}});
    // In the same pass as SiLU times up: the maximum of BF16 numbers that may be a step off the CPU's.
    for (const int groups : {1, 4, 32})
        for (const int64_t rows : {1, 33, 1000})
            for (const int64_t width : {20, 64, 512})
                compare_fused_maxima(devices, random, {rows, groups * width}, groups, {});
    const std::vector<int32_t> offsets = {0, 0, 7, 60, 61, 90}; // rows beyond are not looked at
    compare_fused_maxima(devices, random, {100, 512}, 5, offsets);
    compare_fused_maxima(devices, random, {100, 20}, 5, offsets);
    compare_exactly(devices, {ObserveParams{&Statistic::maximum, 5},
                              {activation(random, {100, 512}), zero_state(DType::f32, {5}), indices({6}, offsets)},
                              {}});
}

TEST_CASE("attention") {
    Devices devices;
    std::mt19937 random(6);
    compare(devices, attention_case(random, {1}, 4, 2, 64, false), 2);
    compare(devices, attention_case(random, {70}, 4, 2, 64, false), 2);
    compare(devices, attention_case(random, {1, 63, 64, 65, 130}, 4, 2, 64, false), 2);
    compare(devices, attention_case(random, {1, 63, 64, 65, 130}, 6, 2, 128, true), 2);
    compare(devices, attention_case(random, {5, 300, 31, 32, 33}, 16, 2, 256, false), 2);
    compare(devices, attention_case(random, {200, 77}, 16, 2, 256, true), 2);
    compare(devices, attention_case(random, {700, 500}, 16, 2, 256, false), 2);  // more work than processors
    compare(devices, attention_case(random, {130, 77, 1}, 6, 2, 256, false), 2); // heads of a key head without a pair
    for (const int head : {8, 20, 36, 72, 80, 96, 200})                          // without a kernel of their own
        compare(devices, attention_case(random, {1, 63, 64, 65, 130}, 4, 2, head, head % 16 == 0), 2);
    // Tiles end behind a text: the NaN of the next one does no harm.
    OpRunner cuda(*devices.cuda);
    OpCase op = attention_case(random, {70, 30}, 4, 2, 256, false);
    const std::vector<float> expected = cuda.run(op).tensors[0];
    for (const size_t i : {1, 2})
        std::fill(op.inputs[i].numbers.begin() + 70 * 512, op.inputs[i].numbers.end(), std::nanf(""));
    const std::vector<float> found = cuda.run(op).tensors[0];
    CHECK(std::equal(found.begin(), found.begin() + 70 * 1024, expected.begin()));
}

TEST_CASE("attention that sees all keys") {
    Devices devices;
    std::mt19937 random(16);
    for (const int head : {8, 16, 20, 64, 72, 80, 100, 128, 200, 256})
        for (const bool masked : {false, true}) {
            CAPTURE(head);
            compare(devices, full_attention_case(random, {1, 63, 64, 65, 130, 2, 300}, 3, head, masked), 2);
        }
    // A segment's bits do not depend on the others.
    OpRunner cuda(*devices.cuda);
    const OpCase all = full_attention_case(random, {100, 64, 129}, 4, 72, false);
    OpCase one = all;
    for (size_t i = 0; i < 3; i++) {
        one.inputs[i].shape = {64, 288};
        const auto from = all.inputs[i].numbers.begin() + 100 * 288;
        one.inputs[i].numbers.assign(from, from + 64 * 288);
    }
    one.inputs[3] = indices({2}, {0, 64});
    one.inputs[4] = mask(std::vector<uint8_t>(64, 1));
    const std::vector<float> whole = cuda.run(all).tensors[0], alone = cuda.run(one).tensors[0];
    CHECK(std::equal(alone.begin(), alone.end(), whole.begin() + 100 * 288));
}

TEST_CASE("causal convolution") {
    Devices devices;
    std::mt19937 random(7);
    const auto check = [&](const std::vector<int> & lengths, int64_t channels, int64_t taps, bool with_state) {
        CAPTURE(channels);
        CAPTURE(taps);
        const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), 0), count = int64_t(lengths.size());
        compare(devices,
                {CausalConvParams{},
                 {activation(random, {tokens, channels}), weight(random, DType::f32, {channels, 1, taps}, 0.5f),
                  indices({count + 1}, segments_of(lengths)), zero_state(DType::f32, {count, taps - 1, channels})},
                 {true, true, true, with_state}},
                2);
    };
    const std::vector<int> ragged = {1, 2, 3, 31, 32, 33, 130};
    for (const bool with_state : {false, true}) {
        for (const std::vector<int> & lengths : {std::vector<int>{1}, {70}, ragged}) check(lengths, 520, 4, with_state);
        check({1000, 1048}, 8192, 4, with_state); // as shipped
        for (const int64_t taps : {2, 3, 5, 8})
            for (const int64_t channels : {260, 521}) check(ragged, channels, taps, with_state);
    }
}

TEST_CASE("Gated DeltaNet, chunked: nearly as precise as the recurrent form, independent of other segments") {
    Devices devices;
    std::mt19937 random(10);
    OpRunner cpu(*devices.cpu), cuda(*devices.cuda);
    for (const auto & [key_heads, value_heads] : {std::pair<int, int>{2, 2}, {2, 4}, {1, 3}}) {
        CAPTURE(value_heads);
        const std::vector<int> lengths = {1, 31, 32, 63, 64, 65, 1, 127, 128, 129, 200, 1000, 7, 96};
        OpCase op = delta_case(random, lengths, key_heads, value_heads, 128, 128, true);
        op.inputs[6].numbers = random_numbers(random, op.inputs[6].shape.elements(), 0.1f);
        std::get<GatedDeltaNetParams>(op.params).form = GatedDeltaNetParams::Form::recurrent;
        const OpResult expected = cpu.run(op), recurrent = cuda.run(op);
        CHECK(error_of(recurrent.tensors[1], expected.tensors[1]) <= 1e-6);
        for (const auto form : {GatedDeltaNetParams::Form::chunked, GatedDeltaNetParams::Form::automatic}) {
            std::get<GatedDeltaNetParams>(op.params).form = form;
            const OpResult found = cuda.run(op), again = cuda.run(op);
            CHECK(found.tensors == again.tensors);
            // Rounding the outputs to BF16 makes steps of the few that fall to the other side, far fewer than rounding
            // costs: 1.6e-3 in the mean. The states are not rounded.
            CHECK(error_of(found.tensors[0], expected.tensors[0]) <= bf16_step);
            CHECK(rms_error_of(found.tensors[0], expected.tensors[0]) <= 3e-4);
            CHECK(error_of(found.tensors[1], expected.tensors[1]) <= 2e-5);
            CHECK(rms_error_of(found.tensors[1], expected.tensors[1]) <= 2e-5);
        }
        // The segment of 200 alone, and in two pieces.
        const OpResult all = cuda.run(op);
        const int64_t first = std::accumulate(lengths.begin(), lengths.begin() + 10, 0);
        const int64_t size = value_heads * 128 * 128, width = value_heads * 128;
        const auto memory = op.inputs[6].numbers.begin() + 10 * size;
        const OpResult alone = cuda.run(one_segment(op, first, 200, {memory, memory + size}));
        CHECK(std::equal(alone.tensors[0].begin(), alone.tensors[0].end(), all.tensors[0].begin() + first * width));
        CHECK(std::equal(alone.tensors[1].begin(), alone.tensors[1].end(), all.tensors[1].begin() + 10 * size));
        const OpResult begun = cuda.run(one_segment(op, first, 128, {memory, memory + size}));
        const OpResult ended = cuda.run(one_segment(op, first + 128, 72, begun.tensors[1]));
        CHECK(std::equal(begun.tensors[0].begin(), begun.tensors[0].end(), alone.tensors[0].begin()));
        CHECK(std::equal(ended.tensors[0].begin(), ended.tensors[0].end(), alone.tensors[0].begin() + 128 * width));
        CHECK(ended.tensors[1] == alone.tensors[1]);
    }
}

TEST_CASE("Gated DeltaNet, chunked: gates that leave nothing, or nearly everything") {
    Devices devices;
    std::mt19937 random(11);
    for (const float shift : {-12.0f, -3.0f, 3.0f, 12.0f, 90.0f}) {
        CAPTURE(shift);
        OpCase op = delta_case(random, {300, 64}, 2, 4, 128, 128, true);
        // Here and there a gate of -1000 or less among small ones.
        for (size_t i = 0; i < op.inputs[1].numbers.size(); i++)
            op.inputs[1].numbers[i] = to_bf16(i % 37 == 5 ? 1000.0f : op.inputs[1].numbers[i] + shift);
        compare(devices, op);
    }
}

// Enough heads for a device, or few: blocks have more columns or fewer.
TEST_CASE("Gated DeltaNet, chunked: the same bits beside many segments, of which some are NaN") {
    Devices devices;
    std::mt19937 random(12);
    OpRunner cuda(*devices.cuda);
    const int length = 70, count = 80;
    const int64_t heads = 4, size = heads * 128 * 128, width = heads * 128;
    OpCase op = delta_case(random, std::vector<int>(size_t(count), length), 2, int(heads), 128, 128, true);
    op.inputs[6].numbers = random_numbers(random, op.inputs[6].shape.elements(), 0.1f);
    std::get<GatedDeltaNetParams>(op.params).form = GatedDeltaNetParams::Form::chunked;
    const int64_t row = op.inputs[0].shape.last();
    for (int64_t segment = 1; segment < count; segment += 2)
        std::fill_n(op.inputs[0].numbers.begin() + segment * length * row, length * row, NAN);
    const OpResult all = cuda.run(op);
    for (const int64_t segment : {int64_t(0), int64_t(42), int64_t(count - 2)}) {
        CAPTURE(segment);
        const auto memory = op.inputs[6].numbers.begin() + segment * size;
        const OpResult alone = cuda.run(one_segment(op, segment * length, length, {memory, memory + size}));
        CHECK(std::equal(alone.tensors[0].begin(), alone.tensors[0].end(),
                         all.tensors[0].begin() + segment * length * width));
        CHECK(std::equal(alone.tensors[1].begin(), alone.tensors[1].end(), all.tensors[1].begin() + segment * size));
    }
}

TEST_CASE("Gated DeltaNet") {
    Devices devices;
    std::mt19937 random(8);
    compare(devices, delta_case(random, {1}, 4, 8, 32, 32, true));
    compare(devices, delta_case(random, {70, 1, 9}, 4, 8, 32, 32, false));
    compare(devices, delta_case(random, {63, 64, 65}, 2, 6, 64, 40, true));
    compare(devices, delta_case(random, {200, 8}, 16, 32, 128, 128, true));
    compare(devices, delta_case(random, {1, 2, 3, 1}, 16, 32, 128, 128, true));
    compare(devices, delta_case(random, {1, 700, 33, 64, 5, 129}, 16, 32, 128, 128, false));
    compare(devices, delta_case(random, {130}, 1, 6, 128, 128, false));
    compare(devices, delta_case(random, {130, 40}, 2, 2, 128, 96, true));
    compare(devices, delta_case(random, std::vector<int>(40, 65), 2, 4, 128, 128, true));
}

// --- Speed ------------------------------------------------------------------------------------------------------------------

TEST_CASE("largest of a row") {
    Devices devices;
    std::mt19937 random(19);
    for (const int64_t width : {1, 7, 64, 4096, 70001}) {
        std::vector<uint8_t> some(static_cast<size_t>(width));
        for (uint8_t & flag : some) flag = random() % 3 != 0;
        OpInput x = activation(random, {3, width});
        for (const bool masked : {false, true})
            compare_exactly(devices, {LargestParams{}, {x, mask(some)}, {true, masked}});
        x.numbers[size_t(width / 2)] = NAN;
        x.numbers[size_t(width + width / 3)] = INFINITY;
        compare_exactly(devices, {LargestParams{}, {x, mask(std::vector<uint8_t>(size_t(width), 0))}, {}});
        OpRunner cuda(*devices.cuda);
        CHECK(std::isnan(cuda.run({LargestParams{}, {x, mask({})}, {true, false}}).tensors[1][0]));
    }
}

TEST_CASE("top of a row: what is left out is smaller than what is there, and little is there beyond what is wanted") {
    Devices devices;
    OpRunner cuda(*devices.cuda);
    std::mt19937 random(23);
    constexpr int64_t wanted = 128, most = 512;
    for (const int64_t width : {1, 64, 127, 1000, 4096, 70001, 248320}) {
        std::vector<uint8_t> some(static_cast<size_t>(width));
        for (uint8_t & flag : some) flag = random() % 8 != 0;
        OpInput x = activation(random, {3, width});
        x.numbers[size_t(width / 2)] = NAN;
        x.numbers[size_t(width + width / 3)] = INFINITY;
        for (const bool masked : {false, true}) {
            const OpResult result = cuda.run({TopParams{wanted, most}, {x, mask(some)}, {true, masked}});
            for (int64_t row = 0; row < 3; row++) {
                const auto is_in = [&](int64_t i) { return !masked || some[size_t(i)] != 0; };
                const float * const columns = result.tensors[0].data() + row * (1 + most); // exact below 2^24
                const auto count = int64_t(columns[0]);
                const int64_t all =
                    std::count_if(some.begin(), some.end(), [&](uint8_t flag) { return !masked || flag; });
                CHECK(count >= std::min(wanted, all));
                if (all > 16 * wanted) CHECK(count <= 3 * wanted / 2);
                if (count > most) continue;
                const auto rank_of = [](float number) { return std::isnan(number) ? INFINITY : number; };
                std::set<int64_t> there;
                float least = INFINITY;
                for (int64_t i = 0; i < count; i++) {
                    const auto column = int64_t(columns[1 + i]);
                    REQUIRE((column >= 0 && column < width && is_in(column)));
                    const float number = result.tensors[1][size_t(row * most + i)],
                                given = x.numbers[size_t(row * width + column)];
                    CHECK((number == given || (std::isnan(number) && std::isnan(given))));
                    least = std::min(least, rank_of(number));
                    CHECK(there.insert(column).second);
                }
                for (int64_t i = 0; i < width; i++)
                    if (is_in(i) && there.count(i) == 0) REQUIRE(rank_of(x.numbers[size_t(row * width + i)]) < least);
            }
        }
        const std::vector<uint8_t> none(static_cast<size_t>(width));
        CHECK(cuda.run({TopParams{wanted, most}, {x, mask(none)}, {}}).tensors[0][0] == 0);
    }
}

TEST_CASE("draw from a row: the CPU's") {
    Devices devices;
    std::mt19937 random(29);
    for (const int64_t width : {1, 33, 8192, 70001, 248320})
        for (const int64_t rows : {1, 5}) {
            std::vector<uint8_t> some(static_cast<size_t>(width));
            for (uint8_t & flag : some) flag = random() % 8 != 0;
            OpInput x = activation(random, {rows, width}, 6);
            for (int round = 0; round < 8; round++) {
                std::vector<int32_t> draws;
                for (int64_t row = 0; row < rows; row++) {
                    const Draw draw = {uint64_t(random()) << 32 | random(), round == 0 ? 1 : 0.1 * round};
                    int32_t words[4];
                    memcpy(words, &draw, sizeof draw);
                    draws.insert(draws.end(), words, words + 4);
                }
                for (const bool masked : {false, true})
                    compare_exactly(devices,
                                    {DrawParams{}, {x, mask(some), indices({rows, 4}, draws)}, {true, masked, true}});
            }
            x.numbers[size_t(width / 2)] = NAN;
            compare_exactly(devices, {DrawParams{},
                                      {x, mask(std::vector<uint8_t>(size_t(width), 0)),
                                       indices({rows, 4}, std::vector<int32_t>(size_t(4 * rows), 0x3ff00000))},
                                      {}});
        }
}

// Prints what ops take, and the shares of what a copy and a large product reach, which it measures first.
class OpBench {
  public:
    OpBench() : cuda(*devices.cuda), copied_(copy_rate(*devices.cuda)) {
        printf("copy %8.0f GB/s\n", copied_ / 1e9);
        print("linear 16384 x 2048 -> 8192",
              {LinearParams{}, {activation(random, {T, 2048}), weight(random, DType::bf16, {8192, 2048})}, {}});
    }
    void print(const char * name, const OpCase & op, double flops = 0) {
        const OpResult result = cuda.run(op, 20);
        const double done = (flops > 0 ? flops : cuda.flops) / result.seconds;
        if (multiplied_ == 0) multiplied_ = done;
        printf("%s %8.1f TFLOP/s %5.1f %% of a linear\n", times(name, result).c_str(), done / 1e12,
               done / multiplied_ * 100);
        fflush(stdout);
    }
    // `tokens` in each of 20 runs.
    void print_tokens(const char * name, const OpCase & op, double tokens) {
        const OpResult result = cuda.run(op, 20);
        printf("%s %8.2f M tokens/s\n", times(name, result).c_str(), tokens / result.seconds / 1e6);
        fflush(stdout);
    }

    static constexpr int64_t T = 16384;
    Devices devices;
    std::mt19937 random{9};
    OpRunner cuda;

  private:
    std::string times(const char * name, const OpResult & result) const {
        const double bytes = cuda.bytes / result.seconds;
        char text[128];
        snprintf(text, sizeof text, "%-46s %9.3f ms %8.0f GB/s %5.1f %% of a copy", name, result.seconds * 1e3,
                 bytes / 1e9, bytes / copied_ * 100);
        return text;
    }
    const double copied_;
    double multiplied_ = 0; // FLOP/s of the large product
};

TEST_CASE("bench of ops on rows" * doctest::skip()) {
    OpBench bench;
    std::mt19937 & random = bench.random;
    constexpr int64_t T = OpBench::T;
    bench.print("rms_norm 16384 x 2048",
                {RmsNormParams{1e-6f, 1}, {activation(random, {T, 2048}), weight(random, DType::f32, {2048})}, {}});
    bench.print("add 16384 x 2048", {AddParams{}, {activation(random, {T, 2048}), activation(random, {T, 2048})}, {}});
    bench.print("sigmoid_gate 16384 x 16 x 256",
                {SigmoidGateParams{256}, {activation(random, {T * 16, 256}), activation(random, {T * 16, 512})}, {}});
    bench.print(
        "gated_rms_norm 16384 x 32 x 128",
        {GatedRmsNormParams{1e-6f, false},
         {activation(random, {T * 32, 128}), weight(random, DType::f32, {128}), activation(random, {T * 32, 128})},
         {}});
    bench.print("causal_conv 16384 x 8192, 4 taps", {CausalConvParams{},
                                                     {activation(random, {T, 8192}),
                                                      weight(random, DType::f32, {8192, 1, 4}),
                                                      indices({9}, segments_of(std::vector<int>(8, 2048))),
                                                      {}},
                                                     {true, true, true, false}});
    bench.print("silu_mul 16384 x 8192",
                {SiluMulParams{}, {activation(random, {T, 8192}), activation(random, {T, 8192})}, {}});
    bench.print("silu_mul and maxima 16384 x 16 x 512",
                {SiluMulParams{16},
                 {activation(random, {T, 8192}), activation(random, {T, 8192}), zero_state(DType::f32, {16}), {}},
                 {true, true, true, false}});
    bench.print(
        "observe 16384 x 16 x 512",
        {ObserveParams{&Statistic::maximum, 16}, {activation(random, {T, 8192}), zero_state(DType::f32, {16})}, {}});
    for (const int64_t rows : {1, 256}) {
        const OpInput logits = activation(random, {rows, 248320});
        bench.print(rows == 1 ? "largest 1 x 248320" : "largest 256 x 248320",
                    {LargestParams{}, {logits, {}}, {true, false}});
        bench.print(rows == 1 ? "top 128 of 1 x 248320" : "top 128 of 256 x 248320",
                    {TopParams{128, 512}, {logits, {}}, {true, false}});
        bench.print(rows == 1 ? "draw from 1 x 248320" : "draw from 256 x 248320",
                    {DrawParams{},
                     {logits, {}, indices({rows, 4}, std::vector<int32_t>(size_t(4 * rows), 0x3ff00000))},
                     {true, false, true}});
    }
    bench.print("linear 16384 x 2048 -> 32",
                {LinearParams{}, {activation(random, {T, 2048}), weight(random, DType::bf16, {32, 2048})}, {}});
    bench.print("linear 16384 x 2048 -> 1",
                {LinearParams{}, {activation(random, {T, 2048}), weight(random, DType::bf16, {1, 2048})}, {}});
    bench.print("router 256, 8", {RouterParams{8}, {activation(random, {T, 256})}, {}});
}

// Weights larger than the L2 cache.
TEST_CASE("bench of few rows" * doctest::skip()) {
    OpBench bench;
    std::mt19937 & random = bench.random;
    for (const bool coded : {false, true}) {
        const OpInput w =
            coded ? nvfp4_weight(random, {131072, 2048}, 100) : weight(random, DType::bf16, {65536, 2048});
        for (const int64_t m : {1, 8, 16, 32, 64, 128, 256}) {
            char name[64];
            snprintf(name, sizeof name, "few rows, %s, %d x 2048 -> %d", coded ? "NVFP4" : "BF16", int(m),
                     int(w.shape[0]));
            bench.print(name, {LinearParams{true}, {activation(random, {m, 2048}), w}, {}});
        }
    }
}

TEST_CASE("bench of experts" * doctest::skip()) {
    OpBench bench;
    std::mt19937 & random = bench.random;
    constexpr int64_t T = OpBench::T;
    const std::vector<int32_t> choices = random_choices(random, T, 8, 256);
    bench.print("expert_order 256, 8", {ExpertOrderParams{0, 256}, {indices({T, 8}, choices)}, {}});
    const Order order = order_of(choices, 0, 256, choices.size());
    bench.print("grouped_linear 16384 x 8: 2048 -> 512",
                {GroupedLinearParams{GroupedLinearParams::Row::token, 8},
                 {activation(random, {T, 2048}), weight(random, DType::bf16, {256, 512, 2048}),
                  indices({T * 8}, order.slots), indices({257}, order.offsets)},
                 {}});
    bench.print("grouped_linear 16384 x 8: 512 -> 2048",
                {GroupedLinearParams{GroupedLinearParams::Row::own, 8},
                 {activation(random, {T * 8, 512}), weight(random, DType::bf16, {256, 2048, 512}),
                  indices({T * 8}, order.slots), indices({257}, order.offsets)},
                 {}});
    bench.print("expert_gather 16384 x 8, 16 of 256 x 512",
                {ExpertGatherParams{0, 16, 8},
                 {activation(random, {T, 16 * 512}), indices({T * 8}, order.slots), indices({257}, order.offsets),
                  activation(random, {1, 1})},
                 {true, true, true, false}});
    bench.print("grouped_linear NVFP4 16384 x 8: 2048 -> 512",
                {GroupedLinearParams{GroupedLinearParams::Row::token, 8},
                 {activation(random, {T, 2048}), nvfp4_weight(random, {256, 512, 2048}, 100),
                  indices({T * 8}, order.slots), indices({257}, order.offsets)},
                 {}});
    bench.print("grouped_linear NVFP4 16384 x 8: 512 -> 2048",
                {GroupedLinearParams{GroupedLinearParams::Row::own, 8},
                 {activation(random, {T * 8, 512}), nvfp4_weight(random, {256, 2048, 512}, 100),
                  indices({T * 8}, order.slots), indices({257}, order.offsets)},
                 {}});
    const Order few = order_of({choices.begin(), choices.begin() + 8}, 0, 256, 8);
    bench.print("grouped_linear 1 x 8: 2048 -> 512",
                {GroupedLinearParams{GroupedLinearParams::Row::token, 8},
                 {activation(random, {1, 2048}), weight(random, DType::bf16, {256, 512, 2048}), indices({8}, few.slots),
                  indices({257}, few.offsets)},
                 {}},
                2.0 * 8 * 512 * 2048);
    bench.print("grouped_linear NVFP4 1 x 8: 2048 -> 512",
                {GroupedLinearParams{GroupedLinearParams::Row::token, 8},
                 {activation(random, {1, 2048}), nvfp4_weight(random, {256, 512, 2048}, 100), indices({8}, few.slots),
                  indices({257}, few.offsets)},
                 {}},
                2.0 * 8 * 512 * 2048);
    for (const int64_t tokens : {32, 256}) {
        const Order of_some = order_of({choices.begin(), choices.begin() + tokens * 8}, 0, 256, size_t(tokens * 8));
        for (const bool down : {false, true}) {
            char name[64];
            snprintf(name, sizeof name, "few rows, NVFP4, %d x 8: %s", int(tokens),
                     down ? "512 -> 2048" : "2048 -> 512");
            const int64_t n = down ? 2048 : 512, k = down ? 512 : 2048;
            const GroupedLinearParams params = {down ? GroupedLinearParams::Row::own : GroupedLinearParams::Row::token,
                                                8, true};
            bench.print(name,
                        {params,
                         {activation(random, {down ? tokens * 8 : tokens, k}), nvfp4_weight(random, {256, n, k}, 100),
                          indices({tokens * 8}, of_some.slots), indices({257}, of_some.offsets)},
                         {}},
                        2.0 * double(tokens) * 8 * 512 * 2048);
        }
    }
    bench.print("expert_combine 16384 x 8 x 2048",
                {ExpertCombineParams{},
                 {numbers({1, 1}, {0}), activation(random, {T * 8, 2048}), indices({T * 8}, order.slots),
                  indices({257}, order.offsets), numbers({T, 8}, std::vector<float>(size_t(T * 8), 0.1f))},
                 {false, true, true, true, true}});
}

TEST_CASE("bench of attention and Gated DeltaNet" * doctest::skip()) {
    OpBench bench;
    std::mt19937 & random = bench.random;
    for (const std::vector<int> & lengths :
         {std::vector<int>(8, 2048), std::vector<int>(1, 16384), std::vector<int>(64, 256)}) {
        char name[64];
        double pairs = 0;
        for (const int length : lengths) pairs += double(length) * double(length + 1) / 2;
        snprintf(name, sizeof name, "attention %zu x %d, 16/2 x 256", lengths.size(), lengths[0]);
        bench.print(name, attention_case(random, lengths, 16, 2, 256, false), 4 * 16 * 256 * pairs);
    }
    bench.print("attention 8 x 2048, 32/8 x 128", attention_case(random, std::vector<int>(8, 2048), 32, 8, 128, false),
                4 * 32 * 128 * 8 * (2048.0 * 2049 / 2));
    for (const int head : {64, 72, 80, 128}) { // of vision towers: all keys are seen
        char name[64];
        snprintf(name, sizeof name, "attention 4 x 4096, 16 x %d, all keys", head);
        bench.print(name, full_attention_case(random, std::vector<int>(4, 4096), 16, head, false),
                    4.0 * 16 * head * 4 * 4096 * 4096);
    }
    for (const std::vector<int> & lengths :
         {std::vector<int>(8, 2048), std::vector<int>(32, 2048), std::vector<int>(1, 16384), std::vector<int>(64, 256),
          std::vector<int>(256, 256), std::vector<int>(512, 32), std::vector<int>(2048, 8), std::vector<int>(256, 1)}) {
        char name[64];
        snprintf(name, sizeof name, "gated_delta_net %5zu x %5d, 16/32 x 128", lengths.size(), lengths[0]);
        bench.print_tokens(name, delta_case(random, lengths, 16, 32, 128, 128, false),
                           double(lengths.size()) * lengths[0]);
    }
}
