// Rows of a matrix as vectors of its columns. Included after the definitions that cpu/gemm_vectors.h names.
#pragma once

#include <cstdint>

namespace gnv::cpu {

namespace {

constexpr int64_t vector_bytes = 4 * lanes;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// `bytes` <= vector_bytes of each of `lanes` rows as vectors, transposed; rows from `count` on and bytes beyond are
// zeros.
inline void load_transposed(const uint8_t * first, int64_t stride_bytes, int count, int64_t bytes,
                            Words (&vectors)[lanes]) {
    if (count >= lanes && bytes == vector_bytes) {
#pragma GCC unroll 16
        for (int row = 0; row < lanes; row++) vectors[row] = load(first + row * stride_bytes);
    } else {
        const auto part = part_of(bytes);
#pragma GCC unroll 16
        for (int row = 0; row < lanes; row++)
            vectors[row] = row < count ? load_part(first + row * stride_bytes, part) : zero();
    }
    transpose(vectors);
}

} // namespace

} // namespace gnv::cpu
