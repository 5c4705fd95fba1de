#include "ops/row_fixture.h"
#include "ops/toy_statistic.h"
#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

constexpr const Statistic * all_statistics[] = {&Statistic::maximum, &toy_sum, &Statistic::second_moments_16,
                                                &Statistic::second_moments};

// x in one of both forms, and where group g's value of row i, column c is.
struct Observation {
    int64_t groups = 1, columns = 1, rows = 1; // rows of x in use; more follow when there are offsets
    std::vector<float> x;
    std::vector<int32_t> offsets; // empty: every row has columns of every group

    int64_t stride() const { return offsets.empty() ? groups * columns : columns; }
    int64_t first_row(int64_t g) const { return offsets.empty() ? 0 : offsets[size_t(g)]; }
    int64_t end_row(int64_t g) const { return offsets.empty() ? rows : offsets[size_t(g) + 1]; }
    float at(int64_t g, int64_t row, int64_t c) const {
        return x[size_t(row * stride() + (offsets.empty() ? g * columns : 0) + c)];
    }
};

Observation observation(int64_t groups, int64_t columns, int64_t rows, bool with_offsets) {
    Observation o{groups, columns, rows, {}, {}};
    if (with_offsets) {
        for (int64_t g = 0; g <= groups; g++)
            o.offsets.push_back(int32_t(g == 1 ? 0 : rows * g / groups)); // the first is empty
        o.x = normal_floats((rows + 3) * columns, 1);
        for (int64_t g = 0; g < groups; g++) // the largest of a group stands where it begins
            if (o.first_row(g) < o.end_row(g)) o.x[size_t(o.first_row(g) * columns)] = float(50 - g);
        std::fill(o.x.begin() + rows * columns, o.x.end(), NAN); // not in use
    } else {
        o.x = normal_floats(rows * groups * columns, 1);
    }
    return o;
}

int64_t total_size(const Statistic * statistic, int64_t columns) { // of a group
    return statistic->shape(columns).elements();
}

// Row after row; moments are chains of fused multiply-adds.
std::vector<double> expected_totals(const Observation & o, const Statistic * statistic, std::vector<double> total) {
    const int64_t size = total_size(statistic, o.columns), k = o.columns;
    const auto add = [](double & moment, float a, float b) { moment = double(std::fma(a, b, float(moment))); };
    for (int64_t g = 0; g < o.groups; g++)
        for (int64_t row = o.first_row(g); row < o.end_row(g); row++)
            for (int64_t i = 0; i < k; i++) {
                double * const group = total.data() + g * size;
                const float x = o.at(g, row, i);
                const double value = double(x);
                if (statistic == &Statistic::maximum) group[0] = std::max(group[0], std::fabs(value));
                if (statistic == &toy_sum) group[i] += value;
                if (statistic == &Statistic::second_moments)
                    for (int64_t j = 0; j < k; j++) add(group[i * k + j], x, o.at(g, row, j));
                if (statistic == &Statistic::second_moments_16)
                    for (int64_t j = 0; j < 16; j++) add(group[i * 16 + j], x, o.at(g, row, i / 16 * 16 + j));
            }
    return total;
}

Status observe(Observation & o, const Statistic * statistic, std::vector<double> & total, OpRun & run) {
    const int64_t x_rows = int64_t(o.x.size()) / o.stride();
    std::vector<float> narrow(total.begin(), total.end());
    const bool is_narrow = statistic->dtype == DType::f32;
    const Shape shape = {int64_t(total.size())};
    Status status =
        run_op(cpu::observe_entry, ObserveParams{statistic, o.groups},
               {tensor_of(o.x, {x_rows, o.stride()}), is_narrow ? tensor_of(narrow, shape) : tensor_of(total, shape),
                o.offsets.empty() ? Tensor{} : tensor_of(o.offsets, {o.groups + 1})},
               {}, run);
    if (is_narrow) total.assign(narrow.begin(), narrow.end());
    return status;
}

} // namespace

TEST_CASE("observe: every statistic, row after row, with any number of threads") {
    for (const Statistic * const statistic : all_statistics)
        for (const int64_t columns : {1, 15, 16, 17, 48, 100, 528})
            for (const int64_t groups : {1, 3})
                for (const bool with_offsets : {false, true}) {
                    if (statistic == &Statistic::second_moments_16 && columns % 16 != 0) continue;
                    if (columns > 100 && statistic == &Statistic::second_moments && (groups > 1 || with_offsets))
                        continue;
                    CAPTURE(statistic->name);
                    CAPTURE(columns);
                    CAPTURE(groups);
                    CAPTURE(with_offsets);
                    Observation o = observation(groups, columns, columns > 500 ? 83 : 150, with_offsets);
                    const size_t size = size_t(groups * total_size(statistic, columns));
                    std::vector<double> twice = expected_totals(o, statistic, std::vector<double>(size, 0.0));
                    twice = expected_totals(o, statistic, twice);
                    for (const int threads : thread_counts) {
                        std::vector<double> total(size, 0.0);
                        OpRun run{Precision::f32, threads};
                        CHECK(observe(o, statistic, total, run).ok());
                        CHECK(observe(o, statistic, total, run).ok());
                        CHECK(same_bits(total, twice));
                        CHECK(run.bad_row == -1);
                    }
                }
}

TEST_CASE("observe: the first row with NaN or Inf") {
    for (const Statistic * const statistic : all_statistics)
        for (const bool with_offsets : {false, true})
            for (const float bad : {NAN, -NAN, INFINITY, -INFINITY})
                for (const int threads : {1, 3}) {
                    CAPTURE(statistic->name);
                    CAPTURE(with_offsets);
                    Observation o = observation(3, 48, 900, with_offsets);
                    o.x[size_t(700 * o.stride() + 1)] = -bad;
                    o.x[size_t(411 * o.stride() + o.stride() - 1)] = 0;
                    o.x[size_t(411 * o.stride() + o.stride() - 2)] = bad;
                    o.x[size_t(412 * o.stride())] = bad;
                    std::vector<double> total(size_t(3 * total_size(statistic, 48)), 0.0);
                    OpRun run{Precision::f32, threads};
                    const Status status = observe(o, statistic, total, run);
                    CHECK(status.code() == Code::bad_value);
                    CHECK(run.bad_row == 411);
                    CHECK(status.message() ==
                          concat("feature ", (o.stride() - 2) % 48, std::isnan(bad) ? " is NaN" : " is infinite"));
                }
}

TEST_CASE("silu_mul with groups: its result and the largest magnitudes in it, the first row with NaN or Inf") {
    for (const int64_t columns : {1, 15, 48, 528})
        for (const int64_t groups : {1, 3})
            for (const bool with_offsets : {false, true})
                for (const Precision precision : {Precision::f32, Precision::bf16})
                    for (const int threads : thread_counts) {
                        CAPTURE(columns);
                        CAPTURE(groups);
                        CAPTURE(with_offsets);
                        if (groups == 1 && with_offsets) continue; // no rows
                        Observation o = observation(groups, columns, 700, with_offsets);
                        for (float & x : o.x) x = std::isnan(x) ? 1e4f : x; // not in use, but computed
                        const Shape shape = {int64_t(o.x.size()) / o.stride(), o.stride()};
                        std::vector<float> gate = o.x, up = normal_floats(shape.elements(), 2), y(o.x.size());
                        std::vector<float> maxima(size_t(groups), 0.0f);
                        const Tensor offsets = with_offsets ? tensor_of(o.offsets, {groups + 1}) : Tensor{};
                        OpRun run{precision, threads};
                        const auto once = [&] {
                            return run_op(
                                cpu::silu_mul_entry, SiluMulParams{groups},
                                {tensor_of(gate, shape), tensor_of(up, shape), tensor_of(maxima, {groups}), offsets},
                                {tensor_of(y, shape)}, run);
                        };
                        CHECK(once().ok());
                        CHECK(run.bad_row == -1);
                        std::vector<float> plain(y.size());
                        CHECK(run_op(cpu::silu_mul_entry, SiluMulParams{},
                                     {tensor_of(gate, shape), tensor_of(up, shape)}, {tensor_of(plain, shape)},
                                     precision)
                                  .ok());
                        CHECK(same_bits(y, plain));
                        o.x = y;
                        const std::vector<double> expected =
                            expected_totals(o, &Statistic::maximum, std::vector<double>(size_t(groups), 0.0));
                        CHECK(same_bits(maxima, std::vector<float>(expected.begin(), expected.end())));
                        std::fill(maxima.begin(), maxima.end(), 1000.0f); // larger ones stay
                        CHECK(once().ok());
                        CHECK(maxima == std::vector<float>(size_t(groups), 1000.0f));
                        for (const float bad : {NAN, INFINITY}) {
                            up[size_t(411 * o.stride() + o.stride() / 2)] = bad;
                            up[size_t(500 * o.stride())] = NAN;
                            gate[size_t(411 * o.stride() + o.stride() / 2)] = 1;
                            const Status status = once();
                            CHECK(status.code() == Code::bad_value);
                            CHECK(status.message() == concat("feature ", o.stride() / 2 % o.columns,
                                                             std::isnan(bad) ? " is NaN" : " is infinite"));
                            CHECK(run.bad_row == 411);
                        }
                        CHECK(maxima == std::vector<float>(size_t(groups), 1000.0f));
                    }
}

TEST_CASE("observe: how often each magnitude occurs") {
    // 1.0 opens bin 8 * 16, 1.124 is in it, 1.125 in the next, -3 in that of 2 (1 + 4 / 8); the ends take the rest.
    const auto bins_of = [](Observation o, int threads) {
        std::vector<int64_t> total(size_t(o.groups * magnitude_bins), 0);
        const int64_t rows = int64_t(o.x.size()) / o.stride();
        const Status status = run_op(cpu::observe_entry, ObserveParams{&Statistic::magnitudes, o.groups},
                                     {tensor_of(o.x, {rows, o.stride()}), tensor_of(total, {o.groups, magnitude_bins}),
                                      o.offsets.empty() ? Tensor{} : tensor_of(o.offsets, {o.groups + 1})},
                                     {}, Precision::f32, threads);
        CHECK(status.ok());
        return total;
    };
    const Observation few{1, 9, 1, {1.0f, 1.124f, 1.125f, -3.0f, 0.0f, -0.0f, 1e-30f, 0x1p16f, 3e38f}, {}};
    const std::vector<int64_t> found = bins_of(few, 1);
    CHECK(found[128] == 2);
    CHECK(found[129] == 1);
    CHECK(found[140] == 1);
    CHECK(found[0] == 3);
    CHECK(found[255] == 2);
    for (const bool with_offsets : {false, true}) {
        const Observation o = observation(3, 40, 1000, with_offsets);
        std::vector<int64_t> expected(size_t(o.groups * magnitude_bins), 0);
        for (int64_t g = 0; g < o.groups; g++)
            for (int64_t row = o.first_row(g); row < o.end_row(g); row++)
                for (int64_t c = 0; c < o.columns; c++) {
                    int exponent;
                    const double fraction = std::frexp(std::fabs(double(o.at(g, row, c))), &exponent) * 2; // [1, 2)
                    const double bin = 8.0 * (exponent - 1 + 16) + std::floor((fraction - 1) * 8);
                    expected[size_t(g * magnitude_bins) + size_t(std::clamp(bin, 0.0, 255.0))]++;
                }
        for (const int threads : {1, 3}) CHECK(bins_of(o, threads) == expected);
    }
}

TEST_CASE("observe: the largest floats are no failure, and no rows change nothing") {
    for (const Statistic * const statistic : all_statistics) {
        Observation o{1, 16, 4, std::vector<float>(64, -3.4028234e38f), {}};
        std::vector<double> total(size_t(total_size(statistic, 16)), 0.0);
        const std::vector<double> expected = expected_totals(o, statistic, total);
        OpRun run;
        CHECK(observe(o, statistic, total, run).ok());
        CHECK(same_bits(total, expected));
        Observation none{2, 16, 0, std::vector<float>(32, NAN), {0, 0, 0}};
        std::vector<double> kept(size_t(2 * total_size(statistic, 16)), 2.5);
        CHECK(observe(none, statistic, kept, run).ok());
        CHECK(kept == std::vector<double>(kept.size(), 2.5));
    }
}

TEST_CASE("observe: the same bits in every variant") {
    const int64_t columns = 117, rows = 37;
    const std::vector<float> x = normal_floats(rows * columns, 9);
    const cpu::RowLoops & first = cpu::all_loops().front()->rows;
    std::vector<float> products(16 * 16, 0.125f);
    first.add_products(x.data() + 3, columns, rows, products.data());
    for (const cpu::Loops * loops : cpu::all_loops()) {
        CAPTURE(loops->name);
        std::vector<float> tile(16 * 16, 0.125f);
        loops->rows.add_products(x.data() + 3, columns, rows, tile.data());
        CHECK(same_bits(tile, products));
        for (const int64_t count : ragged_widths)
            CHECK(loops->rows.largest_magnitude(x.data(), count) == first.largest_magnitude(x.data(), count));
    }
}

TEST_CASE("observe some rows: those of a token's choices, with their weights, fitted or held back, pads aside") {
    constexpr int64_t T = 93, chosen = 3, groups = 5, columns = 32;
    std::vector<float> x = normal_floats(T * columns, 1), of_slots = normal_floats(T * chosen * columns, 2),
                       weights = normal_floats(T * chosen, 3);
    std::vector<int32_t> positions(3 * T, -1), slots, offsets = {0};
    std::vector<uint8_t> mask(T, 1);
    for (int64_t t = 0; t < T; t++) positions[size_t(t)] = int32_t(t % 41), mask[size_t(t)] = t % 13 != 0;
    for (int32_t g = 0; g < groups; g++) { // slot s chose expert s mod 7: some are of none
        for (int32_t s = g == 3 ? int32_t(T * chosen) : g; s < T * chosen; s += 7) slots.push_back(s);
        offsets.push_back(int32_t(slots.size()));
    }
    slots.resize(size_t(T * chosen), -1); // not in use
    for (const Statistic * const statistic :
         {&Statistic::fitted_moments_16, &Statistic::held_moments_16, &Statistic::fitted_moments,
          &Statistic::held_moments, &Statistic::fitted_weights})
        for (const bool routed : {false, true})
            for (const bool own : {false, true})
                for (const bool masked : {false, true}) {
                    if (!routed && own) continue;
                    CAPTURE(statistic->name);
                    const int64_t count = routed ? groups : 1, size = statistic->shape(columns).elements();
                    const bool held = statistic->rows == Statistic::Rows::held;
                    std::vector<double> expected(size_t(count * size));
                    for (int64_t g = 0; g < count; g++)
                        for (int64_t j = routed ? offsets[size_t(g)] : 0; j < (routed ? offsets[size_t(g) + 1] : T);
                             j++) {
                            const int64_t token = routed ? slots[size_t(j)] / chosen : j;
                            if ((positions[size_t(token)] % 10 == 9) != held || (masked && token % 13 == 0)) continue;
                            const float w = routed ? weights[size_t(slots[size_t(j)])] : 1;
                            const float * const row =
                                own ? &of_slots[size_t(j * columns)] : &x[size_t(token * columns)];
                            double * const total = expected.data() + g * size;
                            if (statistic->of_weights) {
                                const double square = double(w) * double(w);
                                total[0] += 1, total[1] += square, total[2] += square * square;
                                continue;
                            }
                            const int64_t width = size / columns;
                            for (int64_t i = 0; i < columns; i++)
                                for (int64_t k = 0; k < width; k++) {
                                    double & sum = total[i * width + k];
                                    const float b = row[width == 16 ? i / 16 * 16 + k : k] * w;
                                    sum = double(std::fma(row[i] * w, b, float(sum)));
                                }
                        }
                    for (const int threads : thread_counts) {
                        std::vector<float> narrow(expected.size());
                        std::vector<double> wide(expected.size());
                        const bool is_narrow = statistic->dtype == DType::f32;
                        ObserveParams params{statistic, count,
                                             own ? GroupedLinearParams::Row::own : GroupedLinearParams::Row::token,
                                             chosen};
                        OpRun run{Precision::f32, threads};
                        const Shape shape = {int64_t(expected.size())};
                        REQUIRE(run_op(cpu::observe_entry, params,
                                       {own ? tensor_of(of_slots, {T * chosen, columns}) : tensor_of(x, {T, columns}),
                                        is_narrow ? tensor_of(narrow, shape) : tensor_of(wide, shape),
                                        routed ? tensor_of(offsets, {groups + 1}) : Tensor{},
                                        routed ? tensor_of(slots, {T * chosen}) : Tensor{},
                                        routed ? tensor_of(weights, {T, chosen}) : Tensor{},
                                        tensor_of(positions, {3, T}), masked ? tensor_of(mask, {T}) : Tensor{}},
                                       {}, run)
                                    .ok());
                        if (is_narrow) wide.assign(narrow.begin(), narrow.end());
                        CHECK(same_bits(wide, expected));
                    }
                }
}
