// Ops that go on from a state, on a CUDA device: attention with a cache, convolution with a history, Gated DeltaNet with a
// memory. Against their twins on the CPU, and a text in pieces against the same text at once.
#include "cuda/device_fixture.h"
#include "plain_cache_rows.h"

#include <cstdio>
#include <numeric>

using namespace gnv;
using namespace gnv::test;

namespace {

OpInput state(Shape shape, std::vector<float> values) {
    return {OpInput::Role::state, DType::f32, shape, std::move(values), {}, {}};
}

struct CacheCase {
    std::vector<int> lengths, pasts;
    int64_t capacity;
    int query_heads, key_heads, head;
    bool masked = false;
};

OpCase cache_case(std::mt19937 & random, const CacheCase & c) {
    const int64_t tokens = std::accumulate(c.lengths.begin(), c.lengths.end(), 0), count = int64_t(c.lengths.size());
    const int64_t width = int64_t(c.key_heads) * c.head;
    std::vector<uint8_t> real(size_t(tokens), 1);
    for (size_t t = 0; c.masked && t < real.size(); t++) real[t] = t % 5 != 4;
    const Shape rows = {count, c.capacity, width};
    const AttentionParams params = {c.head, float(1 / std::sqrt(double(c.head)))};
    return {params,
            {activation(random, {tokens, int64_t(c.query_heads) * c.head}), activation(random, {tokens, width}),
             activation(random, {tokens, width}), indices({count + 1}, segments_of(c.lengths)), mask(real),
             cache(rows, random_numbers(random, rows.elements(), 1)),
             cache(rows, random_numbers(random, rows.elements(), 1)), indices({count}, c.pasts)},
            {true, true, true, true, c.masked, true, true, true}};
}

// With a cache in E4M3 of the same numbers, rounded.
OpCase coded_case(const OpCase & op, int64_t head) {
    OpCase coded = op;
    coded.inputs.resize(9), coded.present.resize(9); // without pages
    coded.inputs.resize(11), coded.present.resize(11, true);
    if (op.inputs.size() < 9) coded.present[8] = false;
    for (const size_t i : {5, 6}) {
        const CodedRows rows = coded_rows(op.inputs[i].numbers, size_t(head));
        const Shape & shape = op.inputs[i].shape;
        coded.inputs[i] = {OpInput::Role::state,
                           DType::f8_e4m3,
                           shape,
                           std::vector<float>(rows.codes.begin(), rows.codes.end()),
                           {},
                           {}};
        coded.inputs[i + 4] = {OpInput::Role::state,
                               DType::f8_e8m0,
                               {shape[0], shape[1], shape[2] / head},
                               std::vector<float>(rows.scales.begin(), rows.scales.end()),
                               {},
                               {}};
    }
    return coded;
}
// With a cache of these numbers in BF16, and new rows that are rounded alike.
OpCase rounded_case(const OpCase & op, int64_t head) {
    OpCase rounded = op;
    for (const size_t i : {1, 2, 5, 6})
        rounded.inputs[i].numbers = coded_rows(op.inputs[i].numbers, size_t(head)).numbers;
    return rounded;
}

// Rows [first, first + count) of a tensor of rows.
std::vector<float> rows_of(const std::vector<float> & numbers, int64_t columns, int64_t first, int64_t count) {
    return {numbers.begin() + ptrdiff_t(first * columns), numbers.begin() + ptrdiff_t((first + count) * columns)};
}

// Runs a case of one text whole and in pieces, each going on from the states that the one before left. Inputs of T rows are
// those in `by_row`; `segments` and `past` are positions of inputs.
struct Pieces {
    std::vector<float> whole, pieces;
};
Pieces in_pieces(Devices & devices, const OpCase & op, const std::vector<size_t> & by_row, size_t segments, int past,
                 const std::vector<int> & lengths) {
    OpRunner cuda(*devices.cuda);
    Pieces out;
    out.whole = cuda.run(op).tensors[0];
    OpCase piece = op;
    int64_t at = 0;
    for (const int length : lengths) {
        for (const size_t i : by_row) {
            const int64_t columns = op.inputs[i].shape[1];
            piece.inputs[i].shape = {length, columns};
            piece.inputs[i].numbers = rows_of(op.inputs[i].numbers, columns, at, length);
        }
        piece.inputs[segments].indices = {0, length};
        if (past >= 0) piece.inputs[size_t(past)].indices = {int32_t(at)};
        const OpResult result = cuda.run(piece);
        out.pieces.insert(out.pieces.end(), result.tensors[0].begin(), result.tensors[0].end());
        size_t next = 1; // states follow the outputs
        for (OpInput & input : piece.inputs)
            if (is_state(input)) input.numbers = result.tensors[next++];
        at += length;
    }
    return out;
}

} // namespace

TEST_CASE("attention with a cache") {
    Devices devices;
    std::mt19937 random(31);
    for (const bool masked : {false, true}) {
        CAPTURE(masked);
        compare(devices, cache_case(random, {{1}, {0}, 1, 4, 2, 64, masked}), 2);
        compare(devices, cache_case(random, {{70}, {0}, 70, 4, 2, 64, masked}), 2); // to the last row
        compare(devices, cache_case(random, {{70, 3}, {31, 0}, 128, 4, 2, 64, masked}), 2);
        compare(devices, cache_case(random, {{1, 64, 65}, {63, 64, 1}, 200, 6, 2, 128, masked}), 2);
        compare(devices, cache_case(random, {{130, 2, 1}, {300, 32, 33}, 512, 16, 2, 256, masked}), 2);
    }
}

TEST_CASE("attention with a cache: what is behind a text does not matter") {
    Devices devices;
    OpRunner cuda(*devices.cuda);
    std::mt19937 random(40);
    for (const int head : {64, 128, 256}) {
        CAPTURE(head);
        const CacheCase shape = {{70, 3}, {31, 0}, 130, 4, 2, head};
        OpCase op = cache_case(random, shape);
        const std::vector<float> expected = cuda.run(op).tensors[0];
        const ptrdiff_t width = 2 * head;
        for (const size_t i : {5, 6})
            for (size_t s = 0; s < shape.lengths.size(); s++) {
                const auto rows = op.inputs[i].numbers.begin() + ptrdiff_t(s) * 130 * width;
                std::fill(rows + (shape.pasts[s] + shape.lengths[s]) * width, rows + 130 * width, std::nanf(""));
            }
        CHECK(cuda.run(op).tensors[0] == expected);
    }
}

// Parts of 64 keys, of 128 beyond 12288, of 192 beyond 24576; more query heads of a key head than one block takes.
TEST_CASE("attention of one position against a cache") {
    Devices devices;
    std::mt19937 random(32);
    for (const int past : {0, 1, 62, 63, 64, 127, 500}) {
        CAPTURE(past);
        compare(devices, cache_case(random, {{1}, {past}, past + 1, 16, 2, 256}), 2);
    }
    compare(devices, cache_case(random, {{1, 1, 1}, {0, 63, 900}, 901, 8, 4, 64}), 2);
    compare(devices, cache_case(random, {{1, 1}, {10, 200}, 300, 24, 2, 128}), 2);
    compare(devices, cache_case(random, {{1, 1}, {16382, 16384}, 20000, 4, 1, 64}), 2);
    compare(devices, cache_case(random, {{1, 1, 1, 1}, {12287, 12288, 24575, 24600}, 25000, 4, 1, 64}), 2);
    compare(devices, cache_case(random, {{1, 1, 1, 1, 1}, {5, 6, 7, 8, 9}, 64, 4, 2, 64, true}), 2);
}

TEST_CASE("a position's attention does not depend on the other texts of its batch") {
    Devices devices;
    std::mt19937 random(33);
    const CacheCase shape = {{1, 70, 1, 2}, {100, 5, 64, 130}, 200, 16, 2, 256};
    const OpCase batch = cache_case(random, shape);
    OpRunner cuda(*devices.cuda);
    const std::vector<float> all = cuda.run(batch).tensors[0];
    int64_t at = 0;
    for (size_t s = 0; s < shape.lengths.size(); s++) {
        CAPTURE(s);
        OpCase alone = cache_case(random, {{shape.lengths[s]}, {shape.pasts[s]}, 200, 16, 2, 256});
        for (const size_t i : {size_t(0), size_t(1), size_t(2)})
            alone.inputs[i].numbers = rows_of(batch.inputs[i].numbers, batch.inputs[i].shape[1], at, shape.lengths[s]);
        for (const size_t i : {size_t(5), size_t(6)})
            alone.inputs[i].numbers = rows_of(batch.inputs[i].numbers, 200 * 512, int64_t(s), 1);
        const std::vector<float> found = cuda.run(alone).tensors[0];
        CHECK(found == rows_of(all, 16 * 256, at, shape.lengths[s]));
        at += shape.lengths[s];
    }
}

// A score that is NaN makes the head's output NaN, even where every score is.
TEST_CASE("attention of one position: NaN stays NaN") {
    Devices devices;
    std::mt19937 random(37);
    const float nan = std::nanf("");
    OpCase in_query = cache_case(random, {{1, 1}, {100, 20}, 101, 4, 2, 64}), in_key = in_query;
    in_query.inputs[0].numbers[70] = nan;         // the first text's second head
    in_key.inputs[5].numbers[90 * 128 + 3] = nan; // its key 90, which two heads share
    OpRunner cpu(*devices.cpu), cuda(*devices.cuda);
    for (const OpCase & op : {in_query, in_key}) {
        const std::vector<float> expected = cpu.run(op).tensors[0], found = cuda.run(op).tensors[0];
        REQUIRE(found.size() == expected.size());
        int64_t wrong = 0, nans = 0;
        for (size_t i = 0; i < found.size(); i++) {
            wrong += std::isnan(found[i]) != std::isnan(expected[i]);
            nans += std::isnan(expected[i]);
        }
        CHECK(wrong == 0);
        CHECK(nans > 0);
    }
}

TEST_CASE("a text in pieces") {
    Devices devices;
    std::mt19937 random(34);
    const std::vector<int> lengths = {64, 1, 1, 33, 2, 1};
    SUBCASE("attention") {
        const OpCase op = cache_case(random, {{102}, {0}, 110, 16, 2, 256});
        const Pieces found = in_pieces(devices, op, {0, 1, 2}, 3, 7, lengths);
        CHECK(error_of(found.pieces, found.whole) <= 2 * bf16_step);
    }
    SUBCASE("convolution: the same bits") {
        const OpCase op = {CausalConvParams{},
                           {activation(random, {102, 520}), weight(random, DType::f32, {520, 1, 4}, 0.5f),
                            indices({2}, {0, 102}), state({1, 3, 520}, std::vector<float>(3 * 520, 0.0f))},
                           {}};
        const Pieces found = in_pieces(devices, op, {0}, 2, -1, lengths);
        CHECK(found.pieces == found.whole);
    }
    SUBCASE("Gated DeltaNet") {
        GatedDeltaNetParams params;
        params.key_heads = 16, params.value_heads = 32, params.key_head = 128, params.value_head = 128;
        const OpCase op = {params,
                           {activation(random, {102, 64 * 128}), activation(random, {102, 32}),
                            activation(random, {102, 32}), weight(random, DType::f32, {32}),
                            weight(random, DType::f32, {32}), indices({2}, {0, 102}),
                            state({1, 32, 128, 128}, std::vector<float>(32 * 128 * 128, 0.0f))},
                           {}};
        const Pieces found = in_pieces(devices, op, {0, 1, 2}, 5, -1, lengths);
        CHECK(rms_error_of(found.pieces, found.whole) <= bf16_step);
    }
}

TEST_CASE("states that have seen something") {
    Devices devices;
    std::mt19937 random(35);
    for (const std::vector<int> & lengths : {std::vector<int>{1}, {2, 1}, {70, 1, 3}, {6, 3, 13, 1, 2, 40}}) {
        const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), 0), count = int64_t(lengths.size());
        compare(devices,
                {CausalConvParams{},
                 {activation(random, {tokens, 8192}), weight(random, DType::f32, {8192, 1, 4}, 0.5f),
                  indices({count + 1}, segments_of(lengths)),
                  state({count, 3, 8192}, random_numbers(random, count * 3 * 8192, 1))},
                 {}},
                2);
        GatedDeltaNetParams params;
        params.key_heads = 4, params.value_heads = 8, params.key_head = 128, params.value_head = 128;
        compare(devices, {params,
                          {activation(random, {tokens, 16 * 128}), activation(random, {tokens, 8}),
                           activation(random, {tokens, 8}), weight(random, DType::f32, {8}),
                           weight(random, DType::f32, {8}), indices({count + 1}, segments_of(lengths)),
                           state({count, 8, 128, 128}, random_numbers(random, count * 8 * 128 * 128, 0.1f))},
                          {}});
    }
}

// A device may have another kernel for texts of one position each; their states may lie in slots.
TEST_CASE("Gated DeltaNet: a step of texts has the bits of the recurrent form") {
    Devices devices;
    OpRunner cuda(*devices.cuda);
    std::mt19937 random(38);
    for (const int64_t count : {1, 9, 40}) {
        CAPTURE(count);
        GatedDeltaNetParams params;
        params.key_heads = 4, params.value_heads = 8, params.key_head = 128, params.value_head = 128;
        params.form = GatedDeltaNetParams::Form::recurrent;
        const std::vector<int> lengths(size_t(count), 1);
        OpCase op = {params,
                     {activation(random, {count, 16 * 128}), activation(random, {count, 8}),
                      activation(random, {count, 8}), weight(random, DType::f32, {8}), weight(random, DType::f32, {8}),
                      indices({count + 1}, segments_of(lengths)),
                      state({count, 8, 128, 128}, random_numbers(random, count * 8 * 128 * 128, 0.1f))},
                     {}};
        for (const bool has_slots : {false, true}) {
            CAPTURE(has_slots);
            if (has_slots) {
                std::vector<int32_t> slots(static_cast<size_t>(count));
                std::iota(slots.rbegin(), slots.rend(), 0);
                op.inputs.push_back(indices({count}, slots));
            }
            std::get<GatedDeltaNetParams>(op.params) = params;
            const OpResult recurrent = cuda.run(op);
            std::get<GatedDeltaNetParams>(op.params).one_position = true;
            CHECK(cuda.run(op).tensors == recurrent.tensors);
            std::get<GatedDeltaNetParams>(op.params).form = GatedDeltaNetParams::Form::automatic;
            CHECK(cuda.run(op).tensors == recurrent.tensors);
        }
    }
}

// Pages of a cache and slots of states: the bits of states that lie one after another.
TEST_CASE("states that texts share") {
    Devices devices;
    OpRunner cuda(*devices.cuda);
    std::mt19937 random(36);
    for (const std::vector<int> & lengths : {std::vector<int>{1, 1, 1}, {70, 1, 3}}) {
        CacheCase shape = {lengths, {300, 191, 0}, 2 * cache_page, 4, 2, 256};
        const OpCase plain = cache_case(random, shape);
        OpCase paged = plain;
        const std::vector<int> pages = {4, 1, 0, 5, 3, 2};
        const int64_t width = plain.inputs[1].shape[1], bytes = cache_page * width;
        for (const size_t i : {5, 6}) {
            paged.inputs[i].shape = {6, cache_page, width};
            for (size_t p = 0; p < pages.size(); p++)
                std::copy_n(plain.inputs[i].numbers.begin() + ptrdiff_t(p) * bytes, bytes,
                            paged.inputs[i].numbers.begin() + pages[p] * bytes);
        }
        paged.inputs.push_back(indices({3, 2}, pages));
        paged.present.push_back(true);
        CHECK(cuda.run(paged).tensors[0] == cuda.run(plain).tensors[0]);
    }
}

// The same codes as on the CPU; the bits of a cache in BF16 that holds the same numbers, where both cut a text into as many parts.
TEST_CASE("attention with a cache in E4M3") {
    Devices devices;
    OpRunner cpu(*devices.cpu), cuda(*devices.cuda);
    std::mt19937 random(39);
    const std::vector<CacheCase> cases = {{{1}, {0}, 1, 4, 2, 64},
                                          {{70}, {0}, 70, 4, 2, 64},
                                          {{70, 3}, {31, 0}, 128, 4, 2, 64, true},
                                          {{1, 64, 65}, {63, 64, 1}, 200, 6, 2, 128},
                                          {{130, 2, 1}, {300, 32, 33}, 512, 16, 2, 256},
                                          {{1}, {500}, 501, 16, 2, 256},
                                          {{1, 1, 1}, {0, 63, 900}, 901, 8, 4, 64},
                                          {{1, 1}, {10, 200}, 300, 24, 2, 128},
                                          {{1, 1}, {16382, 16384}, 20000, 4, 1, 64},
                                          {{1, 1}, {1982, 4000}, 4100, 32, 32, 64},
                                          {{1, 1, 1, 1, 1}, {5, 6, 7, 8, 9}, 64, 4, 2, 64, true}};
    for (const CacheCase & shape : cases) {
        CAPTURE(shape.capacity);
        CAPTURE(shape.head);
        // A long text has as many parts as there are blocks for, and 16 at least: more for codes, unless key heads are many.
        const int64_t longest = *std::max_element(shape.pasts.begin(), shape.pasts.end());
        const bool cut_alike = shape.key_heads >= 32 || longest < 16 * 64;
        OpCase plain = cache_case(random, shape);
        for (size_t i = 0; i < plain.inputs[1].numbers.size(); i++) // heads of many magnitudes
            plain.inputs[1].numbers[i] = std::ldexp(plain.inputs[1].numbers[i], int(i / size_t(shape.head) % 7) - 5);
        for (const bool one_position : {false, true}) {
            const bool is_step = int64_t(shape.lengths.size()) == plain.inputs[0].shape[0];
            if (one_position && (!is_step || shape.masked)) continue;
            std::get<AttentionParams>(plain.params).one_position = one_position;
            const OpCase coded = coded_case(plain, shape.head);
            const OpResult found = cuda.run(coded), again = cuda.run(coded, 0, true), expected = cpu.run(coded);
            CHECK(found.tensors == again.tensors);
            REQUIRE(found.tensors.size() == 5);
            for (size_t i = 1; i < 5; i++) CHECK(found.tensors[i] == expected.tensors[i]);
            CHECK(error_of(found.tensors[0], expected.tensors[0]) <= 2 * bf16_step);
            CHECK(rms_error_of(found.tensors[0], expected.tensors[0]) <= bf16_step);
            const OpResult rounded = cuda.run(rounded_case(plain, shape.head));
            if (cut_alike) {
                CHECK(found.tensors[0] == rounded.tensors[0]);
            } else {
                CHECK(error_of(found.tensors[0], rounded.tensors[0]) <= bf16_step);
            }
        }
    }
}

TEST_CASE("attention with a cache in E4M3: passes ahead, pages, NaN") {
    Devices devices;
    OpRunner cuda(*devices.cuda), cpu(*devices.cpu);
    std::mt19937 random(40);
    OpCase ahead = cache_case(random, {{3, 1, 5}, {100, 63, 190}, 200, 16, 2, 256});
    std::get<AttentionParams>(ahead.params).one_position = true;
    CHECK(cuda.run(coded_case(ahead, 256)).tensors[0] == cuda.run(rounded_case(ahead, 256)).tensors[0]);

    for (const std::vector<int> & lengths : {std::vector<int>{1, 1, 1}, {70, 1, 3}}) {
        OpCase paged = cache_case(random, {lengths, {300, 191, 0}, 2 * cache_page, 4, 2, 256});
        for (const size_t i : {5, 6}) paged.inputs[i].shape = {6, cache_page, 512};
        paged.inputs.push_back(indices({3, 2}, {4, 1, 0, 5, 3, 2}));
        paged.present.push_back(true);
        CHECK(cuda.run(coded_case(paged, 256)).tensors[0] == cuda.run(rounded_case(paged, 256)).tensors[0]);
    }

    OpCase bad = cache_case(random, {{1, 2}, {70, 20}, 101, 4, 2, 64});
    bad.inputs[1].numbers[3] = std::nanf("");    // the first text's new key: its first head
    bad.inputs[2].numbers[128 + 100] = INFINITY; // the second text's first new value: its second head
    const OpCase coded = coded_case(bad, 64);
    const std::vector<float> found = cuda.run(coded).tensors[0], expected = cpu.run(coded).tensors[0];
    int64_t wrong = 0, nans = 0;
    for (size_t i = 0; i < found.size(); i++) {
        wrong += std::isnan(found[i]) != std::isnan(expected[i]);
        nans += std::isnan(expected[i]);
    }
    CHECK(wrong == 0);
    CHECK(nans == 6 * 64); // two query heads of one position, and of two
}

// What no kernel takes is refused while a graph is planned, by the op's name and the shape.
TEST_CASE("shapes that the device cannot run") {
    Devices devices;
    const auto check_refused = [&](const Graph & graph, const std::string & reason) {
        REQUIRE_MESSAGE(graph.status().ok(), graph.status().message());
        const Result<PreparedGraph> prepared = PreparedGraph::create(*devices.cuda, graph);
        REQUIRE(!prepared.ok());
        CHECK(prepared.status().code() == Code::unsupported);
        CHECK(prepared.status().message().find(reason) != std::string::npos);
    };
    {
        Graph graph(Precision::bf16, DType::bf16);
        const ValueId q = graph.input("q", DType::bf16, {4, 2 * 264}),
                      segments = graph.input("segments", DType::i32, {2});
        graph.add(AttentionParams{264, 1}, {q, q, q, segments, no_value, no_value, no_value, no_value},
                  "attention of large heads");
        check_refused(graph, "attention (attention of large heads): head size 264");
    }
    for (const auto & [experts, chosen] : {std::pair<int64_t, int64_t>{1025, 8}, {64, 33}}) {
        Graph graph(Precision::bf16, DType::bf16);
        graph.add(RouterParams{chosen}, {graph.input("logits", DType::bf16, {4, experts})}, "choice");
        check_refused(graph, "router (choice): " + std::to_string(experts) + " experts, " + std::to_string(chosen));
    }
    Graph graph(Precision::bf16, DType::bf16);
    const ValueId y = graph.input("y", DType::bf16, {4 * 33, 8}), slots = graph.input("slots", DType::i32, {4 * 33}),
                  offsets = graph.input("offsets", DType::i32, {65}),
                  weights = graph.input("weights", DType::f32, {4, 33});
    graph.add(ExpertCombineParams{}, {no_value, y, slots, offsets, weights}, "sum");
    check_refused(graph, "expert_combine (sum): 33 experts a token");
}

TEST_CASE("bench of attention with a cache" * doctest::skip()) {
    Devices devices;
    std::mt19937 random(36);
    OpRunner cuda(*devices.cuda);
    for (const int past : {1000, 4000, 30000, 120000}) {
        OpCase op = cache_case(random, {{1}, {past}, past + 1, 16, 2, 256});
        const double in_pass = cuda.run(op, 50).seconds, bytes = double(past) * 512 * 2 * 2;
        std::get<AttentionParams>(op.params).one_position = true;
        const double seconds = cuda.run(op, 50).seconds, coded = cuda.run(coded_case(op, 256), 50).seconds;
        printf(
            "attention, 1 position after %6d, 16/2 x 256 %8.4f ms (in a longer pass %8.4f) %6.0f GB/s, E4M3 %8.4f ms\n",
            past, seconds * 1e3, in_pass * 1e3, bytes / seconds / 1e9, coded * 1e3);
    }
    for (const int texts : {8, 64}) {
        const std::vector<int> ones(size_t(texts), 1), pasts(size_t(texts), 1000);
        OpCase op = cache_case(random, {ones, pasts, 1001, 16, 2, 256});
        std::get<AttentionParams>(op.params).one_position = true;
        const double seconds = cuda.run(op, 50).seconds, coded = cuda.run(coded_case(op, 256), 50).seconds;
        printf("attention, %2d texts, 1 position after 1000       %9.4f ms, E4M3 %9.4f ms\n", texts, seconds * 1e3,
               coded * 1e3);
    }
    const OpCase op = cache_case(random, {{2048}, {2048}, 4096, 16, 2, 256});
    const double seconds = cuda.run(op, 20).seconds, coded = cuda.run(coded_case(op, 256), 20).seconds;
    printf("attention, 2048 positions after 2048, 16/2 x 256 %9.3f ms %6.1f TFLOP/s, E4M3 %9.3f ms\n", seconds * 1e3,
           4 * 16 * 256 * (2048.0 * 2048 + 2048 * 1024.5) / seconds / 1e12, coded * 1e3);
    fflush(stdout);
}
