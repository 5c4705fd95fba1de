#include "codec/nvfp4.h"
#include "cpu/gemm.h"
#include "cpu/gemm_operands.h"
#include "cpu/linear_kernels.h"
#include "graph/graph.h"

#include <doctest/doctest.h>
#include <memory>

using namespace gnv;
using namespace gnv::test;
using Row = GroupedLinearParams::Row;

static constexpr float sentinel = -12345.0f;

struct Choice {
    bool w4a4, few_rows;
};
static constexpr Choice choices[] = {{false, false}, {true, false}, {false, true}, {true, true}};

static Tensor tensor_of(DType dtype, Shape shape, void * data) {
    Tensor tensor;
    tensor.dtype = dtype;
    tensor.shape = shape;
    tensor.data = data;
    return tensor;
}

// Runs as the executor does: asks for the scratch memory with tensors that have no data.
static void run_kernel(const KernelEntry & entry, KernelCall & call, std::vector<Tensor> inputs, ThreadPool & pool) {
    inputs.resize(Node::max_inputs); // absent ones have no data
    std::vector<Tensor> shapes = inputs;
    for (Tensor & shape : shapes) shape.data = nullptr;
    call.inputs = shapes.data();
    call.threads = &pool;
    const uint64_t bytes = entry.scratch_bytes(call);
    std::vector<uint8_t> scratch(size_t(bytes) + 64);
    call.inputs = inputs.data();
    call.scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64);
    CHECK(entry.run(call).ok());
}

// y = sum x w of one element, and by how much F32 may miss it.
static void check_element(float y, const float * x, const WeightData & weight, int64_t row, const float * input_scale) {
    std::vector<double> values(x, x + weight.columns);
    if (input_scale) values = w4a4_row(x, weight.columns, double(*input_scale));
    double sum = 0, magnitudes = 0;
    for (int64_t k = 0; k < weight.columns; k++) {
        sum += values[size_t(k)] * weight.value(row, k);
        magnitudes += std::fabs(values[size_t(k)] * weight.value(row, k));
    }
    const double divisor = weight.global(row) * (input_scale ? double(*input_scale) : 1);
    const double bound = double(weight.columns + 4) * std::ldexp(magnitudes, -24) / divisor;
    if (!(std::fabs(double(y) - sum / divisor) <= bound))
        FAIL_CHECK("weight row ", row, ": ", y, " is not ", sum / divisor);
}

TEST_CASE("linear: rows of any shape, every weight, with and without W4A4") {
    constexpr int64_t n = 37, k = 96, rows = 6;
    auto pool = ThreadPool::create(2).take();
    std::vector<float> x = made_up_rows(rows, k, 1);
    float input_scale = 9.5f;
    for (const DType dtype : {DType::bf16, DType::f32, DType::f4}) {
        for (const auto [w4a4, few_rows] : choices) {
            WeightData weight(dtype, n, k, n, 2);
            std::vector<float> y(rows * n, sentinel);
            const std::vector<Tensor> inputs = {
                tensor_of(DType::f32, {2, 3, k}, x.data()), weight.tensor(),
                w4a4 ? tensor_of(DType::f32, {1}, &input_scale) : tensor_of(DType::f32, {1}, nullptr), Tensor{}};
            Tensor output = tensor_of(DType::f32, {2, 3, n}, y.data());
            const OpParams params = LinearParams{few_rows};
            KernelCall call{params};
            call.outputs = &output;
            run_kernel(cpu::linear_entry, call, inputs, *pool);
            for (int64_t row = 0; row < rows; row++)
                for (int64_t j = 0; j < n; j++)
                    check_element(y[size_t(row * n + j)], &x[size_t(row * k)], weight, j,
                                  w4a4 ? &input_scale : nullptr);
        }
    }
}

// The definition: 16 partial sums, then pairs of them.
static float sum_of_few_rows(const std::vector<float> & x, const WeightData & weight, int64_t row) {
    float lanes[16] = {};
    if (weight.dtype == DType::f4) { // eight columns at a time, which share a block scale
        for (int64_t k = 0; k < weight.columns; k += 8) {
            const auto scale = float(e4m3(weight.scales[size_t((row * weight.columns + k) / 16)]));
            float part = 0;
            for (const int64_t i : {4, 0, 5, 1, 6, 2, 7, 3})
                part = std::fma(x[size_t(k + i)], float(weight.value(row, k + i) / double(scale)), part);
            lanes[k / 8 % 16] = std::fma(part, scale, lanes[k / 8 % 16]);
        }
    } else {
        for (int64_t k = 0; k < weight.columns; k++)
            lanes[k % 16] = std::fma(x[size_t(k)], float(weight.value(row, k)), lanes[k % 16]);
    }
    for (const int half : {8, 4, 2, 1})
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

// x [rows, k] times the weight of n rows, as few rows.
static std::vector<float> multiply_few_rows(std::vector<float> & x, int64_t rows, int64_t k, WeightData & weight,
                                            int64_t n, float * input_scale, ThreadPool & pool) {
    std::vector<float> y(size_t(rows * n), sentinel);
    const std::vector<Tensor> inputs = {tensor_of(DType::f32, {rows, k}, x.data()), weight.tensor(),
                                        tensor_of(DType::f32, {1}, input_scale), Tensor{}};
    Tensor output = tensor_of(DType::f32, {rows, n}, y.data());
    const OpParams params = LinearParams{true};
    KernelCall call{params};
    call.outputs = &output;
    run_kernel(cpu::linear_entry, call, inputs, pool);
    return y;
}

// BF16 numbers may be multiplied by pairs: bits must not show it. Numbers too small for that stand in one of the rows.
enum class Input { f32, w4a4, bf16, subnormal, tiny };

static void change_rows(std::vector<float> & x, int64_t k, Input input) {
    if (input == Input::f32 || input == Input::w4a4) return;
    const auto to_bf16 = [](float value) { return std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000); };
    for (float & value : x) value = to_bf16(value);
    x[size_t(k + 1)] = 0.0f, x[size_t(k + 2)] = -0.0f;
    if (input == Input::bf16) return;
    const int exponent =
        input == Input::subnormal ? -127 : -124; // a code of 0.5 makes a subnormal number of the latter
    for (int64_t i = 0; i < k; i++)
        x[size_t(k + i)] = to_bf16(std::ldexp(1 + float(i % 128) / 128, exponent - int(i % 3)));
}

TEST_CASE("few rows: each sum has 16 parts, for any rows, instruction set and number of threads") {
    std::vector<std::unique_ptr<ThreadPool>> pools;
    for (int set = int(best_instruction_set()); set >= 0; set--)
        for (const int threads : {1, 3}) pools.push_back(ThreadPool::create(threads, InstructionSet(set)).take());
    for (const DType dtype : {DType::bf16, DType::f32, DType::f4}) {
        for (const int64_t k : {16, 160, 256, 464, 37, 5}) {
            if (dtype == DType::f4 && k % 16 != 0) continue;
            for (const Input input : {Input::f32, Input::w4a4, Input::bf16, Input::subnormal, Input::tiny}) {
                const bool w4a4 = input == Input::w4a4;
                if (w4a4 && k % 16 != 0) continue;
                constexpr int64_t n = 133, most = 9;
                WeightData weight(dtype, n, k, 19, 3);
                std::vector<float> x = made_up_rows(most, k, 4), expected;
                change_rows(x, k, input);
                float input_scale = 7.25f;
                for (int64_t i = 0; i < most; i++) {
                    std::vector<float> row(x.begin() + i * k, x.begin() + (i + 1) * k);
                    if (w4a4) {
                        const std::vector<double> values = w4a4_row(&x[size_t(i * k)], k, double(input_scale));
                        row.assign(values.begin(), values.end());
                    }
                    for (int64_t j = 0; j < n; j++) {
                        const float sum = sum_of_few_rows(row, weight, j);
                        expected.push_back(sum / (float(weight.global(j)) * (w4a4 ? input_scale : 1.0f)));
                    }
                }
                for (const int64_t rows : {1, 2, 3, 4, 5, 9}) {
                    for (const auto & pool : pools) {
                        const std::vector<float> y =
                            multiply_few_rows(x, rows, k, weight, n, w4a4 ? &input_scale : nullptr, *pool);
                        CHECK(std::equal(y.begin(), y.end(), expected.begin()));
                    }
                }
            }
        }
    }
}

TEST_CASE("few rows of NVFP4: within the rounding of F32 of sums in F64, for any width, instruction set and rows") {
    constexpr int64_t n = 21;
    float input_scale = 5.5f;
    for (int set = int(best_instruction_set()); set >= 0; set--) {
        auto pool = ThreadPool::create(2, InstructionSet(set)).take();
        for (const int64_t k : {16, 112, 128, 144, 1040}) {
            WeightData weight(DType::f4, n, k, 7, 8);
            for (const int64_t rows : {1, 2, 3, 7, 16}) {
                for (const bool w4a4 : {false, true}) {
                    std::vector<float> x = made_up_rows(rows, k, 9);
                    const std::vector<float> y =
                        multiply_few_rows(x, rows, k, weight, n, w4a4 ? &input_scale : nullptr, *pool);
                    for (int64_t row = 0; row < rows; row++)
                        for (int64_t j = 0; j < n; j++)
                            check_element(y[size_t(row * n + j)], &x[size_t(row * k)], weight, j,
                                          w4a4 ? &input_scale : nullptr);
                }
            }
        }
    }
}

TEST_CASE("few rows of NVFP4: every byte of a block scale counts as E4M3, a NaN too") {
    constexpr int64_t n = 256, k = 144; // byte j in the second block of row j
    std::vector<float> x = made_up_rows(1, k, 10);
    WeightData weight(DType::f4, n, k, n, 11);
    for (int64_t j = 0; j < n; j++) weight.scales[size_t(j * (k / 16) + 1)] = uint8_t(j);
    for (int set = int(best_instruction_set()); set >= 0; set--) {
        auto pool = ThreadPool::create(1, InstructionSet(set)).take();
        std::vector<float> y(n, sentinel);
        const std::vector<Tensor> inputs = {tensor_of(DType::f32, {1, k}, x.data()), weight.tensor(), Tensor{},
                                            Tensor{}};
        Tensor output = tensor_of(DType::f32, {1, n}, y.data());
        const OpParams params = LinearParams{true};
        KernelCall call{params};
        call.outputs = &output;
        run_kernel(cpu::linear_entry, call, inputs, *pool);
        for (int64_t j = 0; j < n; j++) {
            const bool nan = (j & 0x7f) == 0x7f;
            CHECK(std::isnan(y[size_t(j)]) == nan);
            if (!nan) check_element(y[size_t(j)], x.data(), weight, j, nullptr);
        }
    }
}

TEST_CASE("linear: BF16 precision rounds the result") {
    constexpr int64_t n = 33, k = 48;
    auto pool = ThreadPool::create(1).take();
    std::vector<float> x = made_up_rows(1, k, 1), y(n), rounded(n);
    WeightData weight(DType::bf16, n, k, n, 2);
    const std::vector<Tensor> inputs = {tensor_of(DType::f32, {1, k}, x.data()), weight.tensor(), Tensor{}, Tensor{}};
    const OpParams params = LinearParams{};
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        Tensor output = tensor_of(DType::f32, {1, n}, (precision == Precision::f32 ? y : rounded).data());
        KernelCall call{params, precision};
        call.outputs = &output;
        run_kernel(cpu::linear_entry, call, inputs, *pool);
    }
    for (size_t j = 0; j < n; j++) {
        CHECK((std::bit_cast<uint32_t>(rounded[j]) & 0xffff) == 0);
        CHECK(std::fabs(rounded[j] - y[j]) <= std::fabs(y[j]) * 0x1p-8f);
    }
}

TEST_CASE("linear: a bias comes on top of the sum, which is rounded with it") {
    constexpr int64_t n = 37, k = 96, rows = 5;
    auto pool = ThreadPool::create(2).take();
    std::vector<float> x = made_up_rows(rows, k, 1), bias = made_up_rows(1, n, 3);
    WeightData weight(DType::bf16, n, k, n, 2);
    const OpParams params = LinearParams{};
    const auto run = [&](bool with_bias, Precision precision) {
        std::vector<float> y(rows * n, sentinel);
        const std::vector<Tensor> inputs = {tensor_of(DType::f32, {rows, k}, x.data()), weight.tensor(), Tensor{},
                                            with_bias ? tensor_of(DType::f32, {n}, bias.data()) : Tensor{}};
        Tensor output = tensor_of(DType::f32, {rows, n}, y.data());
        KernelCall call{params, precision};
        call.outputs = &output;
        run_kernel(cpu::linear_entry, call, inputs, *pool);
        return y;
    };
    const std::vector<float> sums = run(false, Precision::f32), found = run(true, Precision::f32);
    const std::vector<float> rounded = run(true, Precision::bf16);
    for (size_t i = 0; i < sums.size(); i++) {
        CHECK(found[i] == sums[i] + bias[i % n]);
        CHECK(rounded[i] == nvfp4::bf16_to_float(nvfp4::bf16_from_float(found[i])));
    }
}

TEST_CASE("grouped linear: each row with the weight of its group, from where its slot says") {
    constexpr int64_t groups = 5, n = 24, k = 64, slots_per_token = 2, tokens = 9;
    constexpr int64_t slot_count = tokens * slots_per_token, used = 16;
    std::vector<int32_t> offsets = {0, 4, 4, 5, 15, 16}; // one group is empty, two slots are not in use
    std::vector<int32_t> slots(slot_count);
    for (size_t i = 0; i < slots.size(); i++) slots[i] = int32_t((i * 7 + 3) % slots.size());
    std::vector<float> input_scales = {3, 5, 7, 11, 13};
    for (const DType dtype : {DType::bf16, DType::f32, DType::f4}) {
        for (const Row row_of : {Row::token, Row::own}) {
            for (const int64_t scale_rows :
                 {n, n / 2, n * groups}) { // one scale for each weight, for half of one, for all
                for (const auto [w4a4, few_rows] : choices) {
                    const int64_t x_rows = row_of == Row::token ? tokens : slot_count;
                    std::vector<float> x = made_up_rows(x_rows, k, 5), y(slot_count * n, sentinel);
                    WeightData weight(dtype, groups * n, k, scale_rows, 6);
                    const std::vector<Tensor> inputs = {
                        tensor_of(DType::f32, {x_rows, k}, x.data()), weight.tensor({groups, n, k}),
                        tensor_of(DType::i32, {slot_count}, slots.data()),
                        tensor_of(DType::i32, {groups + 1}, offsets.data()),
                        tensor_of(DType::f32, {groups}, w4a4 ? input_scales.data() : nullptr)};
                    Tensor output = tensor_of(DType::f32, {slot_count, n}, y.data());
                    const OpParams params = GroupedLinearParams{row_of, slots_per_token, few_rows};
                    KernelCall call{params};
                    call.outputs = &output;
                    auto pool = ThreadPool::create(3).take();
                    run_kernel(cpu::grouped_linear_entry, call, inputs, *pool);
                    for (int64_t g = 0; g < groups; g++) {
                        for (int64_t j = offsets[size_t(g)]; j < offsets[size_t(g + 1)]; j++) {
                            const int64_t token = slots[size_t(j)] / slots_per_token;
                            const int64_t row = row_of == Row::token ? token : j;
                            for (int64_t column = 0; column < n; column++)
                                check_element(y[size_t(j * n + column)], &x[size_t(row * k)], weight, g * n + column,
                                              w4a4 ? &input_scales[size_t(g)] : nullptr);
                        }
                    }
                    for (size_t i = used * n; i < y.size(); i++) CHECK(y[i] == sentinel);
                }
            }
        }
    }
}
