// Drafting on a CUDA device: texts and states are those of the same device without.
#include "cuda/device_fixture.h"
#include "forward/drafted_pool.h"
#include "verify/verify_fixture.h"

#include <numeric>

using namespace gnv;
using namespace gnv::test;

namespace {

DraftPlace on_cuda() {
    return {[](ThreadPool &) { return open_cuda(0); }, Precision::bf16};
}

// An op over rows of one text, whole and row by row, each going on from the states that the one before left: its outputs, and the
// states behind the last. Inputs of T rows are those in `by_row`; `segments` and `past` are positions of inputs, past -1: none.
struct Rows {
    size_t segments;
    int past = -1;
    std::vector<size_t> by_row = {0, 1, 2};
};
void check_rows(Devices & devices, const OpCase & whole, const OpParams & one, const Rows & rows) {
    OpRunner cuda(*devices.cuda);
    const OpResult expected = cuda.run(whole, 0, true);
    OpCase step = whole;
    step.params = one;
    std::vector<float> out;
    const int64_t count = whole.inputs[0].shape[0];
    for (int64_t t = 0; t < count; t++) {
        for (const size_t i : rows.by_row) {
            const int64_t columns = whole.inputs[i].shape[1];
            const auto begin = whole.inputs[i].numbers.begin() + ptrdiff_t(t * columns);
            step.inputs[i].shape = {1, columns};
            step.inputs[i].numbers.assign(begin, begin + ptrdiff_t(columns));
        }
        step.inputs[rows.segments].indices = {0, 1};
        if (rows.past >= 0)
            step.inputs[size_t(rows.past)].indices = {whole.inputs[size_t(rows.past)].indices[0] + int32_t(t)};
        const OpResult result = cuda.run(step);
        out.insert(out.end(), result.tensors[0].begin(), result.tensors[0].end());
        size_t next = 1; // states follow the outputs
        for (OpInput & input : step.inputs)
            if (is_state(input)) input.numbers = result.tensors[next++];
    }
    CHECK(out == expected.tensors[0]);
    size_t next = 1;
    for (const OpInput & input : step.inputs)
        if (is_state(input)) CHECK(input.numbers == expected.tensors[next++]);
}

OpInput state(std::mt19937 & random, Shape shape) {
    return {OpInput::Role::state, DType::f32, shape, random_numbers(random, shape.elements(), 0.1f), {}, {}};
}

} // namespace

// Parts of keys end at the same places for a row of a pass as for that row alone, also across a page and a part.
TEST_CASE("attention of a pass ahead: each position has the bits of a step of its own") {
    Devices devices;
    std::mt19937 random(41);
    struct Heads {
        int64_t query, key, head;
    };
    for (const Heads heads : {Heads{16, 2, 256}, {4, 2, 64}, {24, 2, 128}})
        for (const int past : {0, 1, 60, 190, 700, 12280})
            for (const int count : {2, 3, 16}) {
                if (past == 12280 && heads.head != 64) continue;
                CAPTURE(heads.head);
                CAPTURE(past);
                CAPTURE(count);
                const int64_t width = heads.key * heads.head;
                const Shape cache_rows = {1, past + count + 5, width};
                const AttentionParams params = {heads.head, float(1 / std::sqrt(double(heads.head))), true, true};
                const OpCase op = {
                    params,
                    {activation(random, {count, heads.query * heads.head}), activation(random, {count, width}),
                     activation(random, {count, width}), indices({2}, {0, count}), mask({}),
                     cache(cache_rows, random_numbers(random, cache_rows.elements(), 1)),
                     cache(cache_rows, random_numbers(random, cache_rows.elements(), 1)), indices({1}, {past})},
                    {true, true, true, true, false, true, true, true}};
                check_rows(devices, op, params, {3, 7});
            }
}

TEST_CASE("attention of a pass ahead over several texts: the bits of each alone") {
    Devices devices;
    std::mt19937 random(42);
    OpRunner cuda(*devices.cuda);
    const std::vector<int> lengths = {3, 1, 5}, pasts = {100, 63, 0};
    const int64_t tokens = 9, width = 2 * 256, capacity = 200;
    const AttentionParams params = {256, 1.0f / 16, true, true};
    const OpCase op = {params,
                       {activation(random, {tokens, 16 * 256}), activation(random, {tokens, width}),
                        activation(random, {tokens, width}), indices({4}, segments_of(lengths)), mask({}),
                        cache({3, capacity, width}, random_numbers(random, 3 * capacity * width, 1)),
                        cache({3, capacity, width}, random_numbers(random, 3 * capacity * width, 1)),
                        indices({3}, pasts)},
                       {true, true, true, true, false, true, true, true}};
    const std::vector<float> all = cuda.run(op).tensors[0];
    int64_t at = 0;
    for (size_t s = 0; s < lengths.size(); at += lengths[s++]) {
        OpCase alone = op;
        const auto rows_of = [&](size_t input, int64_t columns, int64_t first, int64_t count) {
            const auto begin = op.inputs[input].numbers.begin() + ptrdiff_t(first * columns);
            alone.inputs[input].numbers.assign(begin, begin + ptrdiff_t(count * columns));
        };
        for (const size_t i : {size_t(0), size_t(1), size_t(2)}) {
            rows_of(i, op.inputs[i].shape[1], at, lengths[s]);
            alone.inputs[i].shape = {lengths[s], op.inputs[i].shape[1]};
        }
        for (const size_t i : {size_t(5), size_t(6)}) {
            rows_of(i, capacity * width, int64_t(s), 1);
            alone.inputs[i].shape = {1, capacity, width};
        }
        alone.inputs[3] = indices({2}, {0, lengths[s]});
        alone.inputs[7] = indices({1}, {pasts[s]});
        const std::vector<float> found = cuda.run(alone).tensors[0];
        const auto begin = all.begin() + ptrdiff_t(at * 16 * 256);
        CHECK(found == std::vector<float>(begin, begin + ptrdiff_t(lengths[s]) * 16 * 256));
    }
}

TEST_CASE("convolution and Gated DeltaNet of a pass ahead: each position has the bits of a step of its own") {
    Devices devices;
    std::mt19937 random(43);
    for (const int count : {2, 3, 9, 16}) {
        CAPTURE(count);
        const OpCase convolution = {CausalConvParams{},
                                    {activation(random, {count, 8192}), weight(random, DType::f32, {8192, 1, 4}, 0.5f),
                                     indices({2}, {0, count}), state(random, {1, 3, 8192})},
                                    {}};
        check_rows(devices, convolution, CausalConvParams{true}, {2, -1, {0}});
        GatedDeltaNetParams params;
        params.key_heads = 4, params.value_heads = 8, params.key_head = 128, params.value_head = 128;
        GatedDeltaNetParams one = params;
        params.form = GatedDeltaNetParams::Form::recurrent, one.one_position = true;
        const OpCase delta = {params,
                              {activation(random, {count, 16 * 128}), activation(random, {count, 8}),
                               activation(random, {count, 8}), weight(random, DType::f32, {8}),
                               weight(random, DType::f32, {8}), indices({2}, {0, count}),
                               state(random, {1, 8, 128, 128})},
                              {}};
        check_rows(devices, delta, one, {5});
    }
}

TEST_CASE("the same text with and without drafting, in BF16 and NVFP4") {
    DraftCounts sum;
    check_same_texts(fitted_folder(), on_cuda(), sum);
    check_same_texts(tiny_folder, on_cuda(), sum);
    CheckpointPair pair;
    pair.source = fitted_folder();
    quantize_source(pair);
    check_same_texts(pair.quantized, on_cuda(), sum);             // W4A16
    check_same_texts(untripped_pair().quantized, on_cuda(), sum); // W4A4; its draft head was never trained
    MESSAGE("drafted ", sum.drafted, ", accepted ", sum.accepted);
    CHECK(sum.accepted * 20 > sum.drafted);
    CHECK(sum.accepted < sum.drafted);
}

TEST_CASE("states on a device are those of a text without drafting, whatever comes behind a pass ahead") {
    check_states(on_cuda());
    DraftPlace in_fp8 = on_cuda();
    in_fp8.cache = CacheType::fp8;
    check_states(in_fp8);
}

TEST_CASE("texts of a session that draft beside others: those without drafting, whatever is done to them") {
    DraftCounts sum;
    check_written_together(fitted_folder(), on_cuda(), sum);
    MESSAGE("drafted ", sum.drafted, ", accepted ", sum.accepted);
    CHECK(sum.accepted * 20 > sum.drafted);
    CHECK(sum.accepted < sum.drafted);
    int64_t accepted = 0;
    for (const unsigned seed : {5u, 6u}) {
        CAPTURE(seed);
        DraftTwins twins(fitted_folder(), on_cuda(), seed);
        twins.act(120);
        accepted += twins.sum().accepted;
    }
    CHECK(accepted > 3); // how many of a seed come true is up to the rounding of a device's BF16
}
