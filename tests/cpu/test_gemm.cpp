#include "codec/nvfp4.h"
#include "cpu/gemm.h"
#include "cpu/gemm_products.h"

#include <doctest/doctest.h>
#include <limits>
#include <memory>
#include <string>

using namespace gnv;
using namespace gnv::test;

static constexpr DType weight_types[] = {DType::bf16, DType::f32, DType::f4};

static void check_equal_to_reference(Product & product, ThreadPool & pool) {
    const std::vector<float> expected = product.reference();
    for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) {
        std::vector<float> result = product.fresh_result();
        std::vector<cpu::GemmProblem> problems = {product.problem};
        problems[0].c = result.data();
        run(*kernels, problems, pool);
        CAPTURE(std::string(kernels->name));
        CAPTURE(std::string(dtype_name(product.weight.dtype)));
        CAPTURE(product.problem.m);
        CAPTURE(product.problem.n);
        CAPTURE(product.problem.k);
        CAPTURE(pool.size());
        CHECK(same_bits(result, expected));
    }
}

// The exact product and what the chain of F32 operations may differ from it.
static void check_against_double(Product & product) {
    const std::vector<float> result = product.reference();
    const cpu::GemmProblem & problem = product.problem;
    const double unit = std::ldexp(1.0, -24);
    for (int64_t i = 0; i < problem.m; i++) {
        const float * const x = product.a.data() + product.a_row(i) * product.a_stride;
        std::vector<double> row(x, x + problem.k);
        if (problem.input_scale) row = w4a4_row(x, problem.k, product.input_scale);
        for (int64_t j = 0; j < problem.n; j++) {
            double sum = 0, magnitudes = 0;
            for (int64_t k = 0; k < problem.k; k++) {
                sum += row[size_t(k)] * product.weight.value(j, k);
                magnitudes += std::fabs(row[size_t(k)] * product.weight.value(j, k));
            }
            const double divisor = product.weight.global(j) * (problem.input_scale ? double(product.input_scale) : 1.0);
            double bound =
                double(problem.k + 4) * unit * magnitudes / divisor; // 4: the weight's scale, the last division
            if (problem.precision == Precision::bf16) bound += std::fabs(sum / divisor) * std::ldexp(1.0, -8);
            const double error = std::fabs(double(result[size_t(i * problem.c_stride + j)]) - sum / divisor);
            if (!(error <= bound)) FAIL_CHECK("row ", i, " column ", j, ": error ", error, " above ", bound);
        }
    }
}

TEST_CASE("every variant gives the bits of the plain loop, whatever the shape, the weight and the threads") {
    struct Case {
        int64_t m, n, k;
    };
    // Around the sizes of micro kernels (4, 6, 14 rows; 16, 32 columns), of four panels, of stretches of k (256), of blocks of
    // rows (64, 96, 224), of groups (512 columns) and of tiles (1024 columns, 1008 rows).
    const Case cases[] = {{1, 1, 1},     {1, 1, 0},     {130, 40, 0},  {0, 3, 5},     {3, 0, 5},     {7, 5, 3},
                          {2, 33, 17},   {13, 31, 255}, {14, 32, 256}, {15, 33, 257}, {29, 65, 300}, {1, 129, 513},
                          {2, 131, 259}, {3, 127, 31},  {4, 16, 64},   {5, 63, 128},  {6, 17, 130},  {61, 97, 101},
                          {229, 37, 19}, {16, 530, 20}, {1021, 3, 18}, {97, 64, 272}, {1, 1031, 80}, {28, 48, 2 * 256}};
    Pools pools;
    for (const DType dtype : weight_types) {
        uint32_t seed = 1;
        for (const Case & shape : cases) {
            const int64_t k = dtype == DType::f4 ? (shape.k + 15) / 16 * 16 : shape.k;
            Product product(dtype, shape.m, shape.n, k, {seed % 2 == 0, false, Precision(seed % 3 == 0)}, seed);
            check_equal_to_reference(product, *pools.list[seed % pools.list.size()]);
            seed++;
        }
    }
}

TEST_CASE("every variant gives the bits of the plain loop for W4A4") {
    Pools pools;
    uint32_t seed = 100;
    for (const DType dtype : weight_types) {
        for (const int64_t m : {1, 2, 14, 31, 230}) {
            Product product(dtype, m, 5 + 7 * (seed % 20), 16 * (1 + seed % 23),
                            {seed % 2 == 0, true, Precision(seed % 3 == 0)}, seed);
            check_equal_to_reference(product, *pools.list[seed % pools.list.size()]);
            seed++;
        }
    }
}

TEST_CASE("random shapes, all numbers of threads") {
    Pools pools;
    std::mt19937 random(7);
    for (uint32_t i = 0; i < 40; i++) {
        const DType dtype = weight_types[i % 3];
        const auto m = int64_t(1 + random() % 70), n = int64_t(1 + random() % 150);
        auto k = int64_t(random() % 300);
        if (dtype == DType::f4) k = k / 16 * 16;
        Product product(dtype, m, n, k, {random() % 2 == 0, dtype == DType::f4 && random() % 2 == 0}, i);
        const std::vector<float> expected = product.reference();
        for (const auto & pool : pools.list) {
            std::vector<float> result = product.fresh_result();
            std::vector<cpu::GemmProblem> problems = {product.problem};
            problems[0].c = result.data();
            run(*cpu::gemm_kernels().front(), problems, *pool);
            CHECK(same_bits(result, expected));
        }
    }
}

TEST_CASE("many problems at once, empty ones among them") {
    Pools pools;
    std::vector<std::unique_ptr<Product>> products;
    std::mt19937 random(3);
    for (uint32_t i = 0; i < 24; i++) {
        const int64_t m = i % 5 == 0 ? 0 : int64_t(random() % 60);
        products.push_back(std::make_unique<Product>(weight_types[i % 3], m, int64_t(random() % 90),
                                                     16 * (random() % 20), ProductOptions{i % 2 == 0}, i));
    }
    for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) {
        for (const auto & pool : pools.list) {
            const std::vector<std::vector<float>> results = run_at_once(*kernels, products, *pool);
            for (size_t i = 0; i < products.size(); i++) CHECK(same_bits(results[i], products[i]->reference()));
        }
    }
    auto one = ThreadPool::create(1).take();
    CHECK(cpu::gemm(nullptr, 0, nullptr, *one).ok());
}

TEST_CASE("a row's result depends on that row alone") {
    Product all(DType::bf16, 40, 70, 300, {}, 11);
    const std::vector<float> expected = all.reference();
    auto one = ThreadPool::create(1).take();
    for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) {
        for (int64_t row = 0; row < 40; row++) {
            std::vector<float> result(70);
            std::vector<cpu::GemmProblem> problems = {all.problem};
            problems[0].m = 1;
            problems[0].a += row * all.a_stride;
            problems[0].c = result.data();
            run(*kernels, problems, *one);
            CHECK(memcmp(result.data(), &expected[size_t(row * all.problem.c_stride)], 70 * sizeof(float)) == 0);
        }
    }
}

TEST_CASE("the plain loop computes the product") {
    for (const DType dtype : weight_types) {
        for (const bool w4a4 : {false, true}) {
            for (const Precision precision : {Precision::f32, Precision::bf16}) {
                Product product(dtype, 19, 23, 176, {true, w4a4, precision}, 40);
                check_against_double(product);
            }
        }
    }
}

TEST_CASE("W4A4 activations: every variant against the definition, ties and extremes included") {
    std::vector<float> row;
    const auto add_block = [&](std::initializer_list<float> values) {
        row.insert(row.end(), values);
        row.resize((row.size() + 15) / 16 * 16, 0.0f);
    };
    // With input_scale 1 and a largest magnitude of 6 the scale is 1: every tie of the E2M1 grid, and its neighbours.
    add_block({6, 0.25f, -0.25f, 0.75f, 1.25f, -1.75f, 2.5f, 3.5f, 5, -5, 0.2578125f, 0.24609375f, 4.96875f, 5.03125f,
               1.5f, -6});
    for (const float largest :
         {7.0f, 6.4f, 6.375f, 6.5625f, 10000.0f, 2700.0f, 2688.0f, 1e30f}) // of the scale; 448 and above
        add_block({largest, -largest, largest / 2, 1, -1, 0.3f});
    for (int i = 1; i < 40; i++)
        add_block({6 * std::ldexp(float(i), -11), std::ldexp(1.0f, -12), -std::ldexp(3.0f, -11)}); // subnormal scales
    add_block({});
    add_block({-0.0f, 1e-40f}); // a scale of zero
    const std::vector<float> random = made_up_rows(1, 16 * 500, 5);
    row.insert(row.end(), random.begin(), random.end());
    for (const float input_scale : {1.0f, 0.5f, 12.5f, 100.0f, 1e-3f}) {
        // Where F32 rounds a quotient it could cross no tie: operands of 8 and 4 bits; but for the decimals above.
        std::vector<float> operands = row;
        for (float & value : operands) value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000);
        const float scale = std::bit_cast<float>(std::bit_cast<uint32_t>(input_scale) & 0xffff0000);
        const std::vector<double> expected = w4a4_row(operands.data(), int64_t(operands.size()), scale);
        for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) {
            CAPTURE(std::string(kernels->name));
            std::vector<float> result(operands.size());
            kernels->quantize_row(operands.data(), int64_t(operands.size()), scale, result.data());
            for (size_t i = 0; i < result.size(); i++)
                if (double(result[i]) != expected[i])
                    FAIL_CHECK("column ", i, ": ", operands[i], " became ", result[i], ", not ", expected[i]);
        }
    }
    for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) { // a NaN is not lost
        std::vector<float> nan(16, 1.0f), result(16);
        nan[5] = std::numeric_limits<float>::quiet_NaN();
        kernels->quantize_row(nan.data(), 16, 1.0f, result.data());
        CHECK(std::isnan(result[5]));
    }
}

// With the identity as `a` the result is the weight itself.
TEST_CASE("NVFP4 weights are value * block scale / global scale, as the codec defines them") {
    constexpr int64_t rows = 254, columns = 32; // every scale byte but NaN, every code
    WeightData weight(DType::f4, rows, columns, rows, 1);
    for (int64_t row = 0; row < rows; row++) {
        const int byte = int(row < 0x7f ? row : row + 1);
        for (int64_t i = 0; i < columns / 16; i++) weight.scales[size_t(row * columns / 16 + i)] = uint8_t(byte);
        for (int64_t i = 0; i < columns / 2; i++)
            weight.bytes[size_t(row * columns / 2 + i)] = uint8_t(2 * (i % 8) | (2 * (i % 8) + 1) << 4);
    }
    std::vector<float> identity(columns * columns, 0.0f), result(rows * columns), reference(rows * columns);
    for (size_t i = 0; i < columns; i++) identity[i * columns + i] = 1;
    auto one = ThreadPool::create(1).take();
    for (const float global : {1.0f, 1024.0f, 2688.0f, 4768.0f, 0.3f}) {
        weight.globals = {global};
        nvfp4::dequantize_reference({rows, columns, nvfp4::Layout::row_major, weight.bytes, weight.scales, global},
                                    reference.data());
        for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) {
            CAPTURE(std::string(kernels->name));
            std::vector<cpu::GemmProblem> problems(1);
            problems[0].m = columns;
            problems[0].n = rows;
            problems[0].k = columns;
            problems[0].a = identity.data();
            problems[0].a_stride = columns;
            problems[0].weight = weight.tensor();
            problems[0].c = result.data();
            problems[0].c_stride = rows;
            run(*kernels, problems, *one);
            for (int64_t row = 0; row < rows; row++) {
                for (int64_t column = 0; column < columns; column++) {
                    const float value = result[size_t(column * rows + row)];
                    const auto index = size_t(row * columns + column);
                    if (value != reference[index] || value != float(weight.value(row, column) / double(global)))
                        FAIL_CHECK("row ", row, " column ", column, ": ", value, " is not ", reference[index]);
                }
            }
        }
    }
}

TEST_CASE("results are rounded to BF16: ties to even, infinities, NaN") {
    const float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> values = {1.00390625f,
                                 1.01171875f,
                                 -1.00390625f,
                                 1.00390637f,
                                 3.4e38f,
                                 infinity,
                                 0.0f,
                                 1e-40f,
                                 std::bit_cast<float>(0x7fc00001u),
                                 std::bit_cast<float>(0x7fffffffu)};
    for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) {
        std::vector<float> result = values;
        kernels->finish(result.data(), int64_t(result.size()), 1.0f, true);
        for (size_t i = 0; i < values.size(); i++)
            CHECK(std::bit_cast<uint32_t>(result[i]) == uint32_t(nvfp4::bf16_from_float(values[i])) << 16);
        CHECK(result[0] == 1.0f);
        CHECK(result[1] == 1.015625f);
        CHECK(result[4] == infinity);
        CHECK(std::isnan(result[9]));
    }
}
