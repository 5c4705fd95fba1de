// Tensor: a view of memory with another owner. It describes the bytes, not their purpose.
//
// Dense and row-major, as in safetensors: the last dimension is contiguous. A matrix is [rows, columns]; linear(x[T,
// K], w[N, K]) gives [T, N].
#pragma once

#include "core/dtype.h"

#include <cstdint>
#include <initializer_list>
#include <string>

namespace gnv {

struct Shape {
    static constexpr int max_rank = 5;
    int rank = 0;
    int64_t dims[max_rank] = {};

    Shape() = default;
    Shape(std::initializer_list<int64_t> list) {
        for (const int64_t dim : list) dims[rank++] = dim;
    }
    int64_t operator[](int i) const { return dims[i]; }
    int64_t last() const { return dims[rank - 1]; }
    int64_t elements() const { // 1 for a scalar
        int64_t count = 1;
        for (int i = 0; i < rank; i++) count *= dims[i];
        return count;
    }
    int64_t rows() const { return last() == 0 ? 0 : elements() / last(); } // all but the last dimension
    friend bool operator==(const Shape & a, const Shape & b) {
        if (a.rank != b.rank) return false;
        for (int i = 0; i < a.rank; i++)
            if (a.dims[i] != b.dims[i]) return false;
        return true;
    }
};

std::string dims_text(const Shape & shape); // "[70, 256]"

// What belongs to a weight whose BF16 numbers are compact (cpu/compact_bf16.h).
struct CompactRows {
    const uint8_t * table = nullptr;
    const uint32_t * first = nullptr; // by two rows
    const void * whole = nullptr;
};

struct Tensor {
    DType dtype = DType::f32;
    Shape shape; // in elements, also if two share a byte
    void * data = nullptr;

    // Weights in NVFP4 only (dtype f4, shape [..., N, K]): `data` holds the codes, K / 2 bytes a row, low nibble first.
    const uint8_t * block_scales = nullptr; // E4M3 [..., N, K / 16]
    const float * global_scales = nullptr;  // [rows / global_scale_rows]; weight = value * block scale / global scale
    int64_t global_scale_rows = 0;          // rows with one global scale

    // Weights in BF16 only, of products on the CPU: with a table `data` holds codes in place of numbers.
    CompactRows compact = {};

    bool is_compact() const { return compact.table != nullptr; }
    bool exists() const { return data != nullptr; }
    template <class T>
    T * as() const {
        return static_cast<T *>(data);
    }
};

// Bytes of a dense tensor; of the codes for NVFP4.
uint64_t tensor_bytes(DType dtype, const Shape & shape);
// The same for a part of a weight with this shape, as the weight lies.
uint64_t stored_bytes(const Tensor & weight, const Shape & shape);
// Rows of a weight [.., K] from `first` on, which make a weight of this shape: the same memory. The pointer to global scales is not
// moved: the caller sets it. Of a compact weight `first` is even.
Tensor rows_from(const Tensor & weight, int64_t first, const Shape & shape);

} // namespace gnv
