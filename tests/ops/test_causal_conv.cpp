// causal_conv against the definition in double, and against itself in pieces.
#include "mixer_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

struct Case {
    int64_t channels, taps;
    Floats u, w;
    Integers segments = {0};
    Floats history = {}; // [S, taps - 1, C]
    Integers slots = {}; // the history's entry of each segment

    Case(std::initializer_list<int32_t> lengths, int64_t channels_, int64_t taps_) : channels(channels_), taps(taps_) {
        for (const int32_t length : lengths) segments.push_back(segments.back() + length);
        u = random_floats(count() * channels, 2, 1), w = random_floats(channels * taps, 1, 2);
    }
    int64_t count() const { return segments.back(); }
    int64_t segment_count() const { return int64_t(segments.size()) - 1; }
    int64_t entries() const { return int64_t(history.size()) / ((taps - 1) * channels); }
    void add_history() { history = random_floats(segment_count() * (taps - 1) * channels, 2, 3); }

    Floats run(Precision precision = Precision::f32, const Way & way = {}) {
        Floats y(u.size(), 99);
        run_kernel(cpu::causal_conv_entry, cpu::causal_conv_with, CausalConvParams{}, precision,
                   {view(u, {count(), channels}), view(w, {channels, 1, taps}), view(segments, {segment_count() + 1}),
                    history.empty() ? Tensor{} : view(history, {entries(), taps - 1, channels}),
                    slots.empty() ? Tensor{} : view(slots, {segment_count()})},
                   view(y, {count(), channels}), way);
        return y;
    }

    // u[t - back] of a segment, or what was before it.
    float input(size_t s, int64_t t, int64_t back, int64_t c) const {
        const int64_t before = t - back - segments[s];
        if (before >= 0) return u[size_t((t - back) * channels + c)];
        return history.empty() ? 0 : history[size_t(((int64_t(s) + 1) * (taps - 1) + before) * channels + c)];
    }

    std::vector<double> expected() const {
        std::vector<double> y(u.size());
        for (size_t s = 0; s + 1 < segments.size(); s++)
            for (int64_t t = segments[s]; t < segments[s + 1]; t++)
                for (int64_t c = 0; c < channels; c++) {
                    double sum = 0;
                    for (int64_t j = 0; j < taps; j++)
                        sum += double(w[size_t(c * taps + j)]) * double(input(s, t, taps - 1 - j, c));
                    y[size_t(t * channels + c)] = sum / (1 + std::exp(-sum));
                }
        return y;
    }
};

} // namespace

TEST_CASE("causal_conv: definition with and without history") {
    for (const int64_t taps : {1, 2, 3, 4, 5}) {
        for (const bool with_history : {false, true}) {
            Case conv({1, 2, 63, 0, 64, 65, 130}, 52, taps);
            if (with_history && taps > 1) conv.add_history();
            CAPTURE(taps);
            const std::vector<double> expected = conv.expected();
            Floats last; // of each segment
            for (size_t s = 0; s + 1 < conv.segments.size(); s++)
                for (int64_t i = 0; i < taps - 1; i++)
                    for (int64_t c = 0; c < 52; c++)
                        last.push_back(conv.input(s, conv.segments[s + 1] - 1, taps - 2 - i, c));
            CHECK(relative_error(conv.run(), expected) < 1e-6);
            if (!conv.history.empty()) CHECK(same_bits(conv.history, last));
        }
    }
}

TEST_CASE("causal_conv: nothing new leaves the history") {
    Case conv({0, 0}, 32, 4);
    conv.add_history();
    const Floats before = conv.history;
    CHECK(conv.run().empty());
    CHECK(same_bits(conv.history, before));
}

TEST_CASE("causal_conv: BF16 rounds the sum and the result") {
    Case conv({70}, 64, 4);
    round_all(conv.u), round_all(conv.w);
    const Floats y = conv.run(Precision::bf16);
    int64_t differing = 0;
    for (int64_t t = 0; t < 70; t++)
        for (int64_t c = 0; c < 64; c++) {
            float sum = 0;
            for (int64_t j = 0; j < 4; j++) sum = std::fma(conv.w[size_t(c * 4 + j)], conv.input(0, t, 3 - j, c), sum);
            const double rounded = double(bf16_of(sum)), exact = rounded / (1 + std::exp(-rounded));
            const float got = y[size_t(t * 64 + c)];
            REQUIRE(got == bf16_of(got));
            if (got != bf16_of(float(exact))) { // only where the exact value is half way between two of BF16
                differing++;
                CHECK(std::abs(double(got) - exact) < std::abs(exact) * 0x1.001p-8);
            }
        }
    CHECK(differing <= 2);
}

TEST_CASE("causal_conv: weights in BF16") {
    Case conv({9}, 40, 4);
    round_all(conv.w);
    std::vector<uint16_t> halves;
    for (const float & value : conv.w) {
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        halves.push_back(uint16_t(bits >> 16));
    }
    Floats y(conv.u.size());
    run_kernel(cpu::causal_conv_entry, cpu::causal_conv_with, CausalConvParams{}, Precision::f32,
               {view(conv.u, {9, 40}), {DType::bf16, {40, 1, 4}, halves.data()}, view(conv.segments, {2}), {}},
               view(y, {9, 40}));
    CHECK(same_bits(y, conv.run()));
}

TEST_CASE("causal_conv: histories in slots") {
    Case plain({2, 1, 40}, 24, 4);
    plain.add_history();
    Case chosen = plain;
    const Floats before = random_floats(6 * 3 * 24, 2, 9);
    chosen.history = before, chosen.slots = {4, 0, 3};
    for (size_t s = 0; s < 3; s++)
        std::copy_n(plain.history.begin() + ptrdiff_t(s * 72), 72, chosen.history.begin() + chosen.slots[s] * 72);
    CHECK(same_bits(chosen.run(), plain.run()));
    for (int32_t slot = 0; slot < 6; slot++) {
        const auto at = std::find(chosen.slots.begin(), chosen.slots.end(), slot) - chosen.slots.begin();
        const float * expected = at < 3 ? &plain.history[size_t(at * 72)] : &before[size_t(slot * 72)];
        CHECK(memcmp(&chosen.history[size_t(slot * 72)], expected, 72 * sizeof(float)) == 0);
    }
}

TEST_CASE("causal_conv: pieces, threads and loops change nothing") {
    Case whole({150}, 96, 4);
    whole.history.assign(3 * 96, 0.0f);
    const Floats expected = Case(whole).run(), without = [&] {
        Case none = whole;
        none.history.clear();
        return none.run();
    }();
    CHECK(same_bits(expected, without));
    for (const int32_t step : {1, 2, 3, 64, 100}) {
        Case part = whole;
        Floats out;
        for (int32_t done = 0; done < 150; done += step) {
            const int32_t end = std::min(150, done + step);
            part.u.assign(whole.u.begin() + done * 96, whole.u.begin() + end * 96);
            part.segments = {0, end - done};
            const Floats y = part.run();
            out.insert(out.end(), y.begin(), y.end());
        }
        CHECK(same_bits(out, expected));
    }
    Case ragged({1, 2, 63, 64, 65, 130}, 50, 4);
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        const Floats once = ragged.run(precision);
        for (const Way & way : all_ways()) CHECK(same_bits(ragged.run(precision, way), once));
    }
}
