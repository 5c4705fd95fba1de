// Weights of one row's products on their way through shared memory: a group is four units (few_rows_product.cuh) of 16 rows of w, which
// a warp copies for itself. Lines of 256 bytes are read, and each lane's 16 bytes of a unit and half are put where it finds them.
#pragma once

#include "cuda/few_rows_product.cuh"

namespace gnv::cuda::one_row {

using few_rows::tile;
using few_rows::unit_bytes;
using few_rows::warps;

constexpr int group = 4; // units
constexpr int unit_stride = tile * unit_bytes, half_stride = unit_stride / 2, codes_bytes = group * unit_stride;
constexpr int scales_bytes = tile * group * 8, coded_bytes = codes_bytes + scales_bytes;

// Whether copies of 16 bytes can begin at w, and at the block scales of rows of k % 256 == 0 numbers.
inline bool is_aligned(const FewRowsWeight & w) {
    return reinterpret_cast<uintptr_t>(w.data) % 16 == 0 && reinterpret_cast<uintptr_t>(w.block_scales) % 16 == 0;
}

// Rows of w from one on, as a lane copies them.
struct GroupSource {
    const uint8_t *codes, *scales; // of this lane; scales null: BF16
    int row_bytes, limit;          // limit: last row that exists

    // From byte `at` of w on, which is in the first row, of `rows` that exist, perhaps less than one.
    __device__ void begin(const FewRowsWeight & w, int64_t at, int bytes_of_row, int64_t rows) {
        const int lane = threadIdx.x % warp_size;
        row_bytes = bytes_of_row, limit = int(min(rows, int64_t(tile))) - 1;
        codes = static_cast<const uint8_t *>(w.data) + at + lane % 16 * 16;
        scales = nullptr;
        if (w.block_scales)
            scales = w.block_scales + at / 8 + int64_t(min(lane / 2, limit)) * (row_bytes / 8) + lane % 2 * 16;
    }
    // Copies a group; the next one is behind it.
    __device__ void copy(uint8_t * to) {
        const int lane = threadIdx.x % warp_size, unit = lane % 16 / 4;
        // In odd units neighbouring rows change places, so that the units of a row are in different banks.
        uint8_t * const mine = to + unit * unit_stride + (lane / 16 ^ unit % 2) * 64 + lane % 4 * 16;
#pragma unroll
        for (int i = 0; i < tile / 2; i++)
            copy_16_bytes(mine + i % 4 * 128 + i / 4 * half_stride,
                          codes + int64_t(min(lane / 16 + 2 * i, limit)) * row_bytes);
        codes += group * unit_bytes;
        if (!scales) return;
        copy_16_bytes(to + codes_bytes + lane * 16, scales);
        scales += group * 8;
    }
};

// sum += a group of BF16 weights times x, from this lane's first chunk of the group on. `read` is called when the group is in
// registers: its place may be taken.
template <class Read>
__device__ void add_plain(const uint8_t * from, const uint4 * x, float (&sum)[4], const Read & read) {
    const int lane = threadIdx.x % warp_size;
    uint4 words[group][2];
#pragma unroll
    for (int u = 0; u < group; u++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            words[u][half] =
                reinterpret_cast<const uint4 *>(from + u * unit_stride + half * half_stride)[lane ^ u % 2 * 4];
    read();
#pragma unroll
    for (int u = 0; u < group; u++) {
        const uint4 eight = x[u * 4 + u / 2];
        const uint4 &w = words[u][0], &below = words[u][1];
        multiply_add(sum, {w.x, below.x, w.y, below.y}, eight.x, eight.y);
        multiply_add(sum, {w.z, below.z, w.w, below.w}, eight.z, eight.w);
    }
}

// sum += unit u of NVFP4 weights times x, a row that is arranged for codes, from this lane's first chunk of the unit on.
__device__ inline void add_coded_unit(const uint4 (&words)[2], const uint16_t (&scales)[2], const uint4 * x,
                                      float (&sum)[4]) {
    const __nv_bfloat162 of_w[2] = {two_large_scales(scales[0]), two_large_scales(scales[1])};
#pragma unroll
    for (int p = 0; p < 4; p++) {
        uint32_t w[2][4];
#pragma unroll
        for (int half = 0; half < 2; half++)
            few_rows::pairs_of_codes(few_rows::word_of(words[half], p),
                                     p < 2 ? __low2bfloat162(of_w[half]) : __high2bfloat162(of_w[half]), w[half]);
        const uint4 pairs = x[p];
        multiply_add(sum, {w[0][0], w[1][0], w[0][1], w[1][1]}, pairs.x, pairs.y);
        multiply_add(sum, {w[0][2], w[1][2], w[0][3], w[1][3]}, pairs.z, pairs.w);
    }
}
constexpr int unit_chunks = 18; // of an arranged row, with those that are left out

// The same of a group. A loop: instructions that run once take longer to arrive than to run.
__device__ inline void add_coded(const uint8_t * from, const uint4 * x, float (&sum)[4]) {
    const int lane = threadIdx.x % warp_size;
    const auto * scales = reinterpret_cast<const uint16_t *>(from + codes_bytes) + lane / 4 * 16 + lane % 4;
#pragma unroll 1
    for (int u = 0; u < group; u++, from += unit_stride, scales += 4, x += unit_chunks) {
        const auto * const words = reinterpret_cast<const uint4 *>(from) + (lane ^ u % 2 * 4);
        add_coded_unit({words[0], words[half_stride / 16]}, {scales[0], scales[8 * 16]}, x, sum);
    }
}

// This lane's first chunk of unit u of a row, plain or arranged.
__device__ inline const uint4 * plain_chunks(const uint4 * row, int u) { return row + u * 4 + u / 2 + threadIdx.x % 4; }
__device__ inline const uint4 * arranged_chunks(const uint4 * row, int u) {
    return row + u * unit_chunks + threadIdx.x % 4 * 4 + threadIdx.x % 4 / 2;
}

} // namespace gnv::cuda::one_row
