// attention against the definition in double, against recorded probabilities, and against itself in other batches.
#include "golden_file.h"
#include "mixer_fixture.h"
#include "plain_cache_rows.h"

using namespace gnv;
using namespace gnv::test;

namespace {

struct Case {
    int64_t query_heads, key_heads, head;
    Floats q, k, v;
    Integers segments = {0};
    std::vector<uint8_t> mask = {};
    // With a cache:
    bool causal = true;
    int64_t capacity = 0;
    Floats cache_k = {}, cache_v = {};
    Integers past = {};
    Integers pages = {};                  // [S, P]: the cache is [N, capacity, ..]
    CodedRows coded_k = {}, coded_v = {}; // instead of cache_k and cache_v

    Case(std::initializer_list<int32_t> lengths, int64_t query_heads_, int64_t key_heads_, int64_t head_)
        : query_heads(query_heads_), key_heads(key_heads_), head(head_) {
        for (const int32_t length : lengths) segments.push_back(segments.back() + length);
        q = random_floats(count() * query_heads * head, 3, 1), k = random_floats(count() * key_heads * head, 3, 2);
        v = random_floats(count() * key_heads * head, 1, 3);
    }
    int64_t count() const { return segments.back(); }
    int64_t segment_count() const { return int64_t(segments.size()) - 1; }
    float scale() const { return 1 / std::sqrt(float(head)); }

    // Positions [begin, end) as one segment, with the cache if there is one.
    Case part(int32_t begin, int32_t end) const {
        Case one({end - begin}, query_heads, key_heads, head);
        one.causal = causal;
        const auto cut = [&](const auto & from, int64_t width) {
            return std::decay_t<decltype(from)>(from.begin() + begin * width, from.begin() + end * width);
        };
        one.q = cut(q, query_heads * head), one.k = cut(k, key_heads * head), one.v = cut(v, key_heads * head);
        if (!mask.empty()) one.mask = cut(mask, 1);
        return one;
    }

    Floats run(Precision precision = Precision::f32, const Way & way = {}) {
        Floats out(q.size(), 99);
        AttentionParams params;
        params.head = head, params.scale = scale(), params.causal = causal;
        std::vector<Tensor> inputs = {view(q, {count(), query_heads * head}), view(k, {count(), key_heads * head}),
                                      view(v, {count(), key_heads * head}), view(segments, {segment_count() + 1})};
        inputs.push_back(mask.empty() ? Tensor{} : view(mask, {count()}));
        const bool cached = capacity > 0;
        const int64_t entries = cached ? int64_t(cache_k.size()) / (capacity * key_heads * head) : 0;
        const bool coded = !coded_k.codes.empty();
        const auto cache = [&](Floats & numbers, CodedRows & codes) {
            if (coded)
                return Tensor{DType::f8_e4m3,
                              {int64_t(codes.codes.size()) / (capacity * key_heads * head), capacity, key_heads * head},
                              codes.codes.data()};
            return cached ? view(numbers, {entries, capacity, key_heads * head}) : Tensor{};
        };
        inputs.push_back(cache(cache_k, coded_k));
        inputs.push_back(cache(cache_v, coded_v));
        inputs.push_back(cached ? view(past, {segment_count()}) : Tensor{});
        inputs.push_back(pages.empty() ? Tensor{}
                                       : view(pages, {segment_count(), int64_t(pages.size()) / segment_count()}));
        for (CodedRows * const codes : {&coded_k, &coded_v})
            if (coded)
                inputs.push_back({DType::f8_e8m0,
                                  {int64_t(codes->scales.size()) / (capacity * key_heads), capacity, key_heads},
                                  codes->scales.data()});
        run_kernel(cpu::attention_entry, cpu::attention_with, params, precision, inputs,
                   view(out, {count(), query_heads * head}), way);
        return out;
    }

    // Without a cache, in double.
    std::vector<double> expected() const {
        std::vector<double> out(q.size());
        for (size_t s = 0; s + 1 < segments.size(); s++)
            for (int64_t t = segments[s]; t < segments[s + 1]; t++)
                for (int64_t h = 0; h < query_heads; h++)
                    expect_row(segments[s], causal ? t : segments[s + 1] - 1, t, h, out);
        return out;
    }

    void expect_row(int64_t begin, int64_t last, int64_t t, int64_t h, std::vector<double> & out) const {
        const int64_t key_head = h / (query_heads / key_heads);
        std::vector<double> weights;
        double sum = 0, largest = -INFINITY;
        for (int64_t j = begin; j <= last; j++) {
            double score = 0;
            for (int64_t d = 0; d < head; d++)
                score += double(q[size_t((t * query_heads + h) * head + d)]) *
                         double(k[size_t((j * key_heads + key_head) * head + d)]);
            const bool seen = mask.empty() || mask[size_t(j)] != 0;
            weights.push_back(seen ? score * double(scale()) : -INFINITY);
            largest = std::max(largest, weights.back());
        }
        for (double & weight : weights) {
            weight = weight > -INFINITY ? std::exp(weight - largest) : 0;
            sum += weight;
        }
        for (int64_t j = begin; j <= last && sum > 0; j++)
            for (int64_t d = 0; d < head; d++)
                out[size_t((t * query_heads + h) * head + d)] +=
                    weights[size_t(j - begin)] / sum * double(v[size_t((j * key_heads + key_head) * head + d)]);
    }
};

Floats joined(std::initializer_list<Floats> parts) {
    Floats all;
    for (const Floats & part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
}

} // namespace

TEST_CASE("attention: definition at many shapes") {
    Case cases[] = {Case({0}, 2, 1, 32),          Case({1}, 1, 1, 32),       Case({70}, 4, 2, 64),
                    Case({33, 1, 130}, 2, 2, 20), Case({65}, 16, 2, 256),    Case({17, 40}, 6, 2, 128),
                    Case({300}, 3, 1, 32),        Case({5, 0, 9}, 70, 1, 8), Case({1, 2, 63, 64}, 4, 4, 32),
                    Case({100}, 8, 8, 12)};
    for (Case & attention : cases) {
        CAPTURE(attention.head);
        CHECK(relative_error(attention.run(), attention.expected()) < 5e-6);
    }
}

TEST_CASE("attention: all keys of a segment, with and without some left out, in any company") {
    Case cases[] = {Case({0}, 2, 1, 32),          Case({1}, 1, 1, 72),    Case({70}, 4, 4, 72),
                    Case({33, 1, 130}, 2, 2, 16), Case({65}, 16, 2, 256), Case({5, 0, 9}, 3, 1, 8),
                    Case({300}, 2, 2, 64)};
    for (Case & attention : cases) {
        CAPTURE(attention.head);
        attention.causal = false;
        for (const bool masked : {false, true}) {
            attention.mask.clear();
            for (int64_t i = 0; masked && i < attention.count(); i++) attention.mask.push_back(i % 5 != 1);
            const Floats out = attention.run();
            CHECK(relative_error(out, attention.expected()) < 5e-6);
            Floats alone;
            for (size_t s = 0; s + 1 < attention.segments.size(); s++)
                alone = joined({alone, attention.part(attention.segments[s], attention.segments[s + 1]).run()});
            CHECK(same_bits(out, alone));
        }
    }
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        const Floats expected = cases[3].run(precision);
        for (const Way & way : all_ways()) CHECK(same_bits(cases[3].run(precision, way), expected));
    }
}

TEST_CASE("attention: scores of any size") {
    for (const float shift : {-300.0f, 300.0f}) { // to every score; one column of q and k is set aside for it
        Case attention({70}, 1, 1, 32);
        for (size_t i = 0; i < attention.q.size(); i += 32) attention.q[i] = std::sqrt(32.0f), attention.k[i] = shift;
        CHECK(relative_error(attention.run(), attention.expected()) < 1e-4); // scores have steps of 2^-15
    }
}

TEST_CASE("attention: recorded probabilities, from the outputs of the norms through rope") {
    const GoldenFile golden("text.safetensors");
    Integers positions;
    for (int i = 0; i < 3 * 70; i++) positions.push_back(i % 70);
    const auto rope = [&](const char * name, int64_t heads) {
        Floats x = golden.floats(std::string("text70.layer.3.self_attn.") + name), y(x.size());
        RopeParams params;
        params.head = 64, params.rotary = 16, params.theta = 1e7;
        params.section[0] = params.section[1] = 3, params.section[2] = 2;
        run_kernel(cpu::rope_entry, cpu::rope_with, params, Precision::f32,
                   {view(x, {70, heads * 64}), view(positions, {3, 70})}, view(y, {70, heads * 64}));
        return y;
    };
    const Floats recorded = golden.floats("text70.layer.3.self_attn.1"); // [4, 70, 70]
    Case attention({70}, 4, 2, 64);
    attention.q = rope("q_norm", 4), attention.k = rope("k_norm", 2);
    for (int64_t first = 0; first < 70; first += 64) { // values pick 64 keys at a time
        std::fill(attention.v.begin(), attention.v.end(), 0.0f);
        for (int64_t key = first; key < std::min<int64_t>(70, first + 64); key++)
            for (int64_t h = 0; h < 2; h++) attention.v[size_t((key * 2 + h) * 64 + key - first)] = 1;
        const Floats out = attention.run();
        double worst = 0;
        for (int64_t h = 0; h < 4; h++)
            for (int64_t t = 0; t < 70; t++)
                for (int64_t key = first; key < std::min<int64_t>(70, first + 64); key++)
                    worst = std::max(worst, std::abs(double(out[size_t((t * 4 + h) * 64 + key - first)]) -
                                                     double(recorded[size_t((h * 70 + t) * 70 + key)])));
        CHECK(worst < 2e-6);
    }
}

TEST_CASE("attention: BF16 rounds probabilities and results") {
    Case attention({40}, 2, 1, 64);
    std::fill(attention.v.begin(), attention.v.end(), 0.0f);
    for (size_t key = 0; key < 40; key++) attention.v[key * 64 + key] = 1;
    const Floats exact = attention.run(), rounded = attention.run(Precision::bf16);
    for (size_t i = 0; i < exact.size(); i++) REQUIRE(rounded[i] == bf16_of(exact[i]));
    // The weighted sum uses the rounded probabilities, and is rounded itself.
    Floats wide(rounded.size());
    attention.v = random_floats(40 * 64, 1, 9);
    const Floats out = attention.run(Precision::bf16);
    for (size_t row = 0; row < 80; row++)
        for (size_t d = 0; d < 64; d++)
            for (size_t key = 0; key < 40; key++)
                wide[row * 64 + d] = std::fma(rounded[row * 64 + key], attention.v[key * 64 + d], wide[row * 64 + d]);
    round_all(wide);
    CHECK(same_bits(out, wide));
}

TEST_CASE("attention: keys without weight") {
    for (const int pattern : {0, 1, 2, 3}) {
        Case attention({70, 33}, 4, 2, 64);
        for (int i = 0; i < 103; i++) {
            const bool kept[] = {i<50, i> 20, (i * 7) % 5 != 1, false};
            attention.mask.push_back(kept[pattern]);
        }
        const Floats out = attention.run();
        CHECK(relative_error(out, attention.expected()) < 2e-6);
        for (size_t i = 0; i < attention.k.size(); i++) // what stands there does not matter
            if (!attention.mask[i / 128]) attention.k[i] = attention.v[i] = NAN;
        CHECK(same_bits(attention.run(), out));
        for (size_t i = 0; pattern == 3 && i < out.size(); i++) REQUIRE(out[i] == 0);
    }
}

TEST_CASE("attention: a row knows nothing of later ones and of other segments") {
    Case whole({1, 2, 63, 64, 65, 130}, 4, 2, 64);
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        const Floats out = whole.run(precision);
        Floats alone;
        for (size_t s = 0; s + 1 < whole.segments.size(); s++)
            alone = joined({alone, whole.part(whole.segments[s], whole.segments[s + 1]).run(precision)});
        CHECK(same_bits(out, alone));
    }
    Case long_one({100}, 4, 2, 64);
    const Floats all = long_one.run();
    for (const int32_t length : {1, 15, 16, 17, 50, 99})
        CHECK(same_bits(long_one.part(0, length).run(), Floats(all.begin(), all.begin() + length * 256)));
    for (size_t i = 50 * 128; i < long_one.k.size(); i++) long_one.k[i] = long_one.v[i] = NAN;
    const Floats poisoned = long_one.run();
    CHECK(
        same_bits(Floats(poisoned.begin(), poisoned.begin() + 50 * 256), Floats(all.begin(), all.begin() + 50 * 256)));
}

TEST_CASE("attention: a cache gives the bits of one prefill") {
    Case whole({70, 41}, 4, 2, 64);
    const Floats expected = whole.run();
    for (const int32_t step : {1, 7, 16, 40}) {
        CAPTURE(step);
        Floats out(expected.size());
        Case part = whole;
        part.capacity = 75;
        part.cache_k.assign(2 * 75 * 128, NAN), part.cache_v = part.cache_k, part.past = {0, 0};
        for (int32_t done = 0; done < 70; done += step) { // both segments go on together
            const int32_t ends[2] = {std::min(70, done + step), std::min(41, done + step)};
            part.q.clear(), part.k.clear(), part.v.clear(), part.segments = {0};
            std::vector<int32_t> rows;
            for (int s = 0; s < 2; s++) {
                part.past[size_t(s)] = std::min(done, ends[s]);
                for (int32_t t = done; t < ends[s]; t++) rows.push_back(70 * s + t);
                part.segments.push_back(int32_t(rows.size()));
            }
            for (const int32_t row : rows) {
                part.q.insert(part.q.end(), whole.q.begin() + row * 256, whole.q.begin() + (row + 1) * 256);
                part.k.insert(part.k.end(), whole.k.begin() + row * 128, whole.k.begin() + (row + 1) * 128);
                part.v.insert(part.v.end(), whole.v.begin() + row * 128, whole.v.begin() + (row + 1) * 128);
            }
            const Floats got = part.run();
            for (size_t i = 0; i < rows.size(); i++)
                memcpy(&out[size_t(rows[i]) * 256], &got[i * 256], 256 * sizeof(float));
        }
        CHECK(same_bits(out, expected));
        CHECK(same_bits(Floats(part.cache_k.begin(), part.cache_k.begin() + 70 * 128),
                        Floats(whole.k.begin(), whole.k.begin() + 70 * 128)));
        CHECK(std::isnan(part.cache_v[70 * 128]));
    }
}

// Three texts in pages of 8 rows, in any order of pages; the first two share pages that neither writes to.
TEST_CASE("attention: a cache in pages has the bits of one cache a text") {
    const int64_t width = 2 * 64, page = 8;
    const Integers past = {21, 19, 0}, pages = {4, 0, 6, 1, 4, 0, 7, 9, 5, 2, 3, 8};
    Case plain({3, 1, 18}, 4, 2, 64);
    plain.capacity = 32, plain.past = past;
    plain.cache_k = random_floats(3 * 32 * width, 2, 8), plain.cache_v = random_floats(3 * 32 * width, 2, 9);
    for (Floats * cache : {&plain.cache_k, &plain.cache_v}) // what the texts share
        std::copy_n(cache->begin(), 16 * width, cache->begin() + 32 * width);
    Case paged = plain;
    paged.capacity = page, paged.pages = pages;
    paged.cache_k.assign(size_t(10 * page * width), NAN), paged.cache_v = paged.cache_k;
    const auto row_of = [&](int64_t s, int64_t row) {
        return (pages[size_t(s * 4 + row / page)] * page + row % page) * width;
    };
    for (int64_t s = 0; s < 3; s++)
        for (int64_t row = 0; row < past[size_t(s)]; row++) {
            std::copy_n(plain.cache_k.begin() + (s * 32 + row) * width, width, paged.cache_k.begin() + row_of(s, row));
            std::copy_n(plain.cache_v.begin() + (s * 32 + row) * width, width, paged.cache_v.begin() + row_of(s, row));
        }
    const Case before = paged;
    const Floats expected = plain.run();
    for (const Way & way : all_ways()) {
        paged = before;
        CHECK(same_bits(paged.run(Precision::f32, way), expected));
        for (int64_t s = 0; s < 3; s++)
            for (int64_t row = 0; row < past[size_t(s)] + plain.segments[size_t(s) + 1] - plain.segments[size_t(s)];
                 row++)
                CHECK(memcmp(&paged.cache_v[size_t(row_of(s, row))], &plain.cache_v[size_t((s * 32 + row) * width)],
                             size_t(width) * sizeof(float)) == 0);
    }
}

TEST_CASE("attention: threads and loops change nothing") {
    Case attention({1, 70, 20}, 6, 2, 36);
    for (int i = 0; i < 91; i++) attention.mask.push_back(i % 11 != 3);
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        const Floats expected = attention.run(precision);
        for (const Way & way : all_ways()) CHECK(same_bits(attention.run(precision, way), expected));
    }
}

TEST_CASE("attention: codes of a cache and their scales, back and forth") {
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0, 1);
    Floats rows;
    for (int row = 0; row < 600;
         row++) // all magnitudes that F32 has, and in each row some that are far below the largest
        for (int i = 0; i < 24; i++) rows.push_back(std::ldexp(normal(random), row / 2 - 150 - i % 3 * 5));
    for (size_t i = 0; i < 24; i++) rows[i] = 0, rows[240 + i] = std::ldexp(1.0f, int(i) - 10); // ties
    rows[3 * 24] = NAN, rows[4 * 24 + 7] = INFINITY, rows[5 * 24 + 23] = -INFINITY, rows[6 * 24] = -0.0f;
    for (const float largest : {448.0f, 448.00003f, 3.4028235e38f, -1.0f}) rows.insert(rows.end(), 24, largest);
    const CodedRows expected = coded_rows(rows, 24);
    for (const cpu::Loops * loops : cpu::all_loops()) {
        CAPTURE(loops->name);
        std::vector<uint8_t> codes(rows.size());
        Floats back(rows.size());
        for (size_t row = 0; row < rows.size() / 24; row++) {
            CAPTURE(row);
            REQUIRE(loops->mixer.pack(24, &rows[row * 24], &codes[row * 24]) == expected.scales[row]);
            loops->mixer.unpack(24, &codes[row * 24], expected.scales[row], &back[row * 24]);
        }
        CHECK(codes == expected.codes);
        for (size_t i = 0; i < back.size(); i++) {
            if (std::isnan(expected.numbers[i]))
                REQUIRE(std::isnan(back[i]));
            else
                REQUIRE(back[i] == expected.numbers[i]);
        }
    }
}

// New rows and those before, from an oracle that rounds them by loops.
TEST_CASE("attention: a cache in E4M3 gives what attention to the rounded rows gives") {
    const int32_t past = 150;
    Case whole({past + 70}, 6, 2, 64);
    Case rounded = whole;
    rounded.k = coded_rows(whole.k, 64).numbers, rounded.v = coded_rows(whole.v, 64).numbers;
    const std::vector<double> all = rounded.expected();
    for (const int32_t count : {1, 2, 70}) {
        CAPTURE(count);
        Case later = whole.part(past, past + count);
        const auto before = [&](const Floats & rows) { return Floats(rows.begin(), rows.begin() + past * 128); };
        later.capacity = past + 70, later.past = {past};
        later.coded_k = coded_rows(before(whole.k), 64), later.coded_v = coded_rows(before(whole.v), 64);
        for (CodedRows * const rows : {&later.coded_k, &later.coded_v})
            rows->codes.resize((past + 70) * 128, 0x7f), rows->scales.resize((past + 70) * 2, 255);
        const std::vector<double> expected(all.begin() + past * 384, all.begin() + (past + count) * 384);
        CHECK(relative_error(later.run(), expected) < 5e-6);
        const CodedRows stored = coded_rows(whole.k, 64);
        for (size_t i = 0; i < size_t(past + 70) * 128; i++)
            REQUIRE(later.coded_k.codes[i] == (i < size_t(past + count) * 128 ? stored.codes[i] : 0x7f));
        for (size_t i = 0; i < size_t(past + 70) * 2; i++)
            REQUIRE(later.coded_k.scales[i] == (i < size_t(past + count) * 2 ? stored.scales[i] : 255));
        CHECK(relative_error(later.run(Precision::bf16), expected) < 0.01);
    }
}

// Bits of a cache that holds the same numbers as they are: with pages in any order, in both precisions, on all ways.
TEST_CASE("attention: a cache in E4M3 has the bits of a cache of its numbers") {
    const int64_t page = 40;
    Case plain({3, 1, 58}, 4, 2, 64);
    plain.capacity = page, plain.past = {77, 79, 0};
    plain.pages = {4, 0, 6, 1, 5, 7, 2, 3, 8};
    plain.cache_k = random_floats(9 * page * 128, 2, 8), plain.cache_v = random_floats(9 * page * 128, 2, 9);
    Case coded = plain;
    coded.coded_k = coded_rows(plain.cache_k, 64), coded.coded_v = coded_rows(plain.cache_v, 64);
    plain.cache_k = coded.coded_k.numbers, plain.cache_v = coded.coded_v.numbers;
    plain.k = coded_rows(plain.k, 64).numbers, plain.v = coded_rows(plain.v, 64).numbers;
    for (const bool masked : {false, true}) {
        for (int i = 0; masked && i < 62; i++) plain.mask.push_back(i % 5 != 1);
        coded.mask = plain.mask;
        for (const Precision precision : {Precision::f32, Precision::bf16}) {
            Case before = plain;
            const Floats expected = before.run(precision);
            for (const Way & way : all_ways()) {
                Case now = coded;
                CHECK(same_bits(now.run(precision, way), expected));
                CHECK(now.coded_v.scales != coded.coded_v.scales);
            }
        }
    }
}
