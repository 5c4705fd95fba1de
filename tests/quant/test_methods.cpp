// Quantizers that search: against brute force over all scales, a GPTQ as textbooks have it, in double, and bad input.
#include "codec/nvfp4.h"
#include "core/thread_pool.h"
#include "faults/small_model.h"
#include "formats/new_file.h"
#include "forward/deferred_device.h"
#include "model/sequences.h"
#include "quant/calibration_statistics.h"
#include "quant/input_scales.h"
#include "quant/quantizers/moments.h"
#include "quantize/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <random>

using namespace gnv;
using namespace gnv::test;

namespace {

using Matrix = std::vector<std::vector<double>>;

std::vector<InstructionSet> instruction_sets() {
    std::vector<InstructionSet> sets;
    for (int set = 0; set <= int(best_instruction_set()); set++) sets.push_back(InstructionSet(set));
    return sets;
}

double nearest_value(double x) { // of E2M1, ties to the even code
    constexpr double values[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    int best = 0;
    for (int code = 1; code < 8; code++) {
        const double here = std::fabs(std::fabs(x) - values[code]), there = std::fabs(std::fabs(x) - values[best]);
        if (here < there || (here == there && code % 2 == 0)) best = code;
    }
    return std::copysign(values[best], x);
}

// --- One block ----------------------------------------------------------------------------------------------------------------

struct Tile {
    SearchTile weights = {}, values = {};
    float global = 1;
};

// Rows of all kinds: normal, of heavy tails, one large value, zeros, tiny ones, negative zeros.
Tile make_tile(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    Tile tile;
    float largest = 0;
    for (int r = 0; r < search_rows; r++)
        for (int k = 0; k < search_columns; k++) {
            double x = normal(random);
            if (r % 8 == 1) x = x * x * x;
            if (r % 8 == 2) x = k == 5 ? 4 : x * 0.01;
            if (r % 8 == 3) x = r == 3 ? 0 : -0.0;
            if (r % 8 == 4) x *= 1e-5;
            if (r % 8 == 5) x = k % 2 == 0 ? 2 : -1;
            tile.weights[k][r] = nvfp4::bf16_to_float(nvfp4::bf16_from_float(float(x * 0.02)));
            largest = std::max(largest, std::fabs(tile.weights[k][r]));
        }
    tile.global = nvfp4::global_scale(DType::bf16, largest * (seed % 2 == 0 ? 1 : 1.75f));
    return tile;
}

// Codes with a scale, one after another; with factors each shifts those behind it. Returns the error in units of weights.
double try_scale(const double * weights, double scale, const BlockMetric & metric, double * values) {
    double target[16], error = 0;
    for (int k = 0; k < 16; k++) target[k] = weights[k];
    for (int k = 0; k < 16; k++) {
        values[k] = nearest_value(target[k] / scale) * scale;
        const double missed = target[k] - values[k];
        if (metric.kind == BlockMetric::Kind::squares) error += missed * missed;
        if (metric.kind != BlockMetric::Kind::factor) continue;
        error += double(metric.diagonal[k]) * missed * missed;
        for (int j = k + 1; j < 16; j++) target[j] += (weights[k] - values[k]) * double(metric.matrix[k * 16 + j]);
    }
    for (int i = 0; i < 16 && metric.kind == BlockMetric::Kind::matrix; i++)
        for (int j = 0; j < 16; j++)
            error += (weights[i] - values[i]) * double(metric.matrix[i * 16 + j]) * (weights[j] - values[j]);
    return error;
}

void check_search(const BlockMetric & metric, uint32_t seed) {
    const Tile tile = make_tile(seed);
    BlockSearch first = {};
    for (const InstructionSet set : instruction_sets()) {
        BlockSearch block = {};
        SearchTile values;
        block.weights = &tile.weights;
        block.metric = metric;
        block.values = &values;
        formats::nvfp4.search(set, block, tile.global);
        if (set == InstructionSet::portable) memcpy(&first, &block, sizeof block);
        CHECK(memcmp(block.codes, first.codes, sizeof block.codes) == 0);
        CHECK(memcmp(block.scales, first.scales, sizeof block.scales) == 0);
        CHECK(memcmp(block.errors, first.errors, sizeof block.errors) == 0);
        for (int r = 0; r < search_rows; r++) {
            CAPTURE(r);
            double weights[16], tried[16], largest = 0;
            for (int k = 0; k < 16; k++) {
                weights[k] = double(tile.weights[k][r]);
                largest = std::max(largest, std::fabs(weights[k]));
                CHECK(values[k][r] ==
                      nvfp4::e2m1_value(block.codes[k][r]) * nvfp4::e4m3_value(block.scales[r]) / tile.global);
            }
            if (largest == 0) {
                CHECK(block.scales[r] == 0x20);
                for (int k = 0; k < 16; k++) CHECK(block.codes[k][r] == 0);
                continue;
            }
            REQUIRE(block.scales[r] >= 1);
            REQUIRE(block.scales[r] <= 126);
            const int usual = std::max(1, int(nvfp4::e4m3_from_float(float(largest / 6) * tile.global)));
            double best = INFINITY;
            for (int code = 1; code <= 126; code++) {
                if (metric.kind != BlockMetric::Kind::squares && (code < usual - 6 || code > usual + 9)) continue;
                best = std::min(best, try_scale(weights, double(nvfp4::e4m3_value(uint8_t(code))) / double(tile.global),
                                                metric, tried));
            }
            const double scale = double(nvfp4::e4m3_value(block.scales[r])) / double(tile.global);
            const double found = try_scale(weights, scale, metric, tried);
            CHECK(found <= best * (1 + 1e-4) + 1e-12 * scale * scale);
        }
    }
}

// --- Weights ------------------------------------------------------------------------------------------------------------------

constexpr int64_t columns = 48;

struct Problem {
    int64_t rows = 0;
    std::vector<uint16_t> weights;
    std::vector<float> fitted, held;
    double sums[3] = {};
    bool full = true, gives_fitted = true, gives_held = true;

    WeightRows source() const { return {DType::bf16, weights.data(), rows, columns}; }
    double weight(int64_t r, int64_t k) const { return double(nvfp4::bf16_to_float(weights[size_t(r * columns + k)])); }
    UnitInputs inputs() const {
        UnitInputs given = {columns, {}, {}};
        if (gives_fitted)
            given.own = {{full ? &Statistic::fitted_moments : &Statistic::fitted_moments_16, fitted.data()},
                         {&Statistic::fitted_weights, sums}};
        if (gives_held)
            given.own.push_back({full ? &Statistic::held_moments : &Statistic::held_moments_16, held.data()});
        return given;
    }
};

std::vector<float> moments_of(std::mt19937 & random, int positions) {
    std::normal_distribution<double> normal;
    std::vector<float> sums(size_t(columns * columns));
    for (int t = 0; t < positions; t++) {
        double x[columns], common = normal(random);
        for (int64_t k = 0; k < columns; k++)
            x[k] = (normal(random) + common) * (1 + double(k % 7) / 3 + double(k / 16));
        for (int64_t i = 0; i < columns; i++)
            for (int64_t j = 0; j < columns; j++) sums[size_t(i * columns + j)] += float(x[i] * x[j]);
    }
    return sums;
}

Problem make_problem(int64_t rows, int positions) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0, 0.02f);
    Problem problem;
    problem.rows = rows;
    for (int64_t i = 0; i < rows * columns; i++) problem.weights.push_back(nvfp4::bf16_from_float(normal(random)));
    problem.fitted = moments_of(random, positions);
    problem.held = moments_of(random, 400);
    for (double & sum : problem.sums) sum = positions;
    return problem;
}

struct Packed {
    std::vector<uint8_t> bytes;
    float scale = 0;
    MethodChoices choices;
    PackedRows at(int64_t rows, int64_t row = 0) {
        const Format & format = formats::nvfp4;
        const uint64_t codes = format.components[0].bytes(rows, columns);
        return {rows - row,
                columns,
                {bytes.data() + format.components[0].bytes(row, columns),
                 bytes.data() + codes + format.components[1].bytes(row, columns)}};
    }
};

Packed pack(const Quantizer & quantizer, const Problem & problem, InstructionSet set = best_instruction_set(),
            bool row_by_row = false) {
    UnitMeasure measure;
    quantizer.measure(set, problem.source(), measure);
    const UnitScale scale = quantizer.prepare(formats::nvfp4, DType::bf16, measure, problem.inputs()).take();
    Packed packed;
    packed.bytes.resize(formats::nvfp4.packed_bytes(problem.rows, columns));
    packed.scale = scale.value;
    const int64_t step = row_by_row ? 1 : problem.rows;
    for (int64_t row = 0; row < problem.rows; row += step) {
        const WeightRows rows = {DType::bf16, problem.weights.data() + row * columns, step, columns};
        PackedRows out = packed.at(problem.rows, row);
        out.rows = step;
        REQUIRE(quantizer.pack(set, formats::nvfp4, rows, scale, out, nullptr, &packed.choices).ok());
    }
    return packed;
}

// (w - v)^T M (w - v) of each row.
std::vector<double> losses(const Problem & problem, Packed & packed, const std::vector<float> & moments) {
    std::vector<float> values(size_t(problem.rows * columns));
    formats::nvfp4.unpack(best_instruction_set(), packed.at(problem.rows), packed.scale, values.data());
    std::vector<double> list;
    for (int64_t r = 0; r < problem.rows; r++) {
        double loss = 0;
        const auto missed = [&](int64_t k) { return problem.weight(r, k) - double(values[size_t(r * columns + k)]); };
        for (int64_t i = 0; i < columns; i++)
            for (int64_t j = 0; j < columns; j++)
                loss += missed(i) * double(moments[size_t(i * columns + j)]) * missed(j);
        list.push_back(loss);
    }
    return list;
}

double sum(const std::vector<double> & list) {
    double total = 0;
    for (const double value : list) total += value;
    return total;
}

// --- GPTQ, as textbooks have it -----------------------------------------------------------------------------------------------

Matrix inverse(Matrix a) { // Gauss and Jordan
    const size_t n = a.size();
    Matrix b(n, std::vector<double>(n));
    for (size_t i = 0; i < n; i++) b[i][i] = 1;
    for (size_t i = 0; i < n; i++) {
        const double pivot = a[i][i];
        for (size_t j = 0; j < n; j++) a[i][j] /= pivot, b[i][j] /= pivot;
        for (size_t k = 0; k < n; k++) {
            const double factor = a[k][i];
            for (size_t j = 0; k != i && j < n; j++) a[k][j] -= factor * a[i][j], b[k][j] -= factor * b[i][j];
        }
    }
    return b;
}

Matrix upper_cholesky(const Matrix & a) { // a = U^T U
    const size_t n = a.size();
    Matrix u(n, std::vector<double>(n));
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) {
            double left = a[i][j];
            for (size_t k = 0; k < i; k++) left -= u[k][i] * u[k][j];
            u[i][j] = i == j ? std::sqrt(left) : left / u[i][i];
        }
    return u;
}

// The loss of a row under H: blocks by descending trace, the scale of each chosen by the loop's own error, each column's error
// spread over all that follow.
double textbook_loss(const Problem & problem, int64_t row, const Matrix & h, float global) {
    std::vector<size_t> order;
    for (size_t b = 0; b < columns / 16; b++) order.push_back(b);
    const auto trace = [&](size_t b) {
        double total = 0;
        for (size_t i = 0; i < 16; i++) total += h[b * 16 + i][b * 16 + i];
        return total;
    };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return trace(a) > trace(b); });
    std::vector<size_t> place;
    for (const size_t b : order)
        for (size_t i = 0; i < 16; i++) place.push_back(b * 16 + i);
    const size_t n = place.size();
    Matrix ordered(n, std::vector<double>(n));
    std::vector<double> weights, values(n);
    for (size_t i = 0; i < n; i++) {
        weights.push_back(problem.weight(row, int64_t(place[i])));
        for (size_t j = 0; j < n; j++) ordered[i][j] = h[place[i]][place[j]];
    }
    const Matrix u = upper_cholesky(inverse(ordered));
    std::vector<double> shifted = weights;
    for (size_t first = 0; first < n; first += 16) {
        double largest = 0, least = INFINITY;
        for (size_t i = first; i < first + 16; i++) largest = std::max(largest, std::fabs(shifted[i]));
        const int usual = std::max(1, int(nvfp4::e4m3_from_float(float(largest / 6) * global)));
        std::vector<double> best_shifted;
        for (int code = std::max(1, usual - 6); code <= std::min(126, usual + 9); code++) {
            const double scale = double(nvfp4::e4m3_value(uint8_t(code))) / double(global);
            std::vector<double> trial = shifted, kept(16);
            double error = 0;
            for (size_t i = first; i < first + 16; i++) {
                kept[i - first] = nearest_value(trial[i] / scale) * scale;
                const double e = (trial[i] - kept[i - first]) / u[i][i];
                error += e * e;
                for (size_t j = i + 1; j < n; j++) trial[j] -= e * u[i][j];
            }
            if (!(error < least)) continue;
            least = error;
            best_shifted = trial;
            std::copy(kept.begin(), kept.end(), values.begin() + ptrdiff_t(first));
        }
        shifted = best_shifted;
    }
    double loss = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) loss += (weights[i] - values[i]) * ordered[i][j] * (weights[j] - values[j]);
    return loss;
}

} // namespace

TEST_CASE("squares: no scale of all that there are is better, whatever the rows hold") {
    for (uint32_t seed = 0; seed < 20; seed++) check_search({}, seed);
}

TEST_CASE("metrics of inputs: the best of the scales that are looked at, with errors that shift what follows") {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (uint32_t seed = 0; seed < 10; seed++) {
        float x[64][16], matrix[256] = {}, upper[256] = {}, diagonal[16];
        for (auto & row : x)
            for (float & value : row) value = normal(random);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++) {
                for (const auto & row : x) matrix[i * 16 + j] += row[i] * row[j] / 64;
                upper[i * 16 + j] = j > i ? normal(random) * 0.2f : NAN; // not looked at
            }
        for (float & value : diagonal) value = std::fabs(normal(random)) + 0.1f;
        check_search({BlockMetric::Kind::matrix, matrix, nullptr}, seed);
        check_search({BlockMetric::Kind::factor, upper, diagonal}, seed);
    }
}

TEST_CASE("mse: nearest codes to the best scale of each block, less error than round-to-nearest") {
    const Problem problem = make_problem(37, 1000);
    const std::vector<float> squares = [] {
        std::vector<float> unit(size_t(columns * columns));
        for (int64_t i = 0; i < columns; i++) unit[size_t(i * columns + i)] = 1;
        return unit;
    }();
    Packed best = pack(least_squares(), problem), nearest = pack(round_to_nearest(), problem);
    CHECK(sum(losses(problem, best, squares)) < 0.8 * sum(losses(problem, nearest, squares)));
    for (const InstructionSet set : instruction_sets()) CHECK(pack(least_squares(), problem, set).bytes == best.bytes);
    CHECK(pack(least_squares(), problem, best_instruction_set(), true).bytes == best.bytes);
}

TEST_CASE("a factored matrix is what it was") {
    std::mt19937 random(11);
    constexpr int64_t n = columns;
    const std::vector<float> moments = moments_of(random, 200);
    std::vector<double> matrix(moments.begin(), moments.end());
    for (int64_t i = 0; i < n; i++) matrix[size_t(i * n + i)] += 1;
    std::vector<double> factored = matrix;
    REQUIRE(factor_upper(factored, n));
    const auto u = [&](int64_t i, int64_t j) { return i == j ? 1 : i < j ? factored[size_t(j * n + i)] : 0; };
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double product = 0;
            for (int64_t k = 0; k < n; k++) product += u(i, k) * factored[size_t(k * n + k)] * u(j, k);
            CHECK(product == doctest::Approx(matrix[size_t(i * n + j)]).epsilon(1e-9));
        }
    matrix[5 * n + 5] = -1;
    CHECK_FALSE(factor_upper(matrix, n));
    matrix[5 * n + 5] = NAN;
    CHECK_FALSE(factor_upper(matrix, n));
}

TEST_CASE("gptq: no worse than a textbook's, in the same loss") {
    const Problem problem = make_problem(32, 4000);
    Packed found = pack(gptq(), problem), nearest = pack(round_to_nearest(), problem);
    Matrix h(columns, std::vector<double>(columns));
    std::vector<float> damped(problem.fitted.size());
    double mean = 0;
    for (int64_t i = 0; i < columns; i++) mean += double(problem.fitted[size_t(i * columns + i)]) / double(columns);
    for (int64_t i = 0; i < columns; i++)
        for (int64_t j = 0; j < columns; j++) {
            h[size_t(i)][size_t(j)] = double(problem.fitted[size_t(i * columns + j)]) + (i == j ? 0.03 * mean : 0);
            damped[size_t(i * columns + j)] = float(h[size_t(i)][size_t(j)]);
        }
    double textbook = 0;
    for (int64_t row = 0; row < problem.rows; row++) textbook += textbook_loss(problem, row, h, found.scale);
    const double ours = sum(losses(problem, found, damped)), usual = sum(losses(problem, nearest, damped));
    CHECK(ours < textbook * 1.001);
    CHECK(textbook < 0.6 * usual);
    CHECK(found.choices.rows[method_gptq] == uint64_t(problem.rows));
    CHECK(found.choices.judged == uint64_t(problem.rows));
    CHECK(found.choices.mean_error_part() < 0.7);
    for (const InstructionSet set : instruction_sets()) CHECK(pack(gptq(), problem, set).bytes == found.bytes);
    CHECK(pack(gptq(), problem, best_instruction_set(), true).bytes == found.bytes);
}

TEST_CASE("fitted to a few positions, no row is worse than round-to-nearest on those that were held back") {
    for (const int positions : {1, 3, 20}) {
        const Problem problem = make_problem(64, positions);
        // Round-to-nearest with the scale of the unit, which leaves room.
        Problem plain = problem;
        Packed nearest = pack(round_to_nearest(), plain);
        UnitMeasure measure;
        gptq().measure(best_instruction_set(), problem.source(), measure);
        nearest.scale = gptq().prepare(formats::nvfp4, DType::bf16, measure, problem.inputs()).take().value;
        formats::nvfp4.pack(best_instruction_set(), problem.source(), nearest.scale, nearest.at(problem.rows));
        Packed found = pack(gptq(), problem);
        const auto ours = losses(problem, found, problem.held), usual = losses(problem, nearest, problem.held);
        for (size_t r = 0; r < ours.size(); r++) CHECK(ours[r] <= usual[r] * (1 + 1e-4));
        uint64_t rows = 0;
        for (const uint64_t count : found.choices.rows) rows += count;
        CHECK(rows == uint64_t(problem.rows));
    }
}

TEST_CASE("moments that are of no use: the bytes of mse, and no NaN in any of them") {
    for (const bool full : {false, true}) {
        const Quantizer & quantizer = full ? gptq() : local_hessian();
        const auto fresh = [&] {
            Problem made = make_problem(17, 100);
            made.full = full;
            return made;
        };
        Problem problem = fresh();
        const Packed squares = pack(least_squares(), problem);
        const auto same = [&](bool given, bool held) {
            problem.gives_fitted = given, problem.gives_held = held;
            return pack(quantizer, problem).bytes == squares.bytes;
        };
        CHECK(same(false, false)); // not measured
        CHECK(same(true, false));  // nothing to judge by
        for (const float bad : {NAN, INFINITY, -INFINITY, 3e38f}) {
            problem = fresh();
            std::fill(problem.fitted.begin(), problem.fitted.end(), bad);
            Packed packed = pack(quantizer, problem);
            for (const uint8_t byte : std::vector<uint8_t>(packed.bytes.begin() + 17 * columns / 2, packed.bytes.end()))
                CHECK((byte >= 1 && byte <= 126));
            std::fill(problem.held.begin(), problem.held.end(), bad);
            if (bad != 3e38f) CHECK(same(true, true));
        }
        problem = fresh();
        for (double & sum_of : problem.sums) sum_of = 0; // no position
        CHECK(pack(quantizer, problem).choices.rows[method_gptq] == 0);
        // Singular, of one position, of zeros but for one element.
        for (const int kind : {0, 1, 2}) {
            problem = fresh();
            for (size_t i = 0; i < problem.fitted.size(); i++)
                problem.fitted[i] = kind == 0 ? 1.0f : kind == 1 ? 1e-38f : i == 0 ? 1.0f : 0.0f;
            Packed packed = pack(quantizer, problem);
            for (const uint8_t byte : std::vector<uint8_t>(packed.bytes.begin() + 17 * columns / 2, packed.bytes.end()))
                CHECK((byte >= 1 && byte <= 126));
        }
        // Weights: zeros, the least there are, the largest there are.
        for (const uint16_t bits : {0x0000, 0x8000, 0x0001, 0x0080, 0x7f7f}) {
            problem = fresh();
            std::fill(problem.weights.begin(), problem.weights.begin() + 16 * columns, bits);
            if (bits != 0x7f7f) std::fill(problem.weights.begin(), problem.weights.end(), bits);
            Packed packed = pack(quantizer, problem);
            CHECK(std::isfinite(packed.scale));
            for (const uint8_t byte : std::vector<uint8_t>(packed.bytes.begin() + 17 * columns / 2, packed.bytes.end()))
                CHECK((byte >= 1 && byte <= 126));
        }
    }
}

TEST_CASE("a run with gptq: the same bytes for any threads and budget, every row told of, data asked for") {
    const ScratchFolder scratch;
    write_small_model(scratch / "source");
    std::mt19937 random(1);
    CalibrationData data;
    for (const int length : {60, 1, 45, 70}) {
        TextSequence & text = data.sequences.emplace_back();
        for (int i = 0; i < length; i++) text.ids.push_back(int32_t(random() % 8192));
        data.positions += uint64_t(length);
    }
    data.tokens = data.positions;
    data.json = "{}";
    OpenDevice device = QuantizeOptions().open_device;
    std::string save;                        // a file for the statistics
    const Statistics * statistics = nullptr; // instead of data
    const auto run = [&](const Quantizer & quantizer, const Format & scheme, const char * name, int threads,
                         uint64_t ram, const CalibrationData * calibration) -> Status {
        PlanOptions planned;
        planned.recipe.quantizer = &quantizer;
        planned.recipe.headroom = default_headroom;
        planned.recipe.scheme = &scheme;
        planned.threads = threads;
        planned.ram_bytes = ram;
        planned.buffer_share = calibrating_buffer_share;
        GNV_ASSIGN(const Plan plan, make_plan(scratch / "source", planned));
        GNV_ASSIGN(const auto pool, ThreadPool::create(threads));
        QuantizeOptions options;
        options.destination = scratch / name;
        options.calibration = calibration;
        options.scratch_folder = scratch.path();
        options.open_device = device;
        options.save_statistics = save;
        options.statistics = statistics;
        GNV_TRY(quantize(plan, *pool, options).take_status());
        return {};
    };
    for (const Quantizer * const quantizer : {&local_hessian(), &gptq()}) {
        const std::string name = quantizer->name();
        REQUIRE(run(*quantizer, formats::nvfp4, (name + "1").c_str(), 1, 0, &data).ok());
        REQUIRE(run(*quantizer, formats::nvfp4, (name + "3").c_str(), 3, 0, &data).ok());
        REQUIRE(run(*quantizer, formats::nvfp4, (name + "small").c_str(), 2, 24 << 20, &data).ok());
        REQUIRE(run(*quantizer, formats::nvfp4a16, (name + "a16").c_str(), 2, 0, &data).ok());
        const Files one = read_folder(scratch / (name + "1"));
        CHECK((one == read_folder(scratch / (name + "3"))));
        CHECK((one == read_folder(scratch / (name + "small"))));
        // A device with memory of its own measures and packs: the same bytes, the same report.
        bool quantizes = true;
        device = [&](ThreadPool & pool) -> Result<std::unique_ptr<Backend>> {
            auto there = std::make_unique<DeferredDevice>(pool);
            there->quantizes = quantizes;
            return std::unique_ptr<Backend>(std::move(there));
        };
        REQUIRE(run(*quantizer, formats::nvfp4, (name + "device").c_str(), 3, 0, &data).ok());
        CHECK((one == read_folder(scratch / (name + "device"))));
        quantizes = false;
        const Status without = run(*quantizer, formats::nvfp4, (name + "without").c_str(), 3, 0, &data);
        CHECK(without.code() == Code::unsupported);
        CHECK(without.message().find("--device cpu") != std::string::npos);
        device = QuantizeOptions().open_device;

        // Statistics from a file: the same bytes without a forward pass, whatever measured them.
        std::string warning;
        save = scratch / (name + ".json");
        REQUIRE(run(*quantizer, formats::nvfp4, (name + "saves").c_str(), 2, 24 << 20, &data).ok());
        CHECK((one == read_folder(scratch / (name + "saves"))));
        Statistics saved = read_statistics(save, warning).take();
        CHECK(saved.moments.method() == name);
        save.clear();
        statistics = &saved;
        REQUIRE(run(*quantizer, formats::nvfp4, (name + "given").c_str(), 3, 0, nullptr).ok());
        CHECK((one == read_folder(scratch / (name + "given"))));
        REQUIRE(run(*quantizer, formats::nvfp4a16, (name + "given16").c_str(), 1, 24 << 20, nullptr).ok());
        CHECK((read_folder(scratch / (name + "a16")) == read_folder(scratch / (name + "given16"))));
        // Of another method, or of none: by name. Methods without moments take any.
        const Quantizer & other = quantizer == &gptq() ? local_hessian() : gptq();
        Status wrong = run(other, formats::nvfp4, "wrong", 2, 0, nullptr);
        CHECK(wrong.code() == Code::invalid_argument);
        CHECK(wrong.message().find("for method " + name + ", not those for " + other.name()) != std::string::npos);
        CHECK(run(least_squares(), formats::nvfp4, (name + "mse").c_str(), 2, 0, nullptr).ok());
        Statistics plain = read_statistics(scratch / (name + ".json"), warning).take();
        plain.moments = {};
        statistics = &plain;
        wrong = run(*quantizer, formats::nvfp4, "wrong", 2, 0, nullptr);
        CHECK(wrong.message().find("have no second moments, which method " + name) != std::string::npos);
        CHECK(merge_statistics(plain, saved).code() == Code::invalid_argument);
        // Twice the same: sums of two equal numbers, so the same means but for the prior of the layer.
        REQUIRE(merge_statistics(saved, read_statistics(scratch / (name + ".json"), warning).value()).ok());
        statistics = &saved;
        REQUIRE(run(*quantizer, formats::nvfp4, (name + "twice").c_str(), 2, 0, nullptr).ok());
        CHECK(saved.positions == 2 * data.positions);
        // A turned bit of the totals is told of with its place.
        const std::string moments = moment_file_name(scratch / (name + ".json"));
        std::string bytes = read_file(moments, 1 << 28).take();
        bytes[bytes.size() - 100] = char(bytes[bytes.size() - 100] ^ 1);
        REQUIRE(remove_file(moments).ok());
        REQUIRE(write_new_file(moments, bytes).ok());
        const Statistics damaged = read_statistics(scratch / (name + ".json"), warning).take();
        statistics = &damaged;
        wrong = run(*quantizer, formats::nvfp4, (name + "damaged").c_str(), 2, 0, nullptr);
        CHECK(wrong.code() == Code::format);
        CHECK(wrong.message().find("do not match their checksum") != std::string::npos);
        REQUIRE(remove_file(moments).ok());
        CHECK(read_statistics(scratch / (name + ".json"), warning).status().code() == Code::not_found);
        statistics = nullptr;

        const JsonDocument report = JsonDocument::parse(one.at("quantization_report.json"), "report").take();
        const JsonValue rows = report.root().get("rows_by_method").value();
        int64_t told = 0;
        CHECK(rows.for_each_element([&](size_t, const JsonValue & place) -> Status {
                      for (const Quantizer * const method : all_quantizers()) {
                          GNV_ASSIGN(const JsonValue count, place.get(method->name()));
                          GNV_ASSIGN(const int64_t number, count.as_int());
                          told += number;
                      }
                      return {};
                  })
                  .ok());
        PlanOptions planned;
        const Plan plan = make_plan(scratch / "source", planned).take();
        int64_t expected = 0;
        for (const PlanModule & module : plan.modules) expected += plan.linear(module).rows;
        CHECK(told == expected);
        const Status refused = run(*quantizer, formats::nvfp4a16, "none", 2, 0, nullptr);
        CHECK(refused.code() == Code::invalid_argument);
        CHECK(refused.message().find("--calib") != std::string::npos);
    }
}

TEST_CASE("headroom: one scale for a layer's experts, for inputs so many times as large; out of range it is refused") {
    const ScratchFolder scratch;
    write_small_model(scratch / "source");
    const auto scales_with = [&](float headroom) {
        PlanOptions planned;
        planned.recipe.headroom = headroom;
        const Plan plan = make_plan(scratch / "source", planned).take();
        StatisticSet measured;
        measured.set_names(plan.layout.names);
        measured.set_layers(plan.layout.layer_count);
        for (int32_t layer = 0; layer < int32_t(plan.layout.layer_count); layer++)
            for (int32_t input = 0; input < int32_t(plan.layout.names->inputs.size()); input++) {
                const bool per_expert = plan.layout.names->inputs[size_t(input)].per_expert;
                StatisticTotal & total =
                    measured.insert({Part::text, layer, input, &Statistic::maximum}, {per_expert ? 4 : 1});
                for (int64_t g = 0; g < total.shape[0]; g++) total.as<float>()[g] = float(g + 1);
            }
        std::map<std::string, float> scales;
        const std::vector<InputScale> list = input_scales(plan, measured).take();
        for (size_t m = 0; m < list.size(); m++) scales[plan.linear(plan.modules[m]).name] = list[m].scale;
        return scales;
    };
    const std::string layer = "model.language_model.layers.1.";
    auto usual = scales_with(0), roomy = scales_with(8);
    CHECK(usual.at(layer + "mlp.experts.1.down_proj") == 1344); // 2688 / 2
    CHECK(usual.at(layer + "mlp.experts.3.down_proj") == 672);
    for (const char * expert : {"0", "1", "2", "3"}) {
        CHECK(roomy.at(layer + "mlp.experts." + expert + ".down_proj") == 84); // 2688 / (8 * 4)
        CHECK(roomy.at(layer + "mlp.experts." + expert + ".up_proj") == 336);
    }
    CHECK(roomy.at(layer + "self_attn.q_proj") == 336);
    RecipeOptions options;
    for (const float bad : {0.5f, -1.0f, 2000.0f, NAN}) {
        options.headroom = bad;
        CHECK(Recipe::create(options).status().code() == Code::invalid_argument);
    }
}
