// The arithmetic of the comparison, against sums written out in long double and values worked out by hand.
#include "evaluate/figures.h"
#include "evaluate/gates.h"
#include "evaluate/inputs.h"

#include "codec/nvfp4.h"
#include "models/qwen35_names.h"
#include <cmath>
#include <doctest/doctest.h>
#include <random>

using namespace gnv;
using namespace gnv::evaluate;

namespace {

TextSequence sequence(std::vector<int32_t> ids) {
    TextSequence out;
    out.ids = std::move(ids);
    return out;
}

std::vector<long double> log_softmax(const float * x, size_t count) {
    long double sum = 0;
    const float largest = *std::max_element(x, x + count);
    for (size_t i = 0; i < count; i++) sum += std::exp(static_cast<long double>(x[i]) - largest);
    std::vector<long double> out;
    for (size_t i = 0; i < count; i++) out.push_back(static_cast<long double>(x[i]) - largest - std::log(sum));
    return out;
}

} // namespace

TEST_CASE("KL divergence, negative log-likelihood and top token of random logits") {
    constexpr int64_t vocabulary = 1003; // no multiple of 16
    const std::vector<TextSequence> text = {sequence({5, 1002, 0, 17}), sequence({3, 900})};
    const Positions positions = list_positions(text);
    REQUIRE(positions.count() == 6);
    CHECK(positions.next == std::vector<int32_t>{1002, 0, 17, -1, 900, -1});
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 4);
    std::vector<float> source(6 * vocabulary), line(6 * vocabulary);
    for (float & x : source) x = normal(random);
    for (size_t i = 0; i < line.size(); i++)
        line[i] = source[i] + 0.1f * normal(random) + 30; // a shift changes nothing
    source[700] = source[20] = 40;                        // a tie: the first counts
    for (const int threads : {1, 3}) {
        const auto pool = ThreadPool::create(threads).take();
        Comparer comparer(positions, vocabulary, *pool);
        Predictions base;
        std::vector<Predictions> lines(2);
        base.resize(6, true);
        for (Predictions & predictions : lines) predictions.resize(6, false);
        SourceRows rows;
        for (const int64_t first : {0, 4}) { // in two pieces
            rows.logits = source.data() + first * vocabulary;
            const std::vector<const float *> both = {line.data() + first * vocabulary, rows.logits};
            REQUIRE(comparer.compare(first, first == 0 ? 4 : 2, rows, both, base, lines).ok());
        }
        CHECK(base.top[0] == 20);
        for (size_t p = 0; p < 6; p++) {
            const auto a = log_softmax(source.data() + p * vocabulary, vocabulary);
            const auto b = log_softmax(line.data() + p * vocabulary, vocabulary);
            long double divergence = 0;
            for (size_t i = 0; i < a.size(); i++) divergence += std::exp(a[i]) * (a[i] - b[i]);
            CHECK(lines[0].divergence[p] == doctest::Approx(double(divergence)).epsilon(1e-12));
            CHECK(lines[1].divergence[p] < 1e-14); // itself
            CHECK(lines[0].top[p] == std::max_element(b.begin(), b.end()) - b.begin());
            const int32_t next = positions.next[p];
            CHECK(base.nll[p] == doctest::Approx(next < 0 ? 0 : double(-a[size_t(next)])).epsilon(1e-13));
            CHECK(lines[0].nll[p] == doctest::Approx(next < 0 ? 0 : double(-b[size_t(next)])).epsilon(1e-13));
        }
    }
}

TEST_CASE("a NaN or infinite logit is refused, with its place") {
    const std::vector<TextSequence> text = {sequence({1, 2}), sequence({3, 4, 5})};
    const Positions positions = list_positions(text);
    const auto pool = ThreadPool::create(2).take();
    for (const float bad : {NAN, INFINITY}) {
        std::vector<float> good(5 * 32, 1.0f), line = good;
        line[3 * 32 + 31] = bad;
        Comparer comparer(positions, 32, *pool);
        Predictions base;
        std::vector<Predictions> lines(1);
        base.resize(5, true);
        lines[0].resize(5, false);
        const Status status = comparer.compare(0, 5, {good.data(), nullptr}, {line.data()}, base, lines);
        CHECK(status.code() == Code::bad_value);
        CHECK(status.message() == "window 1, position 1: a logit of the checkpoint is NaN or infinite");
    }
}

TEST_CASE("windows: pads and what follows them count nowhere") {
    TextSequence padded = sequence({1, 2, 3, 4, 0, 0});
    padded.mask = {1, 1, 1, 1, 0, 0};
    TextSequence packed = sequence({1, 2, 3, 4, 5});
    packed.segments = {0, 3};
    const Positions positions = list_positions({padded, packed});
    CHECK(positions.next == std::vector<int32_t>{2, 3, 4, -1, -1, -1, 2, 3, -1, 5, -1});
    CHECK(positions.scored == std::vector<uint8_t>{1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1});
    REQUIRE(positions.windows.size() == 3);
    CHECK(positions.windows[0].last_quarter == 3);
    CHECK(positions.windows[1].begin == 6);
    CHECK(positions.windows[2].begin == 9);
    CHECK(positions.window_of[9] == 2);
}

TEST_CASE("percentiles lie between values in proportion") {
    const Percentiles found = percentiles({4, 0, 1, 3, 2});
    CHECK(found[0] == 0);
    CHECK(found[4] == doctest::Approx(0.4)); // 10 %
    CHECK(found[6] == 2);
    CHECK(found[9] == doctest::Approx(3.8)); // 95 %
    CHECK(found[12] == 4);
    CHECK(percentiles({})[6] == 0);
}

TEST_CASE("means weigh positions alike, errors come from windows") {
    // Two windows: divergences 1, 2, 3 and 6.
    const Positions positions = list_positions({sequence({0, 1, 2}), sequence({3})});
    Predictions source, line;
    source.resize(4, true);
    line.resize(4, false);
    line.divergence = {1, 2, 3, 6};
    line.top = {0, 1, 0, 0};
    source.nll = {1, 1, 0, 0}; // two predictions, both in the first window
    line.nll = {1, 2, 0, 0};
    const Figures found = measure(positions, source, line, Stretch::all);
    CHECK(found.divergence.mean == 3);
    // sums 6 and 6 of 3 and 1 positions: deviations 6 - 9 and 6 - 3; sqrt(2 / 1 * (9 + 9)) / 4
    CHECK(found.divergence.error == doctest::Approx(1.5));
    CHECK(found.same_top.mean == 0.75);
    CHECK(found.predictions == 2);
    CHECK(found.log_ratio.mean == 0.5);
    CHECK(Figures::exponential(found.nll).mean == doctest::Approx(std::exp(1.5)));
    CHECK(found.probability.mean == doctest::Approx((std::exp(-2) - std::exp(-1)) / 2));
    CHECK(found.probability_rms.mean == doctest::Approx((std::exp(-1) - std::exp(-2)) / std::sqrt(2)));
    const Figures last = measure(positions, source, line, Stretch::last_quarter);
    CHECK(last.positions == 0); // windows shorter than four positions have none
}

TEST_CASE("the bootstrap's interval is that of a normal mean, and the same every time") {
    std::mt19937 random(3);
    std::normal_distribution<double> normal(2, 1);
    std::vector<double> differences, weights(400, 1.0);
    double sum = 0;
    for (int i = 0; i < 400; i++) sum += differences.emplace_back(normal(random));
    const Interval found = bootstrap(differences, weights), again = bootstrap(differences, weights);
    CHECK(found.low == again.low);
    CHECK(found.low == doctest::Approx(sum / 400 - 1.96 / 20).epsilon(0.01));
    CHECK(found.high == doctest::Approx(sum / 400 + 1.96 / 20).epsilon(0.01));
}

TEST_CASE("room, clipping and spread of input scales") {
    // Inputs of o_proj up to 4, of which the scale can express 3; no other Linear was looked at.
    StatisticSet layer;
    layer.set_names(&qwen35::names);
    const StatisticKey attention = {Part::text, 5, qwen35::attention_out_input, &Statistic::maximum};
    layer.insert(attention, {1}).as<float>()[0] = 4;
    int64_t * const bins =
        layer.insert({Part::text, 5, attention.input, &Statistic::magnitudes}, {1, magnitude_bins}).as<int64_t>();
    bins[8 * 17 + 3] = 90; // from 2.75
    bins[8 * 17 + 4] = 8;  // from 3
    bins[8 * 17 + 7] = 2;  // from 3.75
    const InputFigures found = compare_role(Role::attention_o, 5, {2688.0f / 3}, layer);
    CHECK(found.layer == 5);
    CHECK(found.clipped == 1);
    CHECK(found.clipped_values == doctest::Approx(10));
    CHECK(found.values == 100);
    CHECK(found.least_room == doctest::Approx(0.75));
    CHECK_FALSE(found.odd_scale);
    CHECK(compare_role(Role::attention_o, 5, {2688.0f / 3.125f}, layer).clipped_values ==
          doctest::Approx(6)); // half of a bin
    CHECK(compare_role(Role::attention_o, 5, {2688.0f / 5}, layer).clipped_values == 0);
    CHECK(compare_role(Role::attention_o, 5, {2688.0f / 400}, layer).odd_scale);
    CHECK(compare_role(Role::attention_q, 5, {1}, layer).unmeasured == 1);

    // Experts: one without tokens; a small scale is odd only where the others are not small, too.
    const StatisticKey experts_key = {Part::text, 5, qwen35::expert_down_input, &Statistic::maximum};
    const std::vector<float> maxima = {1, 0, 2, 0.01f};
    std::copy(maxima.begin(), maxima.end(), layer.insert(experts_key, {4}).as<float>());
    const InputFigures experts = compare_role(Role::expert_down, 5, {2688, 1000, 2688, 2688}, layer);
    CHECK(experts.unmeasured == 1);
    CHECK(experts.clipped == 1);
    CHECK(experts.least_room == doctest::Approx(0.5));
    CHECK(experts.expert_of_least == 2);
    CHECK(experts.expert_of_largest == 3);
    CHECK(experts.largest_room == doctest::Approx(100));
    CHECK(experts.spread == doctest::Approx(2.688));
    CHECK_FALSE(experts.odd_scale);
    CHECK(compare_role(Role::expert_down, 5, {26.88f, 1000, 2688, 2688}, layer).odd_scale);
}
