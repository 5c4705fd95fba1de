#pragma once

#include <stdint.h>

namespace gnv::cpu {

// Query rows that attention treats together: column c of `scores` is one row and head. Keys stand in the order of their
// positions, those that no row may see left out.
struct AttentionBlock {
    int64_t columns = 0, group = 0;   // column c is row c / group and query head c % group of the group
    int64_t head = 0;                 // D
    int64_t common = 0;               // how many keys the first row may see,
    const int32_t * counts = nullptr; // and how many each row may see, ascending
    const int32_t * keys = nullptr;   // position of each key in `k` and `v`
    float scale = 0;
    bool bf16 = false;
    const float * queries = nullptr; // [D, columns]
    const float *k = nullptr, *v = nullptr;
    int64_t key_stride = 0; // from one key to the next, in `k` and in `v`
    // Instead of `k` and `v`, with the same stride: E4M3 codes, and the scales of the keys' rows (graph/ops.h).
    const uint8_t *k_codes = nullptr, *v_codes = nullptr, *k_scales = nullptr, *v_scales = nullptr;
    int64_t scale_stride = 0;
    float * widened = nullptr;                // [widened_keys, D], scratch
    float * scores = nullptr;                 // [keys of the last row, columns], scratch
    float *maxima = nullptr, *sums = nullptr; // [columns], scratch
    float * out = nullptr;                    // [columns, D]
};

constexpr int64_t widened_keys = 64;

struct MixerLoops {
    // Sine and cosine of `count` angles, rounded to F32, and to BF16 with bf16.
    void (*sines)(int64_t count, const float * angles, bool bf16, float * sine, float * cosine);
    // One position of rope: x and y [heads, head], sine and cosine [half].
    void (*rotate)(int64_t heads, int64_t head, int64_t half, const float * x, const float * sine, const float * cosine,
                   bool bf16, float * y);
    // out [taps, channels] of weights [channels, taps], which are F32, or BF16 with bf16.
    void (*widen_taps)(int64_t channels, int64_t taps, const void * weights, bool bf16, float * out);
    // y[c] = [r] silu([r] sum over j < taps of weights[j, c] * rows[j][c])
    void (*convolve)(int64_t channels, int64_t taps, const float * const * rows, const float * weights, bool bf16,
                     float * y);
    // out = softmax(queries . k * scale) . v
    void (*attend)(const AttentionBlock & block);
    // y = x rounded to BF16; y may be x
    void (*round)(int64_t count, const float * x, float * y);
    // A head of a cache: codes of x, and their scale; and back.
    uint8_t (*pack)(int64_t count, const float * x, uint8_t * codes);
    void (*unpack)(int64_t count, const uint8_t * codes, uint8_t scale, float * y);
};

} // namespace gnv::cpu
