// layer_norm, gelu, columns, grid_embedding: against their definitions in double.
#include "ops/row_fixture.h"
#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

std::vector<float> run_one(const KernelEntry & entry, const OpParams & params, std::vector<Tensor> inputs, Shape shape,
                           Precision precision = Precision::f32, int threads = 1) {
    std::vector<float> y(size_t(shape.elements()), -1.0f);
    CHECK(run_op(entry, params, std::move(inputs), {tensor_of(y, shape)}, precision, threads).ok());
    return y;
}

std::vector<float> all_nearest_bf16(std::vector<float> values) {
    for (float & value : values) value = nearest_bf16(value);
    return values;
}

} // namespace

TEST_CASE("layer_norm: doubles, order of the sums, rounding, threads, variants") {
    for (const int64_t width : ragged_widths) {
        CAPTURE(width);
        const int64_t rows = 70;
        const LayerNormParams params = {1e-5f};
        std::vector<float> x = normal_floats(rows * width, 1, 3), w = normal_floats(width, 2),
                           b = normal_floats(width, 3);
        for (float & value : x) value += 5;
        const auto run = [&](Precision precision, int threads) {
            return run_one(cpu::layer_norm_entry, params,
                           {tensor_of(x, {rows, width}), tensor_of(w, {width}), tensor_of(b, {width})}, {rows, width},
                           precision, threads);
        };
        const std::vector<float> y = run(Precision::f32, 1);
        double worst = 0;
        int other_order = 0;
        for (int64_t r = 0; r < rows; r++) {
            const float * const row = x.data() + r * width;
            double mean = 0, square = 0;
            for (int64_t c = 0; c < width; c++) mean += double(row[c]) / double(width);
            for (int64_t c = 0; c < width; c++) square += std::pow(double(row[c]) - mean, 2) / double(width);
            float sums[16] = {}, squares[16] = {}; // the order of the contract, spelled out
            const auto add_up = [](float(&partial)[16]) {
                for (const int step : {8, 4, 2, 1})
                    for (int i = 0; i < step; i++) partial[i] += partial[i + step];
                return partial[0];
            };
            for (int64_t c = 0; c < width; c++) sums[c % 16] += row[c];
            const float shift = add_up(sums) / float(width);
            for (int64_t c = 0; c < width; c++)
                squares[c % 16] = std::fma(row[c] - shift, row[c] - shift, squares[c % 16]);
            const float inverse = 1.0f / std::sqrt(add_up(squares) / float(width) + params.epsilon);
            for (int64_t c = 0; c < width; c++) {
                const float value = y[size_t(r * width + c)], scale = w[size_t(c)], offset = b[size_t(c)];
                const double normed = (double(row[c]) - mean) / std::sqrt(square + double(params.epsilon));
                worst = std::max(worst, std::fabs(double(value) - (normed * double(scale) + double(offset))));
                other_order += value != std::fma((row[c] - shift) * inverse, scale, offset);
            }
        }
        CHECK(worst < 1e-5);
        CHECK(other_order == 0);
        const std::vector<float> rounded = all_nearest_bf16(y);
        CHECK(same_bits(run(Precision::bf16, 1), rounded));
        for (const int threads : thread_counts) CHECK(same_bits(run(Precision::f32, threads), y));
        for (const cpu::Loops * loops : cpu::all_loops())
            for (const bool bf16 : {false, true}) {
                std::vector<float> other(y.size());
                loops->rows.layer_norm(x.data(), w.data(), b.data(), rows, width, params.epsilon, bf16, other.data());
                CHECK_MESSAGE(same_bits(other, bf16 ? rounded : y), loops->name);
            }
    }
}

TEST_CASE("gelu: doubles, far tails, rounding, threads, variants") {
    std::vector<float> x = normal_floats(70000, 1, 3);
    for (float value = -20; value <= 20; value += 0.0625f) x.push_back(value);
    for (const float value : {0.0f, -0.0f, 1e-30f, -1e-30f, 100.0f, -100.0f, 3e38f, -3e38f}) x.push_back(value);
    const auto count = int64_t(x.size());
    for (const bool tanh : {false, true}) {
        CAPTURE(tanh);
        const auto run = [&](Precision precision, int threads) {
            return run_one(cpu::gelu_entry, GeluParams{tanh}, {tensor_of(x, {count})}, {count}, precision, threads);
        };
        const std::vector<float> y = run(Precision::f32, 1);
        double worst = 0, worst_tail = 0;
        for (size_t i = 0; i < x.size(); i++) {
            const double v = double(x[i]), u = std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v);
            const double exact = tanh ? v * double_sigmoid(2 * u) : 0.5 * v * std::erfc(-v / std::sqrt(2.0));
            const double error = std::fabs(double(y[i]) - exact);
            if (std::fabs(exact) < 1e-30) {
                worst_tail = std::max(worst_tail, error);
            } else {
                worst = std::max(worst, error / std::fabs(exact) / (tanh ? 1 + std::fabs(2 * u) : 1));
            }
        }
        CHECK(worst < (tanh ? 3e-7 : 1.2e-7)); // of the approximation the exponent's own error counts, too
        CHECK(worst_tail < 1e-29);
        const std::vector<float> rounded = all_nearest_bf16(y);
        CHECK(same_bits(run(Precision::bf16, 1), rounded));
        for (const int threads : thread_counts) CHECK(same_bits(run(Precision::f32, threads), y));
        for (const cpu::Loops * loops : cpu::all_loops())
            for (const bool bf16 : {false, true}) {
                std::vector<float> other(y.size());
                loops->rows.gelu(x.data(), count, tanh, bf16, other.data());
                CHECK_MESSAGE(same_bits(other, bf16 ? rounded : y), loops->name);
            }
        std::vector<float> special = {INFINITY, NAN};
        const std::vector<float> found =
            run_one(cpu::gelu_entry, GeluParams{tanh}, {tensor_of(special, {2})}, {2}, Precision::f32, 1);
        CHECK(found[0] == INFINITY);
        CHECK(std::isnan(found[1]));
    }
}

TEST_CASE("columns: those of each row, rounded where values are") {
    std::vector<float> x = normal_floats(300 * 50, 1);
    for (const auto & [first, width] : {std::pair<int64_t, int64_t>{0, 50}, {7, 20}, {49, 1}}) {
        std::vector<float> expected;
        for (int64_t r = 0; r < 300; r++)
            expected.insert(expected.end(), x.begin() + r * 50 + first, x.begin() + r * 50 + first + width);
        for (const int threads : thread_counts)
            CHECK(same_bits(run_one(cpu::columns_entry, ColumnsParams{first, width}, {tensor_of(x, {300, 50})},
                                    {300, width}, Precision::f32, threads),
                            expected));
        CHECK(same_bits(run_one(cpu::columns_entry, ColumnsParams{first, width}, {tensor_of(x, {300, 50})},
                                {300, width}, Precision::bf16),
                        all_nearest_bf16(expected)));
    }
}

TEST_CASE("grid_embedding: the table itself, its corners, and what lies between, in any company") {
    constexpr int64_t side = 12, width = 20;
    std::vector<float> table = normal_floats(side * side * width, 1);
    const auto run = [&](int32_t rows, int32_t columns, int threads = 1, Precision precision = Precision::f32) {
        const int64_t count = int64_t(rows) * columns;
        std::vector<int32_t> positions(size_t(3 * count)), extents(size_t(2 * count), rows);
        for (int64_t t = 0; t < count; t++) {
            positions[size_t(t)] = 99; // the time is no matter
            positions[size_t(count + t)] = int32_t(t) / columns,
                                     positions[size_t(2 * count + t)] = int32_t(t) % columns;
            extents[size_t(count + t)] = columns;
        }
        return run_one(
            cpu::grid_embedding_entry, GridEmbeddingParams{},
            {tensor_of(table, {side * side, width}), tensor_of(positions, {3, count}), tensor_of(extents, {2, count})},
            {count, width}, precision, threads);
    };
    CHECK(same_bits(run(side, side), table));
    CHECK(same_bits(run(1, 1), std::vector<float>(table.begin(), table.begin() + width)));
    const std::vector<float> corners = run(2, 2);
    for (const auto & [found, expected] :
         {std::pair<int64_t, int64_t>{0, 0}, {1, side - 1}, {2, (side - 1) * side}, {3, side * side - 1}})
        for (int64_t c = 0; c < width; c++)
            CHECK(corners[size_t(found * width + c)] == table[size_t(expected * width + c)]);
    for (const auto & [rows, columns] : {std::pair<int32_t, int32_t>{4, 8}, {30, 7}, {1, 50}, {12, 13}}) {
        CAPTURE(rows);
        const std::vector<float> y = run(rows, columns);
        double worst = 0;
        for (int32_t r = 0; r < rows; r++)
            for (int32_t c = 0; c < columns; c++) {
                const double at_row = double(r) * double(side - 1) / std::max(rows - 1, 1);
                const double at_column = double(c) * double(side - 1) / std::max(columns - 1, 1);
                for (int64_t i = 0; i < width; i++) {
                    double sum = 0; // each line of the table counts by how near it is
                    for (int64_t a = 0; a < side; a++)
                        for (int64_t b = 0; b < side; b++)
                            sum += std::max(0.0, 1 - std::fabs(at_row - double(a))) *
                                   std::max(0.0, 1 - std::fabs(at_column - double(b))) *
                                   double(table[size_t((a * side + b) * width + i)]);
                    worst = std::max(worst, std::fabs(double(y[size_t((r * columns + c) * width + i)]) - sum));
                }
            }
        CHECK(worst < 1e-5);
        CHECK(same_bits(run(rows, columns, 1, Precision::bf16), all_nearest_bf16(y)));
        for (const int threads : thread_counts) CHECK(same_bits(run(rows, columns, threads), y));
    }
    for (const cpu::Loops * loops : cpu::all_loops()) {
        const float * const rows[] = {table.data(), table.data() + 20, table.data() + 40, table.data() + 60};
        const float weights[] = {0.3f, 0.1f, 0.5f, 0.1f};
        std::vector<float> found(width), expected(width);
        loops->rows.blend_four(rows, weights, width, false, found.data());
        for (size_t i = 0; i < width; i++)
            for (size_t j = 0; j < 4; j++) expected[i] = std::fma(weights[j], rows[j][i], expected[i]);
        CHECK_MESSAGE(same_bits(found, expected), loops->name);
    }
}
