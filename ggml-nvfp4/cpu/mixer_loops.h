// rope, causal_conv and attention: see cpu/mixer_loops_table.h.
#include "cpu/exact_math.h"
#include "cpu/product_loops.h"

namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

inline void fill_sines(int64_t count, const float * __restrict angles, bool bf16, float * __restrict sine,
                       float * __restrict cosine) {
    for (int64_t i = 0; i < count; i++) {
        const exact::SineCosine value = exact::sine_cosine(double(angles[i]));
        sine[i] = float(value.sine), cosine[i] = float(value.cosine);
    }
    if (!bf16) return;
    for (int64_t i = 0; i < count; i++) sine[i] = round_bf16(sine[i]), cosine[i] = round_bf16(cosine[i]);
}

template <bool bf16>
inline void rotate_heads(int64_t heads, int64_t head, int64_t half, const float * x, const float * __restrict sine,
                         const float * __restrict cosine, float * y) {
    for (int64_t h = 0; h < heads; h++, x += head, y += head) {
        const float * __restrict low = x;
        const float * __restrict high = x + half;
        float * __restrict out_low = y;
        float * __restrict out_high = y + half;
        for (int64_t i = 0; i < half; i++) {
            const float a = low[i], b = high[i];
            out_low[i] = round_if(bf16, round_if(bf16, a * cosine[i]) + round_if(bf16, -b * sine[i]));
            out_high[i] = round_if(bf16, round_if(bf16, b * cosine[i]) + round_if(bf16, a * sine[i]));
        }
        memcpy(y + 2 * half, x + 2 * half, size_t(head - 2 * half) * sizeof(float));
    }
}

inline void rotate_row(int64_t heads, int64_t head, int64_t half, const float * x, const float * sine,
                       const float * cosine, bool bf16, float * y) {
    (bf16 ? rotate_heads<true> : rotate_heads<false>)(heads, head, half, x, sine, cosine, y);
}

inline float widened(float value) { return value; }
inline float widened(uint16_t bf16) { return float_of(uint32_t(bf16) << 16); }

template <int known_taps, class Element>
inline void transpose_taps(int64_t channels, int64_t any_taps, const Element * __restrict weights,
                           float * __restrict out) {
    const int64_t taps = known_taps ? known_taps : any_taps;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t j = 0; j < taps; j++) out[j * channels + c] = widened(weights[c * taps + j]);
}

template <class Element>
inline void widen_elements(int64_t channels, int64_t taps, const void * weights, float * out) {
    const auto * const elements = static_cast<const Element *>(weights);
    (taps == 4 ? transpose_taps<4, Element> : transpose_taps<0, Element>)(channels, taps, elements, out);
}

inline void widen_taps(int64_t channels, int64_t taps, const void * weights, bool bf16, float * out) {
    (bf16 ? widen_elements<uint16_t> : widen_elements<float>)(channels, taps, weights, out);
}

template <bool bf16>
inline float silu_of_sum(float sum) {
    const float x = round_if(bf16, sum);
    return round_if(bf16, x * sigmoid32(x));
}

template <bool bf16>
inline void convolve_channels(int64_t channels, int64_t taps, const float * const * rows,
                              const float * __restrict weights, float * __restrict y) {
    if (taps == 4) {
        const float * __restrict u0 = rows[0];
        const float * __restrict u1 = rows[1];
        const float * __restrict u2 = rows[2];
        const float * __restrict u3 = rows[3];
        for (int64_t c = 0; c < channels; c++) {
            float sum = fma32(weights[c], u0[c], 0.0f);
            sum = fma32(weights[channels + c], u1[c], sum);
            sum = fma32(weights[2 * channels + c], u2[c], sum);
            sum = fma32(weights[3 * channels + c], u3[c], sum);
            y[c] = silu_of_sum<bf16>(sum);
        }
        return;
    }
    for (int64_t c = 0; c < channels; c++) y[c] = 0;
    for (int64_t j = 0; j < taps; j++) {
        const float * __restrict u = rows[j];
        const float * __restrict w = weights + j * channels;
        for (int64_t c = 0; c < channels; c++) y[c] = fma32(w[c], u[c], y[c]);
    }
    for (int64_t c = 0; c < channels; c++) y[c] = silu_of_sum<bf16>(y[c]);
}

inline void convolve_row(int64_t channels, int64_t taps, const float * const * rows, const float * weights, bool bf16,
                         float * y) {
    (bf16 ? convolve_channels<true> : convolve_channels<false>)(channels, taps, rows, weights, y);
}

// E4M3 codes with a scale (graph/ops.h: AttentionParams).
inline uint8_t pack_codes(int64_t count, const float * __restrict x, uint8_t * __restrict codes) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t magnitude = __builtin_bit_cast(uint32_t, x[i]) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= 0x7f800000) {
        memset(codes, 0x7f, size_t(count));
        return 255;
    }
    const int exact = int(largest >> 23) - 8 + ((largest & 0x7fffff) > 0x600000 ? 1 : 0); // 448 is 1.75 * 2^8
    const int scale = exact < 27 ? 27 : exact;
    const float inverse = __builtin_bit_cast(float, uint32_t(254 - scale) << 23);
    for (int64_t i = 0; i < count; i++) {
        const float scaled = x[i] * inverse;
        const uint32_t bits = __builtin_bit_cast(uint32_t, scaled), magnitude = bits & 0x7fffffff;
        const float small =
            __builtin_bit_cast(float, magnitude) + 16384.0f; // whose last bit is worth a code below 2^-6
        const uint32_t of_small = __builtin_bit_cast(uint32_t, small) - 0x46800000;
        const uint32_t of_others = ((magnitude + 0x7ffff + (magnitude >> 20 & 1)) >> 20) - 960;
        codes[i] = uint8_t((bits >> 24 & 0x80) | (magnitude < 0x3c800000 ? of_small : of_others));
    }
    return uint8_t(scale);
}

inline void unpack_codes(int64_t count, const uint8_t * __restrict codes, uint8_t scale, float * __restrict y) {
    const float factor = scale == 255 ? __builtin_nanf("") : __builtin_bit_cast(float, uint32_t(scale) << 23);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = uint32_t(codes[i] & 0x80) << 24 | uint32_t(codes[i] & 0x7f) << 20;
        y[i] = __builtin_bit_cast(float, bits) * 0x1p120f * factor;
    }
}

// Scores become probabilities. A key's weight is for the columns of the rows that may see it; from the first row's keys
// on these are the last columns.
inline void soften(const AttentionBlock & block, int64_t keys) {
    const int64_t columns = block.columns;
    float * __restrict maxima = block.maxima;
    float * __restrict sums = block.sums;
    for (int64_t c = 0; c < columns; c++) maxima[c] = -__builtin_inff(), sums[c] = 0;
    int64_t row = 0;
    for (int64_t key = 0; key < keys; key++) {
        while (block.counts[row] <= key) row++;
        float * __restrict score = block.scores + key * columns;
        for (int64_t c = row * block.group; c < columns; c++) {
            const float scaled = score[c] * block.scale;
            score[c] = scaled;
            maxima[c] = scaled > maxima[c] ? scaled : maxima[c];
        }
    }
    row = 0;
    for (int64_t key = 0; key < keys; key++) {
        while (block.counts[row] <= key) row++;
        float * __restrict score = block.scores + key * columns;
        for (int64_t c = row * block.group; c < columns; c++) {
            score[c] = exp32(score[c] - maxima[c]);
            sums[c] += score[c];
        }
    }
    row = 0;
    for (int64_t key = 0; key < keys; key++) {
        while (block.counts[row] <= key) row++;
        float * __restrict score = block.scores + key * columns;
        if (block.bf16)
            for (int64_t c = row * block.group; c < columns; c++) score[c] = round_bf16(score[c] / sums[c]);
        else
            for (int64_t c = row * block.group; c < columns; c++) score[c] /= sums[c];
    }
}

// How many of the keys from `first` on, before `end`, follow each other. Pages of a cache may lie in any order.
inline int64_t run_of_keys(const int32_t * keys, int64_t first, int64_t end) {
    int64_t next = first + 1;
    while (next < end && keys[next] == keys[next - 1] + 1) next++;
    return next - first;
}

// Keys, or values, from `first` on, before `end`, which follow each other: as they lie in `plain`, or a few of `codes`.
struct KeyRows {
    const float * rows;
    int64_t count, stride;
};
inline KeyRows key_rows(const AttentionBlock & block, const float * plain, const uint8_t * codes,
                        const uint8_t * scales, int64_t first, int64_t end) {
    const int64_t key = block.keys[first];
    if (!codes) return {plain + key * block.key_stride, run_of_keys(block.keys, first, end), block.key_stride};
    const int64_t few = end - first < widened_keys ? end : first + widened_keys;
    const int64_t run = run_of_keys(block.keys, first, few);
    for (int64_t i = 0; i < run; i++)
        unpack_codes(block.head, codes + (key + i) * block.key_stride, scales[(key + i) * block.scale_stride],
                     block.widened + i * block.head);
    return {block.widened, run, block.head};
}

// Adds the values of keys [first, end), weighted, to `count` columns from `column` on.
inline void add_values(const AttentionBlock & block, int64_t column, int64_t count, int64_t first, int64_t end) {
    while (first < end) {
        const KeyRows v = key_rows(block, block.v, block.v_codes, block.v_scales, first, end);
        add_products(count, {block.head, v.count, block.scores + first * block.columns + column, 1, block.columns,
                             v.rows, v.stride, block.out + column * block.head, block.head, false});
        first += v.count;
    }
}

inline void attend_block(const AttentionBlock & block) {
    const int64_t rows = block.columns / block.group, keys = block.counts[rows - 1];
    for (int64_t first = 0; first < keys;) {
        const KeyRows k = key_rows(block, block.k, block.k_codes, block.k_scales, first, keys);
        add_products(k.count, {block.columns, block.head, k.rows, k.stride, 1, block.queries, block.columns,
                               block.scores + first * block.columns, block.columns, true});
        first += k.count;
    }
    soften(block, keys);
    memset(block.out, 0, size_t(block.columns * block.head) * sizeof(float));
    add_values(block, 0, block.columns, 0, block.common);
    for (int64_t row = 1; row < rows; row++)
        add_values(block, row * block.group, block.group, block.common, block.counts[row]);
}

inline void round_row(int64_t count, const float * x, float * y) {
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) y[i] = round_bf16(x[i]);
}

constexpr MixerLoops mixer_loops = {fill_sines,   rotate_row, widen_taps, convolve_row,
                                    attend_block, round_row,  pack_codes, unpack_codes};

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
