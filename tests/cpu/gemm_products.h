// Products for tests of cpu/gemm.h, and how they are run.
#pragma once

#include "cpu/gemm.h"
#include "cpu/gemm_operands.h"

#include <doctest/doctest.h>
#include <limits>
#include <memory>

namespace gnv::test {

inline constexpr float sentinel = -12345.0f;

struct ProductOptions {
    bool gather = false, w4a4 = false;
    Precision precision = Precision::f32;
};

// One product with all that it reads and writes; the result lies between sentinels.
struct Product {
    Product(DType dtype, int64_t m, int64_t n, int64_t k, ProductOptions options, uint32_t seed)
        : weight(dtype, n, k, std::max<int64_t>(1, (n + 2) / 3), seed), a_rows_there(m + 5), a_stride(k + 3),
          a(made_up_rows(a_rows_there, a_stride, seed + 1)) {
        problem.m = m;
        problem.n = n;
        problem.k = k;
        problem.a = a.data();
        problem.a_stride = a_stride;
        problem.weight = weight.tensor();
        problem.c_stride = n + 2;
        problem.precision = options.precision;
        problem.bf16_rows = options.precision == Precision::bf16;
        if (options.w4a4) problem.input_scale = &input_scale;
        if (!options.gather) return;
        std::mt19937 random(seed + 2);
        for (int64_t i = 0; i < m; i++) slots.push_back(int32_t(random() % uint32_t(a_rows_there * 3)));
        problem.a_rows = slots.data();
        problem.a_divisor = 3;
    }

    int64_t a_row(int64_t i) const { return problem.a_rows ? slots[size_t(i)] / 3 : i; }

    std::vector<float> fresh_result() const {
        return std::vector<float>(size_t(problem.m * problem.c_stride), sentinel);
    }

    std::vector<float> reference() {
        std::vector<float> result = fresh_result();
        problem.c = result.data();
        cpu::gemm_reference(problem);
        return result;
    }

    WeightData weight;
    int64_t a_rows_there, a_stride;
    std::vector<float> a;
    std::vector<int32_t> slots;
    float input_scale = 12.5f;
    cpu::GemmProblem problem;
};

struct Pools {
    Pools() {
        for (const int threads : {1, 2, 3, 5}) list.push_back(ThreadPool::create(threads).take());
    }
    std::vector<std::unique_ptr<ThreadPool>> list;
};

inline bool same_bits(const std::vector<float> & a, const std::vector<float> & b) {
    return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline void run(const cpu::GemmKernels & kernels, std::vector<cpu::GemmProblem> & problems, ThreadPool & pool) {
    cpu::GemmScratch sizes;
    for (const cpu::GemmProblem & problem : problems) {
        sizes.rows = std::max(sizes.rows, problem.m), sizes.k = std::max(sizes.k, problem.k);
        sizes.has_pairs |= problem.bf16_rows || problem.input_scale;
    }
    const auto size = size_t(cpu::gemm_scratch_bytes(kernels, sizes, pool.size()) / sizeof(float));
    std::vector<float> scratch(size + 16, std::numeric_limits<float>::quiet_NaN()); // NaN shows what is read unwritten
    std::fill(scratch.begin() + int64_t(size), scratch.end(), sentinel);
    CHECK(cpu::gemm_with(kernels, problems.data(), int64_t(problems.size()), scratch.data(), pool).ok());
    for (size_t i = size; i < scratch.size(); i++) CHECK(scratch[i] == sentinel);
}

// The results of all products, multiplied at once.
inline std::vector<std::vector<float>> run_at_once(const cpu::GemmKernels & kernels,
                                                   const std::vector<std::unique_ptr<Product>> & products,
                                                   ThreadPool & pool) {
    std::vector<std::vector<float>> results;
    std::vector<cpu::GemmProblem> problems;
    for (const auto & product : products) {
        results.push_back(product->fresh_result());
        problems.push_back(product->problem);
        problems.back().c = results.back().data();
    }
    run(kernels, problems, pool);
    return results;
}

} // namespace gnv::test
