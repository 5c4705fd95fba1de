// The sums of few_rows.cuh: rows of x in shared memory, rows of w from memory.
#pragma once

#include "cuda/chain.cuh"
#include "cuda/few_rows.cuh"
#include "cuda/widen.cuh"

namespace gnv::cuda::few_rows {

constexpr int warps = 8, threads = warps * warp_size;

// Rows in units of eight numbers. Lanes that read the same unit of neighbouring chunks of four units find it in different banks.
struct SharedRows {
    uint4 * memory;
    int units_a_row;
    __device__ uint4 & unit(int row, int i) const {
        return memory[row * units_a_row + ((i & ~3) | ((i + (i >> 3)) & 3))];
    }
};

// to = from as inputs of a W4A4 product; `scale_of`: the input scale of a row. May be the same rows.
template <class ScaleOf>
__device__ void quantize(const SharedRows & from, const SharedRows & to, int rows, int64_t k,
                         const ScaleOf & scale_of) {
    const int blocks = int(k / 16);
    for (int i = threadIdx.x; i < rows * blocks; i += threads) {
        const int row = i / blocks, first = i % blocks * 2;
        float values[2][8];
        for (int half = 0; half < 2; half++) {
            const uint4 eight = from.unit(row, first + half);
            const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float2 pair = numbers_of(words[j]);
                values[half][2 * j] = pair.x, values[half][2 * j + 1] = pair.y;
            }
        }
        quantize_block(values, scale_of(row));
        for (int half = 0; half < 2; half++) to.unit(row, first + half) = pack(values[half]);
    }
}

__device__ inline uint4 load_once(const uint4 * from) { return __ldcs(from); } // no other block reads it

__device__ inline void unpack(uint4 eight, float (&out)[8]) {
    const float2 a = numbers_of(eight.x), b = numbers_of(eight.y), c = numbers_of(eight.z), d = numbers_of(eight.w);
    out[0] = a.x, out[1] = a.y, out[2] = b.x, out[3] = b.y, out[4] = c.x, out[5] = c.y, out[6] = d.x, out[7] = d.y;
}

// Lanes that share a row of w in NVFP4: a power of two.
__host__ __device__ inline int lanes_of_row(int64_t k) {
    int lanes = warp_size;
    while (lanes > 1 && lanes / 2 >= k / 32) lanes /= 2;
    return lanes;
}

template <int each, int rows>
__device__ void add_lanes(float (&sums)[each][rows], int lanes) {
#pragma unroll
    for (int i = 0; i < each; i++)
#pragma unroll
        for (int t = 0; t < rows; t++)
            for (int step = lanes / 2; step > 0; step /= 2) sums[i][t] += __shfl_xor_sync(all_lanes, sums[i][t], step);
}

// sums[i][t] = w(i) . x[t], by a warp, of `each` rows of BF16.
template <int each, int rows, int ahead, class RowOf>
__device__ void dot_bf16(const RowOf & w, const SharedRows & x, int units, float (&sums)[each][rows]) {
    const int lane = threadIdx.x % warp_size;
    float second[each][rows] = {}; // of odd columns
#pragma unroll
    for (int i = 0; i < each; i++)
#pragma unroll
        for (int t = 0; t < rows; t++) sums[i][t] = 0;
    for (int base = lane; base < units; base += ahead * warp_size) {
        uint4 loaded[ahead][each];
#pragma unroll
        for (int a = 0; a < ahead; a++)
#pragma unroll
            for (int i = 0; i < each; i++)
                if (base + a * warp_size < units) loaded[a][i] = load_once(w(i) + base + a * warp_size);
#pragma unroll
        for (int a = 0; a < ahead; a++) {
            const int unit = base + a * warp_size;
            if (unit >= units) break;
            const auto add = [&](int i, int t, const float(&xs)[8]) {
                float ws[8];
                unpack(loaded[a][i], ws);
#pragma unroll
                for (int j = 0; j < 8; j += 2) {
                    sums[i][t] = fmaf(ws[j], xs[j], sums[i][t]);
                    second[i][t] = fmaf(ws[j + 1], xs[j + 1], second[i][t]);
                }
            };
            float xs[8];
#pragma unroll
            for (int t = 0; t < rows; t++) {
                unpack(x.unit(t, unit), xs);
#pragma unroll
                for (int i = 0; i < each; i++) add(i, t, xs);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < each; i++)
#pragma unroll
        for (int t = 0; t < rows; t++) sums[i][t] += second[i][t];
    add_lanes(sums, warp_size);
}

// Chunks of 32 codes of `each` rows of w in NVFP4, of which lanes take turns, and the two scales of each.
template <int each, int ahead, class CodesOf, class ScalesOf>
__device__ void load_chunks(const CodesOf & codes_of, const ScalesOf & scales_of, int first, int lanes, int chunks,
                            uint4 (&codes)[ahead][each], uint16_t (&scales)[ahead][each]) {
#pragma unroll
    for (int a = 0; a < ahead; a++)
#pragma unroll
        for (int i = 0; i < each; i++)
            if (first + a * lanes < chunks) {
                codes[a][i] = load_once(reinterpret_cast<const uint4 *>(codes_of(i)) + first + a * lanes);
                scales[a][i] = __ldcs(reinterpret_cast<const uint16_t *>(scales_of(i)) + first + a * lanes);
            }
}
// Values of the p-th eight codes of a chunk, without their scale.
__device__ inline void decode_eight(const uint4 & chunk, int p, float (&out)[8]) {
    uint32_t words[4];
    code_pairs(p == 0 ? chunk.x : p == 1 ? chunk.y : p == 2 ? chunk.z : chunk.w, words);
    unpack({words[0], words[1], words[2], words[3]}, out);
}
__device__ inline float block_scale(uint16_t pair, int half) { // of 16 codes of a chunk
    __nv_fp8_e4m3 byte;
    byte.__x = uint8_t(half == 0 ? pair : pair >> 8);
    return float(byte);
}

// The same of NVFP4, without global scales: codes_of(i) and scales_of(i) are rows of w for this lane's share of the warp, of which
// `lanes` neighbours have a row together. k = 32 * chunks.
template <int each, int rows, int ahead, class CodesOf, class ScalesOf>
__device__ void dot_nvfp4(const CodesOf & codes_of, const ScalesOf & scales_of, const SharedRows & x, int chunks,
                          int lanes, float (&sums)[each][rows]) {
    constexpr bool keeps_x = rows <= 2; // in registers, for all rows of w; else the rows of w for all of x
    const int lane = threadIdx.x % lanes;
#pragma unroll
    for (int i = 0; i < each; i++)
#pragma unroll
        for (int t = 0; t < rows; t++) sums[i][t] = 0;
    for (int base = lane; base < chunks; base += ahead * lanes) {
        uint4 loaded[ahead][each];
        uint16_t pair[ahead][each]; // of block scales
        load_chunks(codes_of, scales_of, base, lanes, chunks, loaded, pair);
#pragma unroll
        for (int a = 0; a < ahead; a++) {
            const int chunk = base + a * lanes;
            if (chunk >= chunks) break;
            float block[each][rows];
#pragma unroll
            for (int p = 0; p < 4; p++) { // eight codes
                const auto add = [&](int i, int t, const float(&ws)[8], const float(&xs)[8]) {
                    float sum = p % 2 == 0 ? 0.0f : block[i][t];
#pragma unroll
                    for (int j = 0; j < 8; j++) sum = fmaf(ws[j], xs[j], sum);
                    block[i][t] = sum;
                };
                if constexpr (keeps_x) {
                    float xs[rows][8];
#pragma unroll
                    for (int t = 0; t < rows; t++) unpack(x.unit(t, chunk * 4 + p), xs[t]);
#pragma unroll
                    for (int i = 0; i < each; i++) {
                        float ws[8];
                        decode_eight(loaded[a][i], p, ws);
#pragma unroll
                        for (int t = 0; t < rows; t++) add(i, t, ws, xs[t]);
                    }
                } else {
                    float ws[each][8];
#pragma unroll
                    for (int i = 0; i < each; i++) decode_eight(loaded[a][i], p, ws[i]);
#pragma unroll
                    for (int t = 0; t < rows; t++) {
                        float xs[8];
                        unpack(x.unit(t, chunk * 4 + p), xs);
#pragma unroll
                        for (int i = 0; i < each; i++) add(i, t, ws[i], xs);
                    }
                }
                if (p % 2 == 0) continue;
#pragma unroll
                for (int i = 0; i < each; i++) {
                    const float scale = block_scale(pair[a][i], p / 2);
#pragma unroll
                    for (int t = 0; t < rows; t++) sums[i][t] = fmaf(scale, block[i][t], sums[i][t]);
                }
            }
        }
    }
    add_lanes(sums, lanes);
}

// As dot_nvfp4 and dot_bf16, of one row x in memory or shared memory, which each lane reads for itself; input_scale: of a W4A4 product, or 0.
template <int each, class CodesOf, class ScalesOf>
__device__ void dot_nvfp4_of_row(const CodesOf & codes_of, const ScalesOf & scales_of, const bf16 * x,
                                 float input_scale, int chunks, int lanes, float (&sums)[each][1]) {
#pragma unroll
    for (int i = 0; i < each; i++) sums[i][0] = 0;
    constexpr int ahead = 2;
    for (int base = threadIdx.x % lanes; base < chunks; base += ahead * lanes) {
        uint4 loaded[ahead][each];
        uint16_t pair[ahead][each]; // of block scales
        load_chunks(codes_of, scales_of, base, lanes, chunks, loaded, pair);
#pragma unroll
        for (int a = 0; a < ahead; a++) {
            const int chunk = base + a * lanes;
            if (chunk >= chunks) break;
#pragma unroll
            for (int half = 0; half < 2; half++) { // a block of 16
                float xs[2][8];
                load_several<8>(x + chunk * 32 + half * 16, xs[0]);
                load_several<8>(x + chunk * 32 + half * 16 + 8, xs[1]);
                if (input_scale != 0) quantize_block(xs, input_scale);
#pragma unroll
                for (int i = 0; i < each; i++) {
                    float block = 0;
#pragma unroll
                    for (int p = 0; p < 2; p++) {
                        float ws[8];
                        decode_eight(loaded[a][i], 2 * half + p, ws);
#pragma unroll
                        for (int j = 0; j < 8; j++) block = fmaf(ws[j], xs[p][j], block);
                    }
                    sums[i][0] = fmaf(block_scale(pair[a][i], half), block, sums[i][0]);
                }
            }
        }
    }
    add_lanes(sums, lanes);
}

template <int each, class RowOf>
__device__ void dot_bf16_of_row(const RowOf & w, const bf16 * x, float input_scale, int units, float (&sums)[each][1]) {
    constexpr int ahead = 2;
    const int lane = threadIdx.x % warp_size;
    float second[each] = {}; // of odd columns
#pragma unroll
    for (int i = 0; i < each; i++) sums[i][0] = 0;
    for (int base = 0; base < units; base += ahead * warp_size) { // all lanes, which quantize together
        uint4 loaded[ahead][each], from[ahead];
#pragma unroll
        for (int a = 0; a < ahead; a++) {
            const int unit = base + a * warp_size + lane;
            from[a] = {0, 0, 0, 0};
            if (unit >= units) continue;
            from[a] = reinterpret_cast<const uint4 *>(x)[unit];
#pragma unroll
            for (int i = 0; i < each; i++) loaded[a][i] = load_once(w(i) + unit);
        }
#pragma unroll
        for (int a = 0; a < ahead; a++) {
            float xs[8];
            unpack(from[a], xs);
            if (input_scale != 0) { // a block of 16 is this lane's unit and its neighbour's
                float both[2][8];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    const float other = __shfl_xor_sync(all_lanes, xs[j], 1);
                    both[0][j] = xs[j], both[1][j] = other;
                }
                quantize_block(both, input_scale);
#pragma unroll
                for (int j = 0; j < 8; j++) xs[j] = both[0][j];
            }
            if (base + a * warp_size + lane >= units) continue;
#pragma unroll
            for (int i = 0; i < each; i++) {
                float ws[8];
                unpack(loaded[a][i], ws);
#pragma unroll
                for (int j = 0; j < 8; j += 2) {
                    sums[i][0] = fmaf(ws[j], xs[j], sums[i][0]);
                    second[i] = fmaf(ws[j + 1], xs[j + 1], second[i]);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < each; i++) sums[i][0] += second[i];
    add_lanes(sums, warp_size);
}

// finish(i, t, sum) for each sum of a warp, or of `lanes` neighbours of it: as many at once as there are lanes.
template <int each, int rows, class Finish>
__device__ void hand_out(const float (&sums)[each][rows], int lanes, const Finish & finish) {
    for (int at = threadIdx.x % lanes; at < each * rows; at += lanes) {
        float mine = 0;
#pragma unroll
        for (int i = 0; i < each; i++)
#pragma unroll
            for (int t = 0; t < rows; t++)
                if (at == i * rows + t) mine = sums[i][t];
        finish(at / rows, at % rows, mine);
    }
}

// Rows of w that lanes take together.
template <int rows>
constexpr int nvfp4_each = rows <= 2 ? 4 : 2;
template <int rows>
constexpr int bf16_each = rows <= 2 ? 2 : 1;

// Rows of w that a warp takes at once; fewer where there are too few for all warps of the device.
template <int rows>
int rows_of_warp(const FewRowsWeight & w, int64_t k, int processors) {
    if (w.block_scales) return nvfp4_each<rows> * (warp_size / lanes_of_row(k));
    return w.n >= int64_t(2) * processors * warps * bf16_each<rows> ? bf16_each<rows> : 1;
}

template <int each, int rows, class Finish>
__device__ void multiply_bf16(const FewRowsWeight & w, int64_t end, int64_t first, int64_t k, const SharedRows & x,
                              const Finish & finish) {
    if (first >= end) return;
    const auto * const data = static_cast<const uint4 *>(w.data);
    float sums[each][rows];
    dot_bf16<each, rows, 4>([&](int i) { return data + min(first + i, end - 1) * (k / 8); }, x, int(k / 8), sums);
    hand_out(sums, warp_size, [&](int i, int t, float sum) {
        if (first + i < end) finish(t, first + i, sum);
    });
}

template <int rows, class Finish>
__device__ void multiply_nvfp4(const FewRowsWeight & w, int64_t end, int64_t first, int64_t k, const SharedRows & x,
                               const Finish & finish) {
    constexpr int each = nvfp4_each<rows>;
    const int lanes = lanes_of_row(k), share = int(threadIdx.x) % warp_size / lanes;
    const int64_t mine = first + share * each, begin = min(mine, end - 1);
    const int last = int(min(int64_t(each), end - begin)) - 1; // rows behind it are read as this one
    const uint8_t * const codes = static_cast<const uint8_t *>(w.data) + begin * (k / 2);
    const uint8_t * const scales = w.block_scales + begin * (k / 16);
    float sums[each][rows];
    dot_nvfp4<each, rows, rows <= 2 ? 2 : 1>([&](int i) { return codes + min(i, last) * int(k / 2); },
                                             [&](int i) { return scales + min(i, last) * int(k / 16); }, x, int(k / 32),
                                             lanes, sums);
    hand_out(sums, lanes, [&](int i, int t, float sum) {
        if (mine + i < end) finish(t, mine + i, sum);
    });
}

// What the weights of a launch are; kernels for one kind need fewer registers.
enum class Weights : uint8_t { bf16, nvfp4, both };

// finish(t, column, sum) for w[first ..] . x[t], `count` rows of w [end, k] as rows_of_warp() says; by one lane each.
template <int rows, Weights kinds, class Finish>
__device__ void multiply(const FewRowsWeight & w, int64_t end, int64_t first, int count, int64_t k,
                         const SharedRows & x, const Finish & finish) {
    if constexpr (kinds != Weights::nvfp4)
        if (kinds == Weights::bf16 || !w.block_scales) {
            if (count == 1) {
                multiply_bf16<1, rows>(w, end, first, k, x, finish);
            } else {
                multiply_bf16<bf16_each<rows>, rows>(w, end, first, k, x, finish);
            }
            return;
        }
    if constexpr (kinds != Weights::bf16) multiply_nvfp4<rows>(w, end, first, k, x, finish);
}
} // namespace gnv::cuda::few_rows
