// BF16 weights in 12 bits: the same numbers, and the same bits of every product.
#include "cpu/compact_bf16.h"
#include "cpu/few_rows.h"
#include "cpu/gemm_operands.h"
#include "cpu/linear_kernels.h"

#include <doctest/doctest.h>
#include <memory>

using namespace gnv;
using namespace gnv::test;

namespace {

using Numbers = std::vector<uint16_t>;

// Normal numbers with exponents that a table holds; `odd` of a million are others: any bits at all.
Numbers made_up_numbers(int64_t count, uint32_t seed, uint32_t odd) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Numbers numbers(static_cast<size_t>(count));
    for (uint16_t & number : numbers) {
        number = uint16_t(std::bit_cast<uint32_t>(normal(random) * 0.02f) >> 16);
        if (random() % 1000000 < odd) number = uint16_t(random());
    }
    return numbers;
}

Tensor tensor_of(Numbers & numbers, Shape shape) {
    Tensor tensor;
    tensor.dtype = DType::bf16;
    tensor.shape = shape;
    tensor.data = numbers.data();
    return tensor;
}

std::vector<std::unique_ptr<ThreadPool>> pools_of_all_sets(int threads) {
    std::vector<std::unique_ptr<ThreadPool>> pools;
    for (int set = int(best_instruction_set()); set >= 0; set--)
        pools.push_back(ThreadPool::create(threads, InstructionSet(set)).take());
    return pools;
}

// All numbers of a compact weight, by one implementation.
Numbers unpacked(const Tensor & weight, const cpu::GemmKernels & kernels) {
    const int64_t rows = weight.shape.rows(), k = weight.shape.last();
    Numbers out(static_cast<size_t>(rows * k));
    for (int64_t row = 0; row < rows; row += 5) { // starts at odd rows, too
        const auto count = int(std::min<int64_t>(5, rows - row));
        for (int64_t at = 0; at < k; at += 128) {
            const int64_t columns = std::min<int64_t>(128, k - at);
            Numbers part(size_t(count * columns));
            kernels.unpack_compact(cpu::compact_view(weight), row, count, at, columns, part.data());
            for (int r = 0; r < count; r++)
                std::copy_n(&part[size_t(r * columns)], columns, &out[size_t((row + r) * k + at)]);
        }
    }
    return out;
}

void check_lossless(Numbers numbers, Shape shape) {
    const Numbers before = numbers;
    auto pool = ThreadPool::create(2).take(), one = ThreadPool::create(1).take();
    Tensor weight = tensor_of(numbers, shape);
    REQUIRE(cpu::make_compact(weight, *pool).ok());
    REQUIRE(weight.is_compact());
    for (const cpu::GemmKernels * const kernels : cpu::gemm_kernels()) {
        CAPTURE(kernels->name);
        CHECK(unpacked(weight, *kernels) == before);
    }
    Numbers again = before;
    Tensor by_one = tensor_of(again, shape);
    REQUIRE(cpu::make_compact(by_one, *one).ok());
    CHECK(again == numbers); // the same memory for any number of threads
}

} // namespace

TEST_CASE("compact BF16: every pattern of bits comes back") {
    for (int first = 0; first < 256; first += 16) { // upper bytes, as many as a table holds
        CAPTURE(first);
        Numbers numbers(64 * 128);
        for (size_t i = 0; i < numbers.size(); i++) numbers[i] = uint16_t(first * 256 + int(i * 5 % 4096));
        check_lossless(std::move(numbers), {64, 128});
    }
}

TEST_CASE("compact BF16: patterns that no table holds come back") {
    constexpr int64_t rows = 2048, k = 1024;
    for (int part = 0; part < 64; part++) { // a thousand each, among numbers of a usual size
        CAPTURE(part);
        Numbers numbers(rows * k);
        for (size_t i = 0; i < numbers.size(); i++) numbers[i] = uint16_t(0x3c00 + i * 7 % 1024);
        for (int i = 0; i < 1024; i++) numbers[size_t(i * 2037 + part)] = uint16_t(part * 1024 + i);
        check_lossless(std::move(numbers), {rows, k});
    }
}

TEST_CASE("compact BF16: tables of any upper bytes, in any number of threads and windows") {
    check_lossless(Numbers(6 * 64, 0x3c12), {6, 64});
    check_lossless(made_up_numbers(3 * 10 * 192, 3, 20), {3, 10, 192});
    check_lossless(made_up_numbers(int64_t(9000) * 1024, 4, 20), {9000, 1024}); // more than a window
    Numbers few(2 * 128, 0x7fc1); // NaN, infinities, zeros and subnormal numbers alone
    few[3] = 0x7f80, few[4] = 0xff80, few[5] = 0, few[6] = 0x8000, few[7] = 1, few[8] = 0x8001, few[255] = 0xffff;
    check_lossless(few, {2, 128});
}

TEST_CASE("compact BF16: weights that would gain nothing stay as they are") {
    auto pool = ThreadPool::create(2).take();
    const auto stays = [&](Numbers numbers, Shape shape, DType dtype = DType::bf16) {
        const Numbers before = numbers;
        Tensor weight = tensor_of(numbers, shape);
        weight.dtype = dtype;
        CHECK(cpu::make_compact(weight, *pool).ok());
        CHECK(!weight.is_compact());
        CHECK(numbers == before);
    };
    stays(made_up_numbers(7 * 128, 5, 0), {7, 128}); // rows go by two
    stays(made_up_numbers(8 * 96, 6, 0), {8, 96});
    stays(made_up_numbers(2 * 3 * 64, 7, 0), {2, 3, 64});
    stays(made_up_numbers(8 * 128, 8, 0), {8 * 128});
    stays(made_up_numbers(64 * 128, 9, 100000), {64, 128});
    stays(made_up_numbers(8 * 128, 10, 0), {8, 128}, DType::f16);
    stays({}, {0, 64});
}

TEST_CASE("compact BF16: products have the bits of BF16, for few and many rows and every instruction set") {
    for (const auto & pool : pools_of_all_sets(3)) {
        CAPTURE(int(pool->instructions()));
        const cpu::GemmKernels & kernels = cpu::gemm_kernels_of(pool->instructions());
        for (const int64_t k : {64, 192, 1024, 2112}) {
            for (const int64_t n : {2, 38, 150}) {
                const Numbers numbers = made_up_numbers(n * k, uint32_t(n + k), 300);
                for (const bool rounded : {false, true}) { // pairs of BF16 numbers, or F32
                    std::vector<float> x = made_up_rows(70, k, 11);
                    for (size_t i = 0; i < x.size() && !rounded; i++) x[i] *= 1.0001f;
                    x[5] = rounded ? 0x1p-130f : 1e-42f; // subnormal
                    for (const int64_t m : {1, 2, 3, 4, 5, 9, 70}) {
                        std::vector<float> y[2];
                        for (const bool compact : {false, true}) {
                            Numbers copy = numbers;
                            cpu::GemmProblem problem;
                            problem.weight = tensor_of(copy, {n, k});
                            if (compact) REQUIRE(cpu::make_compact(problem.weight, *pool).ok());
                            if (compact && n * k > 8000) REQUIRE(problem.weight.is_compact());
                            problem.m = m, problem.n = n, problem.k = k;
                            problem.a = x.data(), problem.a_stride = k;
                            problem.bf16_rows = rounded;
                            for (const bool few : {true, false}) {
                                std::vector<float> c(size_t(m * n));
                                problem.c = c.data(), problem.c_stride = n;
                                const uint64_t bytes =
                                    std::max(cpu::few_rows_scratch_bytes(m, k),
                                             cpu::gemm_scratch_bytes(kernels, {m, k, rounded}, pool->size()));
                                std::vector<float> scratch(size_t(bytes / sizeof(float)) + 1);
                                CHECK((few ? cpu::few_rows : cpu::gemm)(&problem, 1, scratch.data(), *pool).ok());
                                y[compact].insert(y[compact].end(), c.begin(), c.end());
                            }
                        }
                        const bool same = memcmp(y[0].data(), y[1].data(), y[0].size() * sizeof(float)) == 0;
                        if (!same) FAIL_CHECK("k ", k, ", n ", n, ", m ", m, rounded ? ", BF16" : ", F32");
                    }
                }
            }
        }
    }
}

TEST_CASE("compact BF16: the weight of a group") {
    constexpr int64_t groups = 3, n = 34, k = 256;
    auto pool = ThreadPool::create(2).take();
    Numbers numbers = made_up_numbers(groups * n * k, 12, 200);
    const Numbers before = numbers;
    Tensor weight = tensor_of(numbers, {groups, n, k});
    REQUIRE(cpu::make_compact(weight, *pool).ok());
    REQUIRE(weight.is_compact());
    for (int64_t group = 0; group < groups; group++) {
        const Tensor part = cpu::weight_of_group(weight, group, group);
        CHECK(part.shape == Shape{n, k});
        const Numbers expected(before.begin() + group * n * k, before.begin() + (group + 1) * n * k);
        CHECK(unpacked(part, *cpu::gemm_kernels().front()) == expected);
    }
}
