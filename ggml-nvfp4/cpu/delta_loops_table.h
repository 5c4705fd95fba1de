#pragma once

#include <stdint.h>

namespace gnv::cpu {

constexpr int64_t delta_chunk = 64; // positions of the chunked form; the rows of every [64, 64] below

// Up to 64 positions of one value head. beta and g are [rows]; q and k, normalized, are [rows, Dk].
struct DeltaRows {
    int64_t rows = 0;
    int64_t key_head = 0, value_head = 0; // Dk, Dv
    const float *q = nullptr, *k = nullptr;
    const float * v = nullptr;
    int64_t v_stride = 0;
    const float *beta = nullptr, *g = nullptr;
    float * memory = nullptr; // [Dk, Dv]
    float * out = nullptr;    // [rows, Dv]
    // Of the chunked form alone:
    const float *kk = nullptr, *qk = nullptr;    // [64, 64]: k . k and q . k, below and on the diagonal
    float *within = nullptr, *weights = nullptr; // [64, 64], scratch
    float * news = nullptr;                      // [rows, Dv], scratch
};

struct DeltaLoops {
    // beta = [r] sigmoid(b), g = decay * softplus(a + dt_bias); a and b of one head, `stride` apart.
    void (*gates)(int64_t rows, const float * a, const float * b, int64_t stride, float decay, float dt_bias, bool bf16,
                  float * beta, float * g);
    // y = x / sqrt(sum x^2 + 1e-6), of queries / divisor, for each row [head]; rows of x are `stride` apart. [head,
    // 64]: scratch for queries, for keys y once more.
    void (*normalize_queries)(int64_t rows, int64_t head, const float * x, int64_t stride, float divisor, float * y,
                              float * scratch);
    void (*normalize_keys)(int64_t rows, int64_t head, const float * x, int64_t stride, float * y, float * transposed);
    // Products of rows q or k [rows, head] with all k up to their own: [64, 64]; columns further right are undefined.
    void (*products)(int64_t rows, int64_t head, const float * x, const float * k_transposed, float * out);
    void (*chunk)(const DeltaRows & rows);
    void (*recur)(const DeltaRows & rows); // position after position
};

} // namespace gnv::cpu
