// Small matrix products in the caches, for attention and the Gated DeltaNet. Part of cpu/loops.h's variants.
#pragma once

namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

// Rows and columns of sums in registers. Every sum is the same chain for any of these numbers.
#if defined(__AVX512F__)
constexpr int product_rows = 4, product_columns = 64;
#else
constexpr int product_rows = 2, product_columns = 32;
#endif
constexpr int64_t product_depth = 64; // rows of b that are used again while they are near

struct Products {
    int64_t n, k; // columns of b and c, rows of b
    const float * a;
    int64_t a_row, a_step; // a[i, s] is a[i * a_row + s * a_step]
    const float * b;
    int64_t b_stride;
    float * c;
    int64_t c_stride;
    bool from_zero;
};

template <int rows, int columns>
inline void product_tile(const Products & p, int64_t i, int64_t j) {
    const float * a = p.a + i * p.a_row;
    const float * b = p.b + j;
    float * c = p.c + i * p.c_stride + j;
    const int64_t a_row = p.a_row, a_step = p.a_step, b_stride = p.b_stride, depth = p.k;
    float sums[rows][columns];
    for (int r = 0; r < rows; r++)
        for (int l = 0; l < columns; l++) sums[r][l] = p.from_zero ? 0.0f : c[r * p.c_stride + l];
    for (int64_t s = 0; s < depth; s++) {
        for (int r = 0; r < rows; r++) {
            const float x = a[r * a_row + s * a_step];
            for (int l = 0; l < columns; l++) sums[r][l] = fma32(x, b[s * b_stride + l], sums[r][l]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int l = 0; l < columns; l++) c[r * p.c_stride + l] = sums[r][l];
}

// One row of any number of columns from j on.
inline void product_row(const Products & p, int64_t i, int64_t j) {
    const float * a = p.a + i * p.a_row;
    const float * b = p.b + j;
    float * __restrict c = p.c + i * p.c_stride + j;
    const int64_t columns = p.n - j, stride = p.b_stride;
    if (p.from_zero)
        for (int64_t l = 0; l < columns; l++) c[l] = 0;
    int64_t s = 0;
    for (; s + 4 <= p.k; s += 4) {
        const float x0 = a[s * p.a_step], x1 = a[(s + 1) * p.a_step], x2 = a[(s + 2) * p.a_step],
                    x3 = a[(s + 3) * p.a_step];
        const float * __restrict b0 = b + s * stride;
        for (int64_t l = 0; l < columns; l++)
            c[l] = fma32(x3, b0[l + 3 * stride],
                         fma32(x2, b0[l + 2 * stride], fma32(x1, b0[l + stride], fma32(x0, b0[l], c[l]))));
    }
    for (; s < p.k; s++) {
        const float x = a[s * p.a_step];
        const float * __restrict b0 = b + s * stride;
        for (int64_t l = 0; l < columns; l++) c[l] = fma32(x, b0[l], c[l]);
    }
}

// Narrow panels take more rows: it needs many chains to hide the latency of a multiply-add.
template <int columns>
inline void product_panel(const Products & p, int64_t m, int64_t j) {
    constexpr int rows = columns < 32 ? 8 : product_rows;
    int64_t i = 0;
    for (; i + rows <= m; i += rows) product_tile<rows, columns>(p, i, j);
    for (; i < m; i++) product_tile<1, columns>(p, i, j);
}

// At most product_depth rows of b: panels of few columns, each copied together where its rows lie far apart, since
// lines of the cache at such distances push each other out.
inline void product_slab(int64_t m, const Products & products) {
    constexpr int64_t far = 2 * product_columns, many = 16;
    float packed[product_depth * product_columns];
    Products p = products;
    int64_t j = 0;
    for (; j + product_columns <= p.n; j += product_columns) {
        if (m < many || products.b_stride <= far) {
            product_panel<product_columns>(p, m, j);
            continue;
        }
        for (int64_t s = 0; s < p.k; s++)
            memcpy(packed + s * product_columns, products.b + s * products.b_stride + j,
                   product_columns * sizeof(float));
        Products panel = p;
        panel.b = packed, panel.b_stride = product_columns, panel.c = p.c + j;
        product_panel<product_columns>(panel, m, 0);
    }
    if (product_columns > 32)
        for (; j + 32 <= p.n; j += 32) product_panel<32>(p, m, j);
    for (; j + 16 <= p.n; j += 16) product_panel<16>(p, m, j);
    for (; j + 8 <= p.n; j += 8) product_panel<8>(p, m, j);
    for (; j + 4 <= p.n; j += 4) product_panel<4>(p, m, j);
    if (j < p.n)
        for (int64_t i = 0; i < m; i++) product_row(p, i, j);
}

// c[i, j] = (c[i, j], or 0 when from_zero) + sum over s < k of a[i, s] b[s, j], i < m: one chain of fused multiply-adds
// in ascending order of s. Rows of c are none of b's.
inline void add_products(int64_t m, const Products & products) {
    constexpr int64_t block = 64; // rows of c that stay near
    for (int64_t first = 0; first < m; first += block) {
        Products p = products;
        p.c += first * p.c_stride;
        for (int64_t done = 0; done == 0 || done < products.k; done += product_depth) {
            p.k = products.k - done < product_depth ? products.k - done : product_depth;
            p.a = products.a + first * p.a_row + done * p.a_step, p.b = products.b + done * p.b_stride;
            p.from_zero = products.from_zero && done == 0;
            product_slab(m - first < block ? m - first : block, p);
        }
    }
}

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
