// The sums of few_rows.cuh on tensor cores. A warp multiplies 16 rows of w with up to 8 * nt rows of x (mma.cuh, transposed:
// rows of w are the left operand), so a weight is read once however many rows of x there are.
//
//   k of one row of w, in bytes:   | unit: 16 bytes of each of four lanes | unit | unit | ...
//                                  |<------------- part -------------->|<------- part -------->|
//
// A lane reads its 16 bytes of w at once, and takes the same k of x: which k one product has is free as long as both operands
// agree. The units of a part are added in order, then the parts: the order depends on k and on the kind of the weight alone, so
// a row's bits do not depend on the number of rows, on its place among them, or on how warps share the parts.
#pragma once

#include "cuda/chain.cuh"
#include "cuda/few_rows.cuh"
#include "cuda/mma.cuh"
#include "cuda/row_ops.cuh"
#include "cuda/widen.cuh"

namespace gnv::cuda::few_rows {

constexpr int warps = 8, threads = warps * warp_size;
constexpr int tile = 16;       // rows of w that a warp has
constexpr int x_rows = 8;      // rows of x of a product
constexpr int unit_bytes = 64; // of a row of w
constexpr int most_parts = warps;

// How k is divided.
struct Parts {
    int row_bytes, units, count, each; // `each` units a part; the last parts may have fewer, or none
    __host__ __device__ Parts(bool coded, int64_t k) {
        row_bytes = int(coded ? k / 2 : k * 2);
        units = (row_bytes + unit_bytes - 1) / unit_bytes;
        count = 1;
        while (count < most_parts && count * 8 <= units) count *= 2; // at least four units each
        each = (units + count - 1) / count;
    }
};

// Rows of x in shared memory, in chunks of eight numbers, with room up to the end of the last unit. A chunk is left out behind
// each eight, and rows are shifted by two: lanes that read at once find their chunks in different banks.
struct SharedRows {
    uint4 * memory = nullptr;
    int chunks_a_row = 0;
    static __host__ __device__ int used_chunks(int64_t k) { return int((k + 127) / 128 * 16); } // whole units of codes
    static __host__ __device__ int chunks_for(int64_t k) {
        const int chunks = used_chunks(k), padded = chunks + chunks / 8 + 1;
        return (padded + 5) / 8 * 8 + 2;
    }
    static __host__ __device__ int64_t bytes_for(int64_t k) { return chunks_for(k) * int64_t(sizeof(uint4)); }
    __device__ uint4 & chunk(int row, int i) const { return memory[row * chunks_a_row + i + (i >> 3)]; }
    // Zeros behind k; a block calls it.
    __device__ void clear_ends(int rows, int64_t k) const {
        const int first = int(k / 8), behind = used_chunks(k) - first;
        for (int i = threadIdx.x; i < rows * behind; i += threads) chunk(i / behind, first + i % behind) = {0, 0, 0, 0};
    }
};

// Eight numbers of x as pairs of numbers i and i + 4, which pairs_of_codes() has, too.
__device__ inline uint4 arranged(const uint4 & eight) {
    return {__byte_perm(eight.x, eight.z, 0x5410), __byte_perm(eight.x, eight.z, 0x7632),
            __byte_perm(eight.y, eight.w, 0x5410), __byte_perm(eight.y, eight.w, 0x7632)};
}

// --- Operands ---------------------------------------------------------------------------------------------------------

// What a lane reads of 16 rows of w: of row lane / 4, and of the one eight below. Few registers: pointers of a call's weight are
// constants of the kernel.
struct TileRows {
    const uint8_t * data;
    const uint8_t * scales; // null: BF16
    int64_t first;          // byte of the upper row
    int below;              // bytes from there to the other
    TileRows() = default;
    // Rows [first_row, first_row + tile) of w [n, k], or of w[group]; rows behind n are read as the last.
    __device__ TileRows(const FewRowsWeight & w, int64_t group, int64_t first_row, const Parts & parts)
        : data(static_cast<const uint8_t *>(w.data)), scales(w.block_scales) {
        const int64_t row = first_row + threadIdx.x % warp_size / 4, upper = min(row, w.n - 1);
        first = (group * w.n + upper) * parts.row_bytes;
        below = int(min(row + 8, w.n - 1) - upper) * parts.row_bytes;
    }
    // The same rows of another weight of this shape and kind.
    __device__ TileRows of(const FewRowsWeight & w) const {
        TileRows other = *this;
        other.data = static_cast<const uint8_t *>(w.data), other.scales = w.block_scales;
        return other;
    }
};

// Some units of them, in registers.
template <int units>
struct Loaded {
    uint4 words[units][2];
    uint16_t scales[units][2]; // of both blocks of 16 codes
};

// Past the L1 cache, which keeps x.
__device__ inline uint4 load_weights(const void * from) {
    uint4 words;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(from));
    return words;
}

// Units [first, end), at most `units`.
template <int units>
__device__ void load(Loaded<units> & loaded, const TileRows & w, int first, int end, int row_bytes) {
    const int lane = threadIdx.x % 4;
#pragma unroll
    for (int u = 0; u < units; u++) {
        const int unit = first + u, at = unit * unit_bytes + lane * 16;
        const bool exists = unit < end && at < row_bytes;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int64_t from = w.first + half * w.below + at;
            loaded.words[u][half] = exists ? load_weights(w.data + from) : uint4{0, 0, 0, 0};
            loaded.scales[u][half] =
                exists && w.scales ? __ldg(reinterpret_cast<const uint16_t *>(w.scales + from / 8)) : 0;
        }
    }
}

// Eight codes times 2^-8 (widen.cuh), as pairs of codes i and i + 4.
__device__ inline void pairs_of_codes(uint32_t codes, __nv_bfloat162 large_scale, uint32_t (&pairs)[4]) {
    const auto pair = [&](uint32_t magnitudes, uint32_t signs) {
        const uint32_t bits = (magnitudes & 0x01c001c0) | (signs & 0x80008000);
        const __nv_bfloat162 product = __hmul2(*reinterpret_cast<const __nv_bfloat162 *>(&bits), large_scale);
        return *reinterpret_cast<const uint32_t *>(&product);
    };
    pairs[0] = pair(codes << 6, codes << 12);
    pairs[1] = pair(codes << 2, codes << 8);
    pairs[2] = pair(codes >> 2, codes << 4);
    pairs[3] = pair(codes >> 6, codes);
}

__device__ inline uint32_t word_of(const uint4 & words, int i) {
    return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

// --- Sums -------------------------------------------------------------------------------------------------------------

// What the p-th word of a lane's codes is multiplied with, arranged. x(j, chunk): eight numbers of row 8 j + lane / 4, zeros behind
// its end.
template <class X>
__device__ uint4 beside_codes(const X & x, int j, int unit, int p) {
    return arranged(x(j, unit * 16 + int(threadIdx.x) % 4 * 4 + p));
}

// Rows in shared memory that are arranged for codes, with zeros up to the end of the last unit: fewer steps.
struct ArrangedOperand {
    const uint4 * row[2]; // from this lane's first chunk on
    __device__ ArrangedOperand(const SharedRows & x, int rows, int64_t) {
        const int lane = threadIdx.x % 4;
        for (int j = 0; j < 2; j++)
            row[j] = x.memory + min(j * x_rows + int(threadIdx.x) % warp_size / 4, rows - 1) * x.chunks_a_row +
                     lane * 4 + lane / 2;
    }
};
__device__ inline uint4 beside_codes(const ArrangedOperand & x, int j, int unit, int p) {
    return x.row[j][unit * 18 + p];
}

// sums[m][j] += units [first, end) of tile m times rows [8 j, 8 j + 8) of x, as beside_codes() or x(j, chunk) give them.
template <int mt, int nt, bool coded, int units, class X>
__device__ void add_units(const Loaded<units> (&loaded)[mt], int first, int end, const X & x,
                          float (&sums)[mt][nt][4]) {
#pragma unroll
    for (int u = 0; u < units; u++) {
        if (first + u >= end) break;
        if constexpr (coded) {
            __nv_bfloat162 scales[mt][2]; // of both blocks
#pragma unroll
            for (int m = 0; m < mt; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) scales[m][half] = two_large_scales(loaded[m].scales[u][half]);
#pragma unroll
            for (int p = 0; p < 4; p++) { // a word of eight codes
                uint32_t w[mt][2][4];
#pragma unroll
                for (int m = 0; m < mt; m++)
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        const __nv_bfloat162 both = scales[m][half];
                        pairs_of_codes(word_of(loaded[m].words[u][half], p),
                                       p < 2 ? __low2bfloat162(both) : __high2bfloat162(both), w[m][half]);
                    }
#pragma unroll
                for (int j = 0; j < nt; j++) {
                    const uint4 pairs = beside_codes(x, j, first + u, p);
#pragma unroll
                    for (int m = 0; m < mt; m++) {
                        multiply_add(sums[m][j], {w[m][0][0], w[m][1][0], w[m][0][1], w[m][1][1]}, pairs.x, pairs.y);
                        multiply_add(sums[m][j], {w[m][0][2], w[m][1][2], w[m][0][3], w[m][1][3]}, pairs.z, pairs.w);
                    }
                }
            }
        } else {
#pragma unroll
            for (int j = 0; j < nt; j++) {
                const uint4 eight = x(j, (first + u) * 4 + int(threadIdx.x) % 4);
#pragma unroll
                for (int m = 0; m < mt; m++) {
                    const uint4 &w = loaded[m].words[u][0], &below = loaded[m].words[u][1];
                    multiply_add(sums[m][j], {w.x, below.x, w.y, below.y}, eight.x, eight.y);
                    multiply_add(sums[m][j], {w.z, below.z, w.w, below.w}, eight.z, eight.w);
                }
            }
        }
    }
}

// Where a warp is in its parts.
struct Walk {
    int part, first, end; // units
    __device__ void begin_part(const Parts & parts) {
        first = part * parts.each;
        end = min(first + parts.each, parts.units);
    }
    __device__ Walk(const Parts & parts, int first_part) : part(first_part) { begin_part(parts); }
    // True: another part begins.
    template <int units>
    __device__ bool advance(const Parts & parts) {
        first += units;
        if (first < end) return false;
        part++;
        begin_part(parts);
        return true;
    }
};

template <int mt, int units>
__device__ void load(Loaded<units> (&loaded)[mt], const TileRows (&w)[mt], const Walk & walk, const Parts & parts) {
#pragma unroll
    for (int m = 0; m < mt; m++) load(loaded[m], w[m], walk.first, walk.end, parts.row_bytes);
}

struct LoadNothing {
    template <class T>
    __device__ void operator()(T &) const {}
};

// total = the parts [first_part, first_part + count) of the product, one after another: count is 1 unless `several`.
// `ahead` holds the first units of the first part already, and in the end what load_following(ahead) puts there: that is called
// before the last units are multiplied, so that memory has work meanwhile, or where their number does not allow it at the end.
template <int mt, int nt, bool coded, bool several, int units, class X, class LoadFollowing>
__device__ void add_parts(Loaded<units> (&ahead)[mt], const TileRows (&w)[mt], const Parts & parts, int first_part,
                          int count, const X & x, float (&total)[mt][nt][4], const LoadFollowing & load_following) {
    float of_part[several ? mt : 1][several ? nt : 1][4]; // else a part is all
    const auto for_each_sum = [](const auto & change) {
#pragma unroll
        for (int i = 0; i < mt * nt * 4; i++) change(i / (nt * 4), i / 4 % nt, i % 4);
    };
    const auto begin_part = [&] {
        for_each_sum([&](int m, int j, int i) {
            if constexpr (several) {
                of_part[m][j][i] = 0;
            } else {
                total[m][j][i] = 0;
            }
        });
    };
    const auto end_part = [&](int part) {
        if constexpr (several) {
            for_each_sum([&](int m, int j, int i) {
                total[m][j][i] = part == first_part ? of_part[m][j][i] : total[m][j][i] + of_part[m][j][i];
            });
            begin_part();
        }
    };
    begin_part();
    Loaded<units> other[mt];
    const int last_part = first_part + count;
    Walk walk(parts, first_part);
    // Two sets of registers in turn: one is loaded while the other is multiplied. True: there is more.
    const auto step = [&](Loaded<units>(&now)[mt], Loaded<units>(&next)[mt], const auto & load_behind_all) {
        Walk later = walk;
        const bool ends = later.template advance<units>(parts);
        if (later.part < last_part) {
            load(next, w, later, parts);
        } else {
            load_behind_all(next);
        }
        if constexpr (several) {
            add_units<mt, nt, coded>(now, walk.first, walk.end, x, of_part);
        } else {
            add_units<mt, nt, coded>(now, walk.first, walk.end, x, total);
        }
        if (ends) end_part(walk.part);
        walk = later;
        return walk.part < last_part;
    };
    for (;;) {
        if (!step(ahead, other, LoadNothing())) return load_following(ahead);
        if (!step(other, ahead, load_following)) return;
    }
}

// The sums of a warp in shared memory, for threads that have a column and a row: [8 * nt][stride].
constexpr int sum_stride = tile + 4; // lanes of one store are in different banks
template <int nt>
constexpr int sums_of_warp = nt * x_rows * sum_stride;
template <int nt>
__device__ void put_sums(float * to, const float (&sums)[nt][4]) {
    const int lane = threadIdx.x % warp_size, row = lane / 4, pair = lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < nt; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) to[(j * x_rows + pair + i % 2) * sum_stride + row + i / 2 * 8] = sums[j][i];
}

// 1 / (global scale * input scale) of a product: pairs_of_codes() leaves 2^8 to it.
__device__ inline float product_factor(const FewRowsWeight & w, int64_t row, const float * input_scale) {
    if (!w.block_scales) return factor_of(nullptr, input_scale);
    return factor_of(w.global_scales + unsigned(row) / unsigned(w.global_scale_rows), input_scale) * small_factor;
}

// The sum of a token at `at`, and the steps behind it.
__device__ inline void store_sum(const FewRowsCombine & p, int64_t at, float total,
                                 const float (&operands)[most_row_steps]) {
    p.out[at] = total;
#pragma unroll
    for (int i = 0; i < most_row_steps; i++) {
        if (i >= p.steps) break;
        total = rounded(total + operands[i]);
        p.step[i].out[at] = __float2bfloat16_rn(total);
    }
}

// --- Rows of x --------------------------------------------------------------------------------------------------------

// Blocks [first, blocks) in steps of a row of x as inputs of a W4A4 product.
__device__ inline void quantize_chunks(uint4 & low, uint4 & high, float scale) {
    float values[2][8];
    const uint32_t words[2][4] = {{low.x, low.y, low.z, low.w}, {high.x, high.y, high.z, high.w}};
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 pair = numbers_of(words[half][i]);
            values[half][2 * i] = pair.x, values[half][2 * i + 1] = pair.y;
        }
    quantize_block(values, scale);
    low = pack(values[0]), high = pack(values[1]);
}

// Chunk i of a source that joins two rows: SiLU(x) times the second, or x behind its gates.
__device__ inline uint4 joined_chunk(const RowSource & source, int i) {
    const int64_t at = int64_t(i) * 8;
    float values[8], others[8];
    load_several<8>(source.x + at, values);
    if (source.kind == RowSource::Kind::silu_mul) {
        load_several<8>(source.second + at, others);
#pragma unroll
        for (int j = 0; j < 8; j++) values[j] = silu_mul(values[j], others[j]);
    } else {
        load_several<8>(source.second + at / source.width * source.stride + source.column + at % source.width, others);
#pragma unroll
        for (int j = 0; j < 8; j++) values[j] = sigmoid_gated(values[j], others[j]);
    }
    return pack(values);
}

// Rows that lie in shared memory, of which there are `rows`.
struct SharedOperand {
    const uint4 * row[2]; // of the first two products; only these are there
    int chunks;
    __device__ SharedOperand(const SharedRows & x, int rows, int64_t k) : chunks(int(k / 8)) {
        for (int j = 0; j < 2; j++)
            row[j] = x.memory + min(j * x_rows + int(threadIdx.x) % warp_size / 4, rows - 1) * x.chunks_a_row;
    }
    __device__ uint4 operator()(int j, int chunk) const {
        return chunk < chunks ? row[j][chunk + (chunk >> 3)] : uint4{0, 0, 0, 0};
    }
};

// Rows that lie in memory, as they are.
template <int nt>
struct DirectOperand {
    const uint4 * x;
    int first[nt]; // chunk of a row
    int chunks;
    __device__ DirectOperand(const bf16 * rows_of_x, int rows, int64_t k)
        : x(reinterpret_cast<const uint4 *>(rows_of_x)), chunks(int(k / 8)) {
#pragma unroll
        for (int j = 0; j < nt; j++) first[j] = min(j * x_rows + int(threadIdx.x) % warp_size / 4, rows - 1) * chunks;
    }
    __device__ uint4 operator()(int j, int chunk) const {
        return chunk < chunks ? x[first[j] + chunk] : uint4{0, 0, 0, 0};
    }
};

} // namespace gnv::cuda::few_rows
