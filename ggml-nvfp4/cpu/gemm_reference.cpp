// The plain loop of cpu/gemm.h, the definition of its result.
#include "codec/nvfp4.h"
#include "cpu/gemm.h"

#include <algorithm>
#include <cmath>

namespace gnv::cpu {

namespace {

// The value that enters the sum.
float weight_value(const GemmProblem & problem, int64_t row, int64_t column) {
    const Tensor & weight = problem.weight;
    const int64_t element = row * problem.k + column;
    if (weight.dtype == DType::f32) return weight.as<const float>()[element];
    if (weight.dtype == DType::bf16) return nvfp4::bf16_to_float(weight.as<const uint16_t>()[element]);
    const uint8_t byte = weight.as<const uint8_t>()[element / 2];
    const float scale = nvfp4::e4m3_value(weight.block_scales[element / nvfp4::block_size]);
    const float value = nvfp4::e2m1_value(element % 2 ? byte >> 4 : byte & 15);
    return value * scale;
}

float nearest_e2m1(float x) { // ties to even
    uint8_t best = 0;
    for (uint8_t code = 1; code < 8; code++) {
        const float below = std::fabs(x) - nvfp4::e2m1_value(best), above = nvfp4::e2m1_value(code) - std::fabs(x);
        if (above < below || (above == below && code % 2 == 0)) best = code;
    }
    return std::copysign(nvfp4::e2m1_value(best), x);
}

std::vector<float> w4a4_values(const float * x, int64_t k, float input_scale) {
    std::vector<float> values(size_t(k), 0.0f);
    for (int64_t block = 0; block < k; block += nvfp4::block_size) {
        float largest = 0;
        for (int64_t i = block; i < block + nvfp4::block_size; i++) largest = std::max(largest, std::fabs(x[i]));
        const float scale = nvfp4::e4m3_value(nvfp4::e4m3_from_float(input_scale * largest / 6));
        for (int64_t i = block; i < block + nvfp4::block_size && scale != 0; i++)
            values[size_t(i)] = nearest_e2m1(x[i] * input_scale / scale) * scale;
    }
    return values;
}

} // namespace

void gemm_reference(const GemmProblem & problem) {
    GNV_CHECK(!problem.weight.is_compact());
    for (int64_t i = 0; i < problem.m; i++) {
        const float * const row = problem.row_of_a(i);
        std::vector<float> x(row, row + problem.k);
        if (problem.input_scale) x = w4a4_values(row, problem.k, *problem.input_scale);
        for (int64_t j = 0; j < problem.n; j++) {
            float sum = 0;
            for (int64_t k = 0; k < problem.k; k++) sum = std::fma(x[size_t(k)], weight_value(problem, j, k), sum);
            sum /= problem.divisor_of(j);
            if (problem.precision == Precision::bf16) sum = nvfp4::bf16_to_float(nvfp4::bf16_from_float(sum));
            problem.c[i * problem.c_stride + j] = sum;
        }
    }
}

} // namespace gnv::cpu
