// The Gated DeltaNet: see cpu/delta_loops_table.h. Derivation of the chunked form: within a chunk let d[i, j]
// be the decay from position j to i, e[i] that from before the chunk, and n[i] = beta (v - M^T k) the value
// that position i writes. Then
//   n[i] = beta[i] (v[i] - e[i] M^T k[i]) - sum over j < i of beta[i] (k[i] . k[j]) d[i, j] n[j]
//   o[i] = e[i] M^T q[i] + sum over j <= i of (q[i] . k[j]) d[i, j] n[j]
//   M   <- e[last] M + sum over j of k[j] (d[last, j] n[j])^T
// Exponents are sums of gates between two positions, each summed up by itself, not differences of sums from the chunk's
// beginning: after a gate of -1000 those would have lost the small ones.
#include "cpu/exact_math.h"
#if defined(__AVX512F__)
#include "cpu/gemm_avx512.h"
#endif
#include "cpu/product_loops.h"

namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

inline void delta_gates(int64_t rows, const float * a, const float * b, int64_t stride, float decay, float dt_bias,
                        bool bf16, float * __restrict beta, float * __restrict g) {
    for (int64_t i = 0; i < rows; i++) beta[i] = b[i * stride], g[i] = a[i * stride] + dt_bias;
    for (int64_t i = 0; i < rows; i++) beta[i] = round_if(bf16, sigmoid32(beta[i]));
    for (int64_t i = 0; i < rows; i++) g[i] = decay * float(exact::softplus(double(g[i])));
}

// out[d, i] = x[i, d]
inline void transpose_rows(int64_t rows, int64_t head, const float * x, int64_t stride, float * __restrict out) {
    int64_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= rows && head % 16 == 0; i += 16)
        for (int64_t d = 0; d < head; d += 16) {
            __m512i block[16];
#pragma GCC unroll 16
            for (int r = 0; r < 16; r++) block[r] = _mm512_loadu_si512(x + (i + r) * stride + d);
            cpu::transpose(block);
#pragma GCC unroll 16
            for (int r = 0; r < 16; r++) _mm512_storeu_si512(out + (d + r) * delta_chunk + i, block[r]);
        }
#endif
    for (; i < rows; i++)
        for (int64_t d = 0; d < head; d++) out[d * delta_chunk + i] = x[i * stride + d];
}

template <bool keys>
inline void normalize_all(int64_t rows, int64_t head, const float * x, int64_t stride, float divisor, float * y,
                          float * __restrict transposed) {
    float sums[delta_chunk];
    for (int64_t i = 0; i < rows; i++) sums[i] = 0;
    transpose_rows(rows, head, x, stride, transposed);
    for (int64_t d = 0; d < head; d++) {
        const float * column = transposed + d * delta_chunk;
        for (int64_t i = 0; i < rows; i++) sums[i] = fma32(column[i], column[i], sums[i]);
    }
    for (int64_t i = 0; i < rows; i++) sums[i] = __builtin_sqrtf(sums[i] + 1e-6f);
    for (int64_t d = 0; d < head && keys; d++) {
        float * column = transposed + d * delta_chunk;
        for (int64_t i = 0; i < rows; i++) column[i] /= sums[i];
    }
    for (int64_t i = 0; i < rows; i++) {
        const float * __restrict from = x + i * stride;
        float * __restrict to = y + i * head;
        const float norm = sums[i];
        for (int64_t d = 0; d < head; d++) to[d] = keys ? from[d] / norm : from[d] / norm / divisor;
    }
}

inline void normalize_keys(int64_t rows, int64_t head, const float * x, int64_t stride, float * y, float * transposed) {
    normalize_all<true>(rows, head, x, stride, 1, y, transposed);
}

inline void normalize_queries(int64_t rows, int64_t head, const float * x, int64_t stride, float divisor, float * y,
                              float * scratch) {
    normalize_all<false>(rows, head, x, stride, divisor, y, scratch);
}

inline void delta_products(int64_t rows, int64_t head, const float * x, const float * k_transposed, float * out) {
    for (int64_t first = 0; first < rows; first += 32) {
        const int64_t end = first + 32 < rows ? first + 32 : rows;
        add_products(end - first, {end, head, x + first * head, head, 1, k_transposed, delta_chunk,
                                   out + first * delta_chunk, delta_chunk, true});
    }
}

// within[i, j] = -beta[i] kk[i, j] d[i, j] for j < i, weights[i, j] = qk[i, j] d[i, j] for j <= i. Leaves d[last, j] in
// `decay` and e[i] in `entry`.
inline void decay_products(const DeltaRows & in, float * __restrict decay, float * __restrict entry) {
    float sums[delta_chunk] = {}, total = 0;
    for (int64_t i = 0; i < in.rows; i++) {
        const int64_t end = (i | 15) + 1; // whole vectors: columns right of i are never read
        const float g = in.g[i], beta = -in.beta[i];
        for (int64_t j = 0; j < end; j++) sums[j] += g;
        sums[i] = 0, total += g, entry[i] = total;
        const float * __restrict kk = in.kk + i * delta_chunk;
        const float * __restrict qk = in.qk + i * delta_chunk;
        float * __restrict within = in.within + i * delta_chunk;
        float * __restrict weights = in.weights + i * delta_chunk;
        for (int64_t j = 0; j < end; j++) {
            decay[j] = exp32(sums[j]);
            within[j] = beta * kk[j] * decay[j];
            weights[j] = qk[j] * decay[j];
        }
    }
    for (int64_t i = 0; i < in.rows; i++) entry[i] = exp32(entry[i]);
}

// Columns of sums of a triangle, which stay in registers.
#if defined(__AVX512F__)
constexpr int triangle_columns = 32;
#else
constexpr int triangle_columns = 8;
#endif
constexpr int triangle_rows = 8;

// A block of add_lower() on the diagonal: rows and columns [0, rows) of a.
template <int columns, bool diagonal, bool itself>
inline void add_triangle(const float * a, const float * b, float * c, int64_t n) {
    float sums[triangle_rows][columns];
#pragma GCC unroll 8
    for (int r = 0; r < triangle_rows; r++) {
        for (int l = 0; l < columns; l++) sums[r][l] = c[r * n + l];
#pragma GCC unroll 8
        for (int s = 0; s < r + diagonal; s++) {
            const float x = a[r * delta_chunk + s];
            for (int l = 0; l < columns; l++) sums[r][l] = fma32(x, itself ? sums[s][l] : b[s * n + l], sums[r][l]);
        }
    }
    for (int r = 0; r < triangle_rows; r++)
        for (int l = 0; l < columns; l++) c[r * n + l] = sums[r][l];
}

// c[i] += sum over j < i (or j <= i, with the diagonal) of a[i, j] b[j], in order, where b is c without the diagonal. A row
// sees nothing of those after it, be it NaN.
template <bool diagonal>
inline void add_lower(int64_t rows, int64_t n, const float * a, const float * b, float * c) {
    for (int64_t first = 0; first < rows; first += triangle_rows) {
        const int64_t end = first + triangle_rows < rows ? first + triangle_rows : rows;
        if (first > 0)
            add_products(end - first,
                         {n, first, a + first * delta_chunk, delta_chunk, 1, b, n, c + first * n, n, false});
        const float * const corner = a + first * delta_chunk + first;
        int64_t column = 0;
        if (end - first == triangle_rows)
            for (; column + triangle_columns <= n; column += triangle_columns)
                add_triangle<triangle_columns, diagonal, !diagonal>(corner, b + first * n + column,
                                                                    c + first * n + column, n);
        if (column == n) continue;
        for (int64_t i = first; i < end; i++) {
            const int64_t count = i - first + (diagonal ? 1 : 0);
            if (count > 0)
                add_products(1, {n - column, count, a + i * delta_chunk + first, 0, 1, b + first * n + column, n,
                                 c + i * n + column, n, false});
        }
    }
}

inline void delta_chunked(const DeltaRows & in) {
    float decay[delta_chunk], entry[delta_chunk];
    const int64_t n = in.value_head;
    decay_products(in, decay, entry);
    add_products(in.rows, {n, in.key_head, in.k, in.key_head, 1, in.memory, n, in.news, n, true});
    for (int64_t i = 0; i < in.rows; i++) {
        const float beta = in.beta[i], e = -entry[i];
        const float * __restrict v = in.v + i * in.v_stride;
        float * __restrict news = in.news + i * n;
        for (int64_t c = 0; c < n; c++) news[c] = beta * fma32(e, news[c], v[c]);
    }
    add_lower<false>(in.rows, n, in.within, in.news, in.news);
    add_products(in.rows, {n, in.key_head, in.q, in.key_head, 1, in.memory, n, in.out, n, true});
    for (int64_t i = 0; i < in.rows; i++)
        for (int64_t c = 0; c < n; c++) in.out[i * n + c] *= entry[i];
    add_lower<true>(in.rows, n, in.weights, in.news, in.out);
    for (int64_t i = 0; i < in.rows; i++)
        for (int64_t c = 0; c < n; c++) in.news[i * n + c] *= decay[i];
    const float last = entry[in.rows - 1];
    for (int64_t i = 0; i < in.key_head * n; i++) in.memory[i] *= last;
    add_products(in.key_head, {n, in.rows, in.k, 1, in.key_head, in.news, n, in.memory, n, false});
}

// Position i of columns [column, column + 16 * vectors): the memory is read twice and written once, sums stay in registers.
template <int vectors>
inline void recur_vectors(const DeltaRows & in, int64_t i, float decay, int64_t column) {
    const int64_t n = in.value_head;
    const float *q = in.q + i * in.key_head, *k = in.k + i * in.key_head, *v = in.v + i * in.v_stride + column;
    float * const memory = in.memory + column;
    Lanes decays, news[vectors] = {}, out[vectors] = {};
    fill(decay, decays);
    for (int64_t d = 0; d < in.key_head; d++) {
        Lanes x;
        fill(k[d], x);
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) {
            Lanes row;
            load(memory + d * n + 16 * j, row);
            multiply_lanes(decays, row);
            fma_lanes(x, row, news[j]);
        }
    }
    for (int j = 0; j < vectors; j++) {
        float values[16];
        store(news[j], values);
        for (int c = 0; c < 16; c++) values[c] = in.beta[i] * (v[16 * j + c] - values[c]);
        load(values, news[j]);
    }
    for (int64_t d = 0; d < in.key_head; d++) {
        Lanes x, y;
        fill(k[d], x), fill(q[d], y);
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) {
            Lanes row;
            load(memory + d * n + 16 * j, row);
            multiply_lanes(decays, row);
            fma_lanes(x, news[j], row);
            store(row, memory + d * n + 16 * j);
            fma_lanes(y, row, out[j]);
        }
    }
    for (int j = 0; j < vectors; j++) store(out[j], in.out + i * n + column + 16 * j);
}

// The same of one column.
inline void recur_column(const DeltaRows & in, int64_t i, float decay, int64_t column) {
    const int64_t n = in.value_head;
    const float *q = in.q + i * in.key_head, *k = in.k + i * in.key_head;
    float * const memory = in.memory + column;
    float news = 0, out = 0;
    for (int64_t d = 0; d < in.key_head; d++) news = fma32(k[d], decay * memory[d * n], news);
    news = in.beta[i] * (in.v[i * in.v_stride + column] - news);
    for (int64_t d = 0; d < in.key_head; d++) {
        memory[d * n] = fma32(k[d], news, decay * memory[d * n]);
        out = fma32(q[d], memory[d * n], out);
    }
    in.out[i * n + column] = out;
}

inline void delta_recurrent(const DeltaRows & in) {
    constexpr int most = Lanes::parts == 1 ? 8 : Lanes::parts == 2 ? 2 : 1; // whose sums fit into registers
    for (int64_t i = 0; i < in.rows; i++) {
        const float decay = exp32(in.g[i]);
        int64_t column = 0;
        for (; column + 16 * most <= in.value_head; column += 16 * most) recur_vectors<most>(in, i, decay, column);
        for (; column + 16 <= in.value_head; column += 16) recur_vectors<1>(in, i, decay, column);
        for (; column < in.value_head; column++) recur_column(in, i, decay, column);
    }
}

constexpr DeltaLoops delta_loops = {delta_gates,    normalize_queries, normalize_keys,
                                    delta_products, delta_chunked,     delta_recurrent};

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
