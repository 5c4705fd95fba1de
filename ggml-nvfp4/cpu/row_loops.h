#include "cpu/exact_math.h"

namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

// Whether to round is known before a loop, not in it.
#define GNV_ROW_CHOOSE(bf16, function, ...) ((bf16) ? function<true>(__VA_ARGS__) : function<false>(__VA_ARGS__))

void exponential(const float * x, int64_t count, float * y) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = exp32(x[i]);
}

void widen_bf16(const uint16_t * x, int64_t count, float * y) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = float_of(uint32_t(x[i]) << 16);
}

inline float inverse_root_mean_square(const float * x, int64_t width, float epsilon) {
    Lanes partial = {};
    int64_t c = 0;
    for (; c + 16 <= width; c += 16) {
        Lanes value;
        load(x + c, value);
        fma_lanes(value, value, partial);
    }
    float lanes[16];
    store(partial, lanes);
    for (int i = 0; c + i < width; i++) lanes[i] = fma32(x[c + i], x[c + i], lanes[i]);
    return 1.0f / __builtin_sqrtf(sum_of_16(lanes) / float(width) + epsilon);
}

template <bool bf16>
void rms_norm_rows(const float * x, int64_t stride, const float * scale, int64_t rows, int64_t width, float epsilon,
                   float * y) {
    for (int64_t r = 0; r < rows; r++, x += stride, y += width) {
        const float inverse = inverse_root_mean_square(x, width, epsilon);
#pragma GCC ivdep
        for (int64_t c = 0; c < width; c++) y[c] = round_if(bf16, x[c] * inverse * scale[c]);
    }
}

void rms_norm(const float * x, int64_t stride, const float * scale, int64_t rows, int64_t width, float epsilon,
              bool bf16, float * y) {
    GNV_ROW_CHOOSE(bf16, rms_norm_rows, x, stride, scale, rows, width, epsilon, y);
}

template <bool bf16, bool sigmoid>
void gated_rms_norm_rows(const float * x, const float * w, const float * z, int64_t rows, int64_t width, float epsilon,
                         float * y) {
    for (int64_t r = 0; r < rows; r++, x += width, y += width, z += width) {
        const float inverse = inverse_root_mean_square(x, width, epsilon);
#pragma GCC ivdep
        for (int64_t c = 0; c < width; c++) {
            const float normed = round_if(bf16, round_if(bf16, x[c] * inverse) * w[c]);
            const float gate = sigmoid32(z[c]);
            y[c] = round_if(bf16, normed * (sigmoid ? gate : z[c] * gate));
        }
    }
}

void gated_rms_norm(const float * x, const float * w, const float * z, int64_t rows, int64_t width, float epsilon,
                    bool sigmoid, bool bf16, float * y) {
    if (sigmoid)
        bf16 ? gated_rms_norm_rows<true, true>(x, w, z, rows, width, epsilon, y)
             : gated_rms_norm_rows<false, true>(x, w, z, rows, width, epsilon, y);
    else
        bf16 ? gated_rms_norm_rows<true, false>(x, w, z, rows, width, epsilon, y)
             : gated_rms_norm_rows<false, false>(x, w, z, rows, width, epsilon, y);
}

// The sum of a row in 16 partial sums: fold(c, sums) adds columns c to c + 15 to them, fold_one(c, sum) a single one.
template <class Fold, class FoldOne>
inline float folded_in_16(int64_t width, const Fold & fold, const FoldOne & fold_one) {
    Lanes partial = {};
    int64_t c = 0;
    for (; c + 16 <= width; c += 16) fold(c, partial);
    float lanes[16];
    store(partial, lanes);
    for (int i = 0; c + i < width; i++) lanes[i] = fold_one(c + i, lanes[i]);
    return sum_of_16(lanes);
}

template <bool bf16>
void layer_norm_rows(const float * x, const float * w, const float * b, int64_t rows, int64_t width, float epsilon,
                     float * y) {
    for (int64_t r = 0; r < rows; r++, x += width, y += width) {
        Lanes value;
        const float mean = folded_in_16(
                               width,
                               [&](int64_t c, Lanes & sum) {
                                   load(x + c, value);
                                   add_lanes(value, sum);
                               },
                               [&](int64_t c, float sum) { return sum + x[c]; }) /
                           float(width);
        Lanes shift;
        fill(-mean, shift);
        const float square = folded_in_16(
            width,
            [&](int64_t c, Lanes & sum) {
                load(x + c, value);
                add_lanes(shift, value);
                fma_lanes(value, value, sum);
            },
            [&](int64_t c, float sum) { return fma32(x[c] - mean, x[c] - mean, sum); });
        const float inverse = 1.0f / __builtin_sqrtf(square / float(width) + epsilon);
#pragma GCC ivdep
        for (int64_t c = 0; c < width; c++) y[c] = round_if(bf16, fma32((x[c] - mean) * inverse, w[c], b[c]));
    }
}

void layer_norm(const float * x, const float * w, const float * b, int64_t rows, int64_t width, float epsilon,
                bool bf16, float * y) {
    GNV_ROW_CHOOSE(bf16, layer_norm_rows, x, w, b, rows, width, epsilon, y);
}

inline float gelu_tanh32(float x) {
    const float u = 0.797884560802865356f * fma32(0.044715f * x * x, x, x);
    return x * sigmoid32(2.0f * u);
}

// erfc(z) = exp(-z^2) p((z - 2) / (z + 2)) 2 / (z + 2) for z >= 0: p interpolates at 14 Chebyshev nodes, within 7e-10 of
// the whole.
inline double half_erfc(double z) {
    const double t = (z - 2.0) / (z + 2.0);
    double p = -2.8520832090959758e-06;
    p = p * t - 8.51309165942179e-06;
    p = p * t + 1.0600323867444265e-05;
    p = p * t + 6.770091157802329e-05;
    p = p * t + 2.1354876086121518e-05;
    p = p * t - 0.00032811550442854047;
    p = p * t - 0.0004200581037814288;
    p = p * t + 0.0015440560514186075;
    p = p * t + 0.0032398228162214666;
    p = p * t - 0.01075511823958137;
    p = p * t - 0.018221129996584245;
    p = p * t + 0.1397360328556257;
    p = p * t - 0.3435803420618704;
    p = p * t + 0.5107913527582281;
    return exact::exp(-z * z) * p / (z + 2.0);
}

inline float gelu_erf32(float value) {
    const double x = double(value), size = (x < 0 ? -x : x) * 0.70710678118654752440;
    const double upper = half_erfc(size > 26.0 ? 26.0 : size); // beyond, nothing is left
    return float(x * (x < 0 ? upper : 1.0 - upper));
}

template <bool bf16>
void gelu_tanh_elements(const float * x, int64_t count, float * y) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = round_if(bf16, gelu_tanh32(x[i]));
}

template <bool bf16>
void gelu_erf_elements(const float * x, int64_t count, float * y) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = round_if(bf16, gelu_erf32(x[i]));
}

void gelu(const float * x, int64_t count, bool tanh, bool bf16, float * y) {
    if (tanh)
        GNV_ROW_CHOOSE(bf16, gelu_tanh_elements, x, count, y);
    else
        GNV_ROW_CHOOSE(bf16, gelu_erf_elements, x, count, y);
}

template <bool bf16>
void blend_four_rows(const float * const * rows, const float * weights, int64_t count, float * y) {
    const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    const float wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) {
        const float sum = fma32(wb, b[i], fma32(wa, a[i], 0.0f));
        y[i] = round_if(bf16, fma32(wd, d[i], fma32(wc, c[i], sum)));
    }
}

void blend_four(const float * const * rows, const float * weights, int64_t count, bool bf16, float * y) {
    GNV_ROW_CHOOSE(bf16, blend_four_rows, rows, weights, count, y);
}

template <bool bf16>
void add_elements(const float * a, const float * b, int64_t count, float * y) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = round_if(bf16, a[i] + b[i]);
}

void add(const float * a, const float * b, int64_t count, bool bf16, float * y) {
    GNV_ROW_CHOOSE(bf16, add_elements, a, b, count, y);
}

template <bool bf16>
void silu_mul_elements(const float * gate, const float * up, int64_t count, float * y) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = round_if(bf16, round_if(bf16, gate[i] * sigmoid32(gate[i])) * up[i]);
}

void silu_mul(const float * gate, const float * up, int64_t count, bool bf16, float * y) {
    GNV_ROW_CHOOSE(bf16, silu_mul_elements, gate, up, count, y);
}

template <bool bf16>
void sigmoid_gate_elements(const float * x, const float * gate, int64_t count, float * y) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = round_if(bf16, x[i] * round_if(bf16, sigmoid32(gate[i])));
}

void sigmoid_gate(const float * x, const float * gate, int64_t count, bool bf16, float * y) {
    GNV_ROW_CHOOSE(bf16, sigmoid_gate_elements, x, gate, count, y);
}

template <bool bf16>
void scale_elements(const float * x, float factor, int64_t count, float * y) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = round_if(bf16, x[i] * factor);
}

void sigmoid_scale(const float * x, float gate, int64_t count, bool bf16, float * y) {
    const float factor = round_if(bf16, sigmoid32(gate));
    GNV_ROW_CHOOSE(bf16, scale_elements, x, factor, count, y);
}

void softmax(const float * x, int64_t count, float * y) {
    // Lane by lane like the sum, which the compiler may not reorder. A NaN is never the larger one, and
    // comes back in the sum.
    Lanes largest, value, partial = {};
    float lanes[16];
    fill(x[0], largest);
    int64_t c = 0;
    for (; c + 16 <= count; c += 16) {
        load(x + c, value);
        maximum_lanes(value, largest);
    }
    store(largest, lanes);
    float maximum = lanes[0];
    for (int i = 1; i < 16; i++) maximum = lanes[i] > maximum ? lanes[i] : maximum;
    for (; c < count; c++) maximum = x[c] > maximum ? x[c] : maximum;
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = exp32(x[i] - maximum);
    for (c = 0; c + 16 <= count; c += 16) {
        load(y + c, value);
        add_lanes(value, partial);
    }
    store(partial, lanes);
    for (int i = 0; c + i < count; i++) lanes[i] += y[c + i];
    const float sum = sum_of_16(lanes);
    for (int64_t i = 0; i < count; i++) y[i] /= sum;
}

void router(const float * logits, int64_t experts, int64_t chosen, bool bf16, float * probabilities, float * weights,
            int32_t * indices) {
    softmax(logits, experts, probabilities);
    int64_t kept = 0; // weights, in descending order, with their experts
    for (int64_t e = 0; e < experts; e++) {
        const float p = probabilities[e];
        if (kept == chosen && !(p > weights[kept - 1])) continue;
        int64_t place = kept < chosen ? kept++ : kept - 1;
        for (; place > 0 && p > weights[place - 1]; place--) {
            weights[place] = weights[place - 1];
            indices[place] = indices[place - 1];
        }
        weights[place] = p;
        indices[place] = int32_t(e);
    }
    float sum = 0;
    for (int64_t i = 0; i < chosen; i++) sum += weights[i];
    for (int64_t i = 0; i < chosen; i++) weights[i] = round_if(bf16, weights[i] / sum);
}

void combine(const float * sum, const float * rows, const int32_t * indices, const float * weights, int64_t count,
             int64_t width, float * y) {
    int64_t c = 0;
    for (; c + 64 <= width; c += 64) {
        Lanes total[4] = {}, value, weight;
        for (int i = 0; i < 4 && sum; i++) load(sum + c + 16 * i, total[i]);
        for (int64_t j = 0; j < count; j++) {
            const float * const row = rows + indices[j] * width + c;
            fill(weights[j], weight);
            for (int i = 0; i < 4; i++) {
                load(row + 16 * i, value);
                fma_lanes(weight, value, total[i]);
            }
        }
        for (int i = 0; i < 4; i++) store(total[i], y + c + 16 * i);
    }
    for (; c < width; c++) {
        float total = sum ? sum[c] : 0.0f;
        for (int64_t j = 0; j < count; j++) total = fma32(weights[j], rows[indices[j] * width + c], total);
        y[c] = total;
    }
}

int32_t largest_magnitude(const float * x, int64_t count) {
    int32_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const int32_t bits = int32_t(bits_of(x[i]) & 0x7fffffffu);
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

// total[i][j] += x[i] * x[j] for 16 x 16 columns, row after row.
void add_products(const float * x, int64_t stride, int64_t rows, float * total) {
#if defined(__AVX512F__)
    constexpr int height = 16; // as many rows of sums as registers hold
#else
    constexpr int height = 4;
#endif
    for (int first = 0; first < 16; first += height, total += height * 16) {
        Lanes sums[height], right, left;
        for (int i = 0; i < height; i++) load(total + i * 16, sums[i]);
        for (int64_t r = 0; r < rows; r++) {
            load(x + r * stride, right);
#pragma GCC unroll 16
            for (int i = 0; i < height; i++) {
                fill(x[r * stride + first + i], left);
                fma_lanes(left, right, sums[i]);
            }
        }
        for (int i = 0; i < height; i++) store(sums[i], total + i * 16);
    }
}

#undef GNV_ROW_CHOOSE

constexpr RowLoops row_loops = {exponential, widen_bf16, rms_norm,     gated_rms_norm,    layer_norm,
                                add,         silu_mul,   sigmoid_gate, sigmoid_scale,     gelu,
                                blend_four,  router,     combine,      largest_magnitude, add_products};

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
