// The search for a block's scale, one thread a row of a block: the arithmetic of codec/nvfp4_search_loops.h, operation by
// operation, so that devices give the CPU's bits. Only for files that are compiled without contraction (--fmad=false).
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

namespace gnv::cuda {

inline constexpr int block_columns = 16;

// The nearest E2M1 value of x, ties to even, at most 6: in the sum with 2^22 times the binade's step the processor rounds
// where E2M1 does. The sign of x stays, also that of zeros.
__device__ inline float nearest_e2m1(float x) {
    float magnitude = fabsf(x);
    if (magnitude > 6.0f) magnitude = 6.0f;
    const int exponent = max(__float_as_int(magnitude) & 0x7f800000, 127 << 23);
    const float rounder = __int_as_float(exponent + (22 << 23));
    magnitude = (magnitude + rounder) - rounder;
    return __int_as_float(__float_as_int(magnitude) | (__float_as_int(x) & int(0x80000000)));
}

// 0 .5 1 1.5 2 3 4 6 -> 0 ... 7; 8 more for a negative x, whatever it rounds to.
__device__ inline uint32_t code_of(float nearest, float x) {
    const float magnitude = fabsf(nearest);
    const uint32_t large = uint32_t((__float_as_int(magnitude) >> 22) - (127 * 2 - 2));
    const uint32_t code = magnitude < 1.0f ? (magnitude > 0.0f ? 1u : 0u) : large;
    return x < 0.0f ? code | 8u : code;
}

// The same back, the sign of code 8 included.
__device__ inline float value_of_code(uint32_t code) {
    const uint32_t size = code & 7;
    const float magnitude = size < 2 ? 0.5f * float(size) : __int_as_float(int((size + 127 * 2 - 2) << 22));
    return code & 8 ? -magnitude : magnitude;
}

// E4M3 codes 1 ... 126.
__device__ inline float value_of_scale(int code) {
    return code < 8 ? float(code) * 0x1p-9f : __int_as_float((code << 20) + (120 << 23));
}

// The nearest code, ties to even, 1 ... 126.
__device__ inline int scale_from_value(float value) {
    const float bounded = value > 448.0f ? 448.0f : value;
    int exponent = __float_as_int(bounded) >> 23;
    exponent = max(exponent, 127 - 6) + 20;
    const float sum = bounded + __int_as_float(exponent << 23);
    const int code = (exponent - (127 - 6 + 20)) * 8 + (__float_as_int(sum) & 31);
    return max(code, 1);
}

// A row of a block while its scale is searched. Weights and shifts are in units of 1 / G.
struct RowSearch {
    float weights[block_columns], shifts[block_columns];
    float largest;          // magnitude of what is rounded
    const float * matrix;   // [16][16] M or U; shared memory
    const float * diagonal; // [16] D; shared memory
};

enum class Metric { squares, matrix, factor };

template <Metric metric>
__device__ inline float error_of(const RowSearch & search, float scale) {
    const float inverse = 1.0f / scale;
    float error = 0.0f;
    if constexpr (metric == Metric::squares) {
#pragma unroll
        for (int k = 0; k < block_columns; k++) {
            const float x = search.weights[k] * inverse;
            const float difference = fabsf(x) - fabsf(nearest_e2m1(x));
            error += difference * difference;
        }
        error *= scale * scale;
    } else if constexpr (metric == Metric::matrix) {
        float differences[block_columns];
#pragma unroll
        for (int i = 0; i < block_columns; i++) {
            const float x = search.weights[i] * inverse;
            differences[i] = x - nearest_e2m1(x);
            float mixed = 0.0f;
#pragma unroll
            for (int k = 0; k < i; k++) mixed += differences[k] * search.matrix[i * block_columns + k];
            error += differences[i] * (differences[i] * search.matrix[i * block_columns + i] + 2.0f * mixed);
        }
        error *= scale * scale;
    } else {
        float shifts[block_columns];
#pragma unroll
        for (int k = 0; k < block_columns; k++) shifts[k] = search.shifts[k];
#pragma unroll
        for (int k = 0; k < block_columns; k++) {
            const float target = search.weights[k] + shifts[k];
            const float value = nearest_e2m1(target * inverse) * scale;
            const float missed = target - value, difference = search.weights[k] - value;
            error += search.diagonal[k] * (missed * missed);
#pragma unroll
            for (int j = k + 1; j < block_columns; j++) shifts[j] += difference * search.matrix[k * block_columns + j];
        }
    }
    return error;
}

// The best scale: with squares of all that there are, else of 6 steps below to 9 above the one that the largest magnitude
// gives. Ties go to that one, then to the fewer steps from it.
template <Metric metric>
__device__ inline int best_scale(const RowSearch & search) {
    constexpr int most_steps_up = 9, most_steps_down = 6;
    constexpr bool exhaustive = metric == Metric::squares;
    const int first = scale_from_value(search.largest / 6.0f);
    int best = first;
    float least = error_of<metric>(search, value_of_scale(first));
    bool ended = false; // downward
#pragma unroll 1
    for (int step = 1; step <= most_steps_up || !ended; step++) {
        const int above = first + step, below = first - step;
        if (step <= most_steps_up && above <= 126) {
            const float error = error_of<metric>(search, value_of_scale(above));
            if (error < least) best = above, least = error;
        }
        ended = ended || below < 1 || (!exhaustive && step > most_steps_down);
        if (ended) continue;
        const float scale = value_of_scale(below);
        if (exhaustive) {
            const float missed = search.largest - 6.0f * scale;
            ended = missed > 0.0f && missed * missed >= least;
            if (ended) continue;
        }
        const float error = error_of<metric>(search, scale);
        if (error < least) best = below, least = error;
    }
    return best;
}

// What a search of one row gives: codes packed as the file has them, and the scale's code.
struct BlockCodes {
    uint2 codes;
    uint32_t scale;
    __device__ uint32_t code(int k) const { return (k < 8 ? codes.x : codes.y) >> (k % 8 * 4) & 15; }
    // What column k stands for, in units of weights.
    __device__ float value(int k, float global) const {
        return value_of_code(code(k)) * value_of_scale(int(scale)) / global;
    }
};

// `weights` and `shifts` are in their own units; shifts count with Metric::factor only. `values` receives what the codes stand
// for.
template <Metric metric>
__device__ inline BlockCodes search_block(const float (&weights)[block_columns], const float (&shifts)[block_columns],
                                          const float * matrix, const float * diagonal, float global,
                                          float (&values)[block_columns]) {
    constexpr bool compensates = metric == Metric::factor;
    RowSearch search;
    search.matrix = matrix;
    search.diagonal = diagonal;
    search.largest = 0.0f;
#pragma unroll
    for (int k = 0; k < block_columns; k++) {
        search.weights[k] = weights[k] * global;
        search.shifts[k] = compensates ? shifts[k] * global : 0.0f;
        const float rounded = search.weights[k] + search.shifts[k];
        const float magnitude = rounded < 0.0f ? -rounded : rounded;
        search.largest = magnitude > search.largest ? magnitude : search.largest;
    }
    const int found = best_scale<metric>(search);
    const int code = search.largest == 0.0f ? 0x20 : found; // 0.125, as the recipe has it

    // The codes as the recipe divides, in units of weights.
    const float scale = value_of_scale(code), divisor = scale / global;
    float left[block_columns];
#pragma unroll
    for (int k = 0; k < block_columns; k++) left[k] = compensates ? shifts[k] : 0.0f;
    BlockCodes out = {{0, 0}, uint32_t(code)};
#pragma unroll
    for (int k = 0; k < block_columns; k++) {
        const float x = (compensates ? weights[k] + left[k] : weights[k]) / divisor;
        const float nearest = nearest_e2m1(x);
        (k < 8 ? out.codes.x : out.codes.y) |= code_of(nearest, x) << (k % 8 * 4);
        values[k] = nearest * scale / global;
        if constexpr (compensates) {
            const float difference = weights[k] - values[k];
#pragma unroll
            for (int j = k + 1; j < block_columns; j++) left[j] += difference * matrix[k * block_columns + j];
        }
    }
    return out;
}

// 16 neighbouring BF16 numbers at a multiple of 16 bytes.
__device__ inline void load_block(const uint16_t * from, float (&out)[block_columns]) {
    const auto * const quads = reinterpret_cast<const uint4 *>(from);
    const uint4 a = quads[0], b = quads[1];
    const uint32_t pairs[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        out[2 * i] = __uint_as_float(pairs[i] << 16);
        out[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000);
    }
}

} // namespace gnv::cuda
