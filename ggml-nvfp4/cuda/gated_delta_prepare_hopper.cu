// Plans of the chunks of gated_delta_net for Hopper's tensor cores, with the arithmetic of gated_delta_prepare.cu, to the same
// bits. A multiprocessor holds one block of two groups of 8 warps. A group works by itself: it takes a chunk of a key head and
// makes the plans of two value heads that share it at once. Its warps share the blocks of 16 x 16 below and on the diagonal of
// k k^T and q k^T among them, then the columns of both inverses.
//
// The copy engine brings k and q, those of the next chunk while the group solves, and takes the plans away.
#include "cuda/copy_engine.cuh"
#include "cuda/gated_delta_prepare.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;

constexpr int head = delta_head, chunk = delta_chunk, blocks = delta_blocks;
constexpr int groups = 2, group_warps = 8, group_threads = group_warps * warp_size, panels = head / tile_columns,
              pieces = tile_columns / 8;
constexpr int diagonal_stride = 24; // of F32; rows start in different banks

// Two value heads of a chunk, or the last one of a key head.
struct Item {
    int64_t first; // position
    int rows;      // 0: no more items
    int chunk_at, key_head, value_head, heads;
};

// 16 x 16 blocks of A below the diagonal as right operands: for each lane two neighbours of a row as numbers of 11 bits, then
// their rests; [block][half of the columns][half of the rows].
using Below = uint4[blocks * (blocks - 1) / 2][2][2][warp_size];
__device__ constexpr int below_at(int i, int j) { return i * (i - 1) / 2 + j; }

struct Diagonal {
    float blocks[delta_blocks][16 * diagonal_stride], unused[16]; // the next head's are in other banks
};

struct alignas(tile_alignment) Group {
    union {
        bf16 rows[2][panels][chunk * tile_columns]; // of k, of q
        struct {
            bf16 keys[panels * chunk * tile_columns];
            LowerTiles weights; // of the first head
        } first;
    };
    LowerTiles second_weights;
    Below below[2];
    LowerTiles inverse[2];
    ChunkFactors factors[2];
    Diagonal diagonal[2];
    DeltaGates gates[2];
    DeltaPowers powers[2];
    float norms[2][chunk]; // factors that make k and q of length one
    Item items[2];         // the current one and the next
    Arrivals arrived;

    __device__ LowerTiles & weights(int h) { return h == 0 ? first.weights : second_weights; }
};
struct Memory {
    Group of[groups];
};
static_assert(sizeof(Memory) + tile_alignment <= 227 * 1024);

__device__ inline void wait_for_group(int group) { asm volatile("bar.sync %0, 256;" ::"r"(group + 1) : "memory"); }

// The items of one group, one after the other; by one thread.
struct Course {
    int64_t next, step, items;
    int segment, parts; // items of a chunk

    __device__ Course(const Delta & d, const int32_t * first_chunks, int group) {
        parts = d.key_heads * ((d.value_heads / d.key_heads + 1) / 2);
        items = int64_t(first_chunks[d.segments]) * parts;
        next = int64_t(group) * gridDim.x + blockIdx.x;
        step = int64_t(groups) * gridDim.x;
        segment = 0;
    }
    __device__ Item take(const Delta & d, const DeltaTensors & tensors, const int32_t * first_chunks) {
        Item item = {};
        if (next >= items) return item;
        const int sharing = d.value_heads / d.key_heads, of_key = (sharing + 1) / 2, part = int(next % parts);
        item.chunk_at = int(next / parts);
        next += step;
        item.key_head = part / of_key;
        const int from = part % of_key * 2;
        item.value_head = item.key_head * sharing + from;
        item.heads = min(2, sharing - from);
        while (first_chunks[segment + 1] <= item.chunk_at) segment++;
        item.first = tensors.segments[segment] + int64_t(item.chunk_at - first_chunks[segment]) * chunk;
        item.rows = int(min(int64_t(chunk), tensors.segments[segment + 1] - item.first));
        return item;
    }
};

// Rows of k, then of q, of one item.
__device__ void fetch_keys(const Delta & d, const CUtensorMap & qkv, const Item & item, Group & g) {
    expect_bytes(g.arrived, int(sizeof g.rows));
#pragma unroll
    for (int panel = 0; panel < panels; panel++)
        copy_box(g.rows[0][panel], qkv, (d.key_heads + item.key_head) * head + panel * tile_columns, int(item.first), 0,
                 g.arrived);
}
__device__ void fetch_queries(const CUtensorMap & qkv, const Item & item, Group & g) {
#pragma unroll
    for (int panel = 0; panel < panels; panel++)
        copy_box(g.rows[1][panel], qkv, item.key_head * head + panel * tile_columns, int(item.first), 0, g.arrived);
}

// Rows behind the last of a segment become zeros: the next segment's may hold NaN.
__device__ void clear_rows(Group & g, int rows, int thread) {
    for (int i = rows * 2 * panels * pieces + thread; i < chunk * 2 * panels * pieces; i += group_threads) {
        bf16 * const tile = g.rows[i / pieces % 2][i / (2 * pieces) % panels];
        *reinterpret_cast<uint4 *>(tile + piece_at(i / (2 * panels * pieces), i % pieces)) = make_uint4(0, 0, 0, 0);
    }
    show_to_tensor_cores(); // and to the copy engine, which fills these rows for the next chunk
}

// Of one row; the order of its sum is that of its columns.
__device__ float norm_of(const bf16 (*tiles)[chunk * tile_columns], int row) {
    float sum = 0;
#pragma unroll
    for (int panel = 0; panel < panels; panel++)
#pragma unroll
        for (int piece = 0; piece < pieces; piece++) {
            const uint4 eight = *reinterpret_cast<const uint4 *>(tiles[panel] + piece_at(row, piece));
            const uint32_t pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
            for (const uint32_t pair : pairs) {
                const float2 two = wide_numbers(pair);
                sum = fmaf(two.x, two.x, sum);
                sum = fmaf(two.y, two.y, sum);
            }
        }
    return 1.0f / sqrtf(sum + 1e-6f);
}

// The blocks of k k^T and of q k^T that are the work of one warp, [row, column..]: two or one below the diagonal, or one on it.
struct Products {
    int row, column, count;
    float kk[2][2][4], qk[2][2][4];

    __device__ explicit Products(int warp) {
        row = warp < 4 ? (0x1323 >> 4 * warp) & 3 : warp - 4;
        column = warp < 4 ? (warp == 2 ? 2 : 0) : row;
        count = warp < 2 ? 2 : 1;
    }
    __device__ void multiply(const Group & g) {
        if (count == 2) {
            multiply<2>(g);
        } else {
            multiply<1>(g);
        }
    }
    template <int n>
    __device__ void multiply(const Group & g) {
        const int lane = threadIdx.x % warp_size;
#pragma unroll
        for (int i = 0; i < 8 * n; i++) kk[i / 8][i / 4 % 2][i % 4] = qk[i / 8][i / 4 % 2][i % 4] = 0;
#pragma unroll
        for (int c = 0; c < head / 16; c++) {
            uint32_t keys[4], queries[4];
            const int panel = c / 4, at = piece_at(row * 16 + lane % 16, c % 4 * 2 + lane / 16);
            load_matrices(keys, g.rows[0][panel] + at);
            load_matrices(queries, g.rows[1][panel] + at);
#pragma unroll
            for (int i = 0; i < n; i++) {
                uint32_t b[4];
                load_matrices(b, g.rows[0][panel] +
                                     piece_at((column + i) * 16 + lane % 8 + lane / 16 * 8, c % 4 * 2 + lane / 8 % 2));
                multiply_add(kk[i][0], keys, b[0], b[1]);
                multiply_add(kk[i][1], keys, b[2], b[3]);
                multiply_add(qk[i][0], queries, b[0], b[1]);
                multiply_add(qk[i][1], queries, b[2], b[3]);
            }
        }
    }
};

// As split_short() of mma.cuh, in fewer instructions: half of the last bit that stays is added to the magnitude, the rest cut off.
// NaN stays NaN: adding to the largest integer gives a smaller one.
__device__ inline uint32_t short_of(uint32_t x) {
    return uint32_t(__viaddmax_s32(int(x), 0x1000, int(x))) & 0xffffe000;
}
__device__ inline uint32_t split_in_short(float x, uint32_t & rest) {
    const uint32_t high = short_of(__float_as_uint(x));
    rest = short_of(__float_as_uint(x - __uint_as_float(high)));
    return high;
}

// A block of P.
__device__ void put_weights(LowerTiles & to, int i, int j, const float (&p)[2][4]) {
    const int lane = threadIdx.x % warp_size, row = lane / 8 % 2 * 8 + lane % 8, half = lane / 16;
    uint32_t high[4], low[4];
#pragma unroll
    for (int e = 0; e < 4; e++) high[e] = split_wide(p[e / 2][e % 2 * 2], p[e / 2][e % 2 * 2 + 1], low[e]);
    store_matrices(to.piece_of(0, i, j, row, half), high[0], high[1], high[2], high[3]);
    store_matrices(to.piece_of(1, i, j, row, half), low[0], low[1], low[2], low[3]);
}

// Blocks of A and P below the diagonal.
__device__ void make_below(Group & g, int h, const Products & products) {
    const int lane = threadIdx.x % warp_size, pair = lane % 4 * 2, first = products.row * 16 + lane / 4;
    const DeltaPowers & powers = g.powers[h];
    const float of_keys[2] = {powers.of_keys[first], powers.of_keys[first + 8]};
    const float of_queries[2] = {powers.of_queries[first], powers.of_queries[first + 8]};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (i >= products.count) continue;
        const int column = products.column + i;
        float p[2][4];
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const float2 two =
                *reinterpret_cast<const float2 *>(&powers.of_column[products.row - 1][column * 16 + n * 8 + pair]);
            float x[4];
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float of_column = e % 2 ? two.y : two.x;
                x[e] = products.kk[i][n][e] * (of_keys[e / 2] * of_column);
                p[n][e] = products.qk[i][n][e] * (of_queries[e / 2] * of_column);
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint4 parts;
                parts.x = split_in_short(x[2 * half], parts.z);
                parts.y = split_in_short(x[2 * half + 1], parts.w);
                g.below[h][below_at(products.row, column)][n][half][lane] = parts;
            }
        }
        put_weights(g.weights(h), products.row, column, p);
    }
}

// A block of A and P on the diagonal.
__device__ void make_diagonal(Group & g, int h, const Products & products) {
    const int lane = threadIdx.x % warp_size, pair = lane % 4 * 2, block = products.row, first = block * 16;
    const DeltaGates & gates = g.gates[h];
    float * const diagonal = g.diagonal[h].blocks[block] + lane / 4 * diagonal_stride + pair;
    float p[2][4], of_keys[2], of_queries[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = first + lane / 4 + half * 8;
        of_keys[half] = gates.beta[row] * g.norms[0][row];
        of_queries[half] = g.norms[1][row];
    }
#pragma unroll
    for (int n = 0; n < 2; n++) {
        float x[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            x[e] = p[n][e] = 0;
            if (n == 1 && e < 2) continue; // above the diagonal
            const int i = lane / 4 + e / 2 * 8, j = n * 8 + pair + e % 2;
            const float decay = expf(j <= i ? gates.between(first + i, first + j) : 0.0f) * g.norms[0][first + j];
            x[e] = j < i ? products.kk[0][n][e] * (of_keys[e / 2] * decay) : 0.0f;
            p[n][e] = j <= i ? products.qk[0][n][e] * (of_queries[e / 2] * decay) : 0.0f;
        }
#pragma unroll
        for (int half = 0; half < 2; half++)
            *reinterpret_cast<float2 *>(diagonal + half * 8 * diagonal_stride + n * 8) = {x[2 * half], x[2 * half + 1]};
    }
    put_weights(g.weights(h), block, block, p);
}

// The inverse of a 16 x 16 block on the diagonal of I + A takes the block's place, by one warp for both heads: a lane solves for
// one column of a head.
__device__ void invert_diagonal(Group & g, int block) {
    const int lane = threadIdx.x % warp_size, column = lane % 16;
    float * const a = g.diagonal[lane / 16].blocks[block];
    float t[16];
#pragma unroll
    for (int i = 0; i < 16; i++) {
        float sums[2] = {i == column ? 1.0f : 0.0f, 0};
#pragma unroll
        for (int j = 0; j < i; j += 4) {
            const float4 four = *reinterpret_cast<const float4 *>(a + i * diagonal_stride + j);
            const float of_row[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (j + k < i) sums[k % 2] = fmaf(-of_row[k], t[j + k], sums[k % 2]);
        }
        t[i] = sums[0] + sums[1];
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16; i++) a[i * diagonal_stride + column] = t[i];
}

// A left operand of 16 x 16 numbers of 11 bits and their rests, [half of the columns]; columns are in another order.
struct ShortBlock {
    uint32_t parts[2][4], rests[2][4];

    __device__ void set(const float (&x)[2][4]) {
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < 4; i++) parts[half][i] = split_in_short(x[half][i % 2 * 2 + i / 2], rests[half][i]);
    }
    // sum += this b^T, b for one half of the columns and one half of the rows.
    __device__ void multiply(float (&sum)[4], int half, const uint4 & b) const {
        multiply_add_short(sum, rests[half], b.x, b.y);
        multiply_add_short(sum, parts[half], b.z, b.w);
        multiply_add_short(sum, parts[half], b.x, b.y);
    }
};

// Column j of blocks of (I + A)^-1 by one warp, as pairs of BF16 in two parts; all is transposed, so that a sum is the left operand
// of the next product.
template <int j>
__device__ void solve_column(Group & g, int h) {
    const int lane = threadIdx.x % warp_size;
    ShortBlock solved[blocks - j];
#pragma unroll
    for (int i = j; i < blocks; i++) {
        float t[2][4] = {};
        const float * const diagonal = g.diagonal[h].blocks[i];
        if (i == j) {
#pragma unroll
            for (int e = 0; e < 8; e++)
                t[e / 4][e % 4] =
                    diagonal[(e / 4 * 8 + lane % 4 * 2 + e % 2) * diagonal_stride + lane / 4 + e / 2 % 2 * 8];
        } else {
            float sum[2][4] = {};
#pragma unroll
            for (int m = j; m < i; m++)
#pragma unroll
                for (int half = 0; half < 2; half++)
#pragma unroll
                    for (int n = 0; n < 2; n++)
                        solved[m - j].multiply(sum[n], half, g.below[h][below_at(i, m)][half][n][lane]);
#pragma unroll
            for (int e = 0; e < 8; e++) sum[e / 4][e % 4] *= -1;
            ShortBlock known;
            known.set(sum);
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    const float2 two = *reinterpret_cast<const float2 *>(
                        diagonal + (n * 8 + lane / 4) * diagonal_stride + half * 8 + lane % 4 * 2);
                    uint4 b;
                    b.x = split_in_short(two.x, b.z);
                    b.y = split_in_short(two.y, b.w);
                    known.multiply(t[n], half, b);
                }
        }
        if (i + 1 < blocks) solved[i - j].set(t);
        uint32_t high[4], low[4];
#pragma unroll
        for (int e = 0; e < 4; e++) high[e] = split_wide(t[e / 2][e % 2 * 2], t[e / 2][e % 2 * 2 + 1], low[e]);
        const int row = lane / 16 * 8 + lane % 8, half = lane / 8 % 2;
        store_matrices_transposed(g.inverse[h].piece_of(0, i, j, row, half), high[0], high[1], high[2], high[3]);
        store_matrices_transposed(g.inverse[h].piece_of(1, i, j, row, half), low[0], low[1], low[2], low[3]);
    }
}

// By one warp: what a head of an item needs to know of its gates. They are read first, and summed when other work is done.
struct HeadGates {
    bf16 a[2], b[2];

    __device__ void read(const Delta & d, const DeltaTensors & tensors, const Item & item, int h) {
        if (h >= item.heads) return;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = min(2 * int(threadIdx.x % warp_size) + i, item.rows - 1);
            const int64_t at = (item.first + row) * d.value_heads + item.value_head + h;
            a[i] = tensors.a[at];
            b[i] = tensors.b[at];
        }
    }
    __device__ void sum(const DeltaTensors & tensors, const Item & item, int h, DeltaGates & out) const {
        if (h >= item.heads) return;
        float2 gates[2];
#pragma unroll
        for (int i = 0; i < 2; i++)
            gates[i] = 2 * int(threadIdx.x % warp_size) + i < item.rows
                           ? delta_gates(tensors, item.value_head + h, a[i], b[i])
                           : float2{0, 0};
        sum_gates(gates, out);
    }
};

__global__ void __launch_bounds__(groups * group_threads, 1)
    prepare_kernel(const __grid_constant__ CUtensorMap qkv, Delta d, DeltaTensors tensors, const int32_t * first_chunks,
                   TilePlan * plans) {
    extern __shared__ unsigned char unaligned[];
    const int group = __shfl_sync(all_lanes, int(threadIdx.x) / group_threads, 0); // known to be one for the warp
    const int warp = __shfl_sync(all_lanes, int(threadIdx.x) / warp_size % group_warps, 0);
    const int thread = threadIdx.x % group_threads, lane = threadIdx.x % warp_size;
    Group & g = static_cast<Memory *>(aligned_tiles(unaligned))->of[group];
    const bool copies = thread == 3 * warp_size;                  // this thread has the copy engine work
    const int head_of_gates = warp == 2 ? 0 : warp == 4 ? 1 : -1; // by warps that have little to solve
    Course course(d, first_chunks, group);
    if (copies) {
        start_arrivals(g.arrived, 1);
        show_barriers();
        g.items[0] = course.take(d, tensors, first_chunks);
        if (g.items[0].rows > 0) {
            fetch_keys(d, qkv, g.items[0], g);
            fetch_queries(qkv, g.items[0], g);
        }
    }
    wait_for_group(group);
    HeadGates gates = {};
    if (head_of_gates >= 0) {
        gates.read(d, tensors, g.items[0], head_of_gates);
        gates.sum(tensors, g.items[0], head_of_gates, g.gates[head_of_gates]);
    }
    Products products(warp);
    for (int turn = 0;; turn++) {
        const Item item = g.items[turn % 2];
        if (item.rows == 0) break;
        wait_for(g.arrived, turn);
        if (item.rows < chunk) {
            clear_rows(g, item.rows, thread);
            wait_for_group(group);
        }
        if (warp >= 4) {
            const int of_queries = (warp - 4) / 2, row = warp % 2 * warp_size + lane;
            const float norm = norm_of(g.rows[of_queries], row);
            g.norms[of_queries][row] = of_queries ? norm / sqrtf(float(head)) : norm;
        }
        products.multiply(g);
        Item & next = g.items[(turn + 1) % 2];
        if (copies) {
            next = course.take(d, tensors, first_chunks);
            wait_for_copies_out();
        }
        wait_for_group(group); // P takes the place of q, and all else that of the plans before
        if (copies && next.rows > 0) fetch_keys(d, qkv, next, g);
        if (const int h = warp / 4; h < item.heads) {
            const int of_head = thread % 128;
            make_powers(g.gates[h], g.norms, of_head, g.powers[h], g.factors[h]);
            g.weights(h).clear(of_head);
            g.inverse[h].clear(of_head);
        }
        wait_for_group(group);
        if (warp < 4) {
#pragma unroll 1
            for (int h = 0; h < item.heads; h++) make_below(g, h, products);
        } else {
#pragma unroll 1
            for (int h = 0; h < item.heads; h++) make_diagonal(g, h, products);
            __syncwarp();
            invert_diagonal(g, warp - 4);
        }
        show_to_tensor_cores(); // and to the copy engine
        wait_for_group(group);
        TilePlan * const to = plans + int64_t(item.chunk_at) * d.value_heads + item.value_head;
        if (copies) {
            copy_bytes_out(&to[0].weights, &g.weights(0), int(sizeof(LowerTiles)));
            commit_copies_out();
            if (item.heads > 1) copy_bytes_out(&to[1].weights, &g.weights(1), int(sizeof(LowerTiles)));
#pragma unroll 1
            for (int h = 0; h < item.heads; h++)
                copy_bytes_out(&to[h].factors, &g.factors[h], int(sizeof(ChunkFactors)));
            commit_copies_out();
        }
        if (head_of_gates >= 0) gates.read(d, tensors, next, head_of_gates);
        // Columns of most work are on different quarters of the multiprocessor.
        if (const int h = warp / 4; h < item.heads) switch (h == 0 ? warp : 7 - warp) {
            case 0: solve_column<0>(g, h); break;
            case 1: solve_column<1>(g, h); break;
            case 2: solve_column<2>(g, h); break;
            default: solve_column<3>(g, h);
            }
        if (copies && next.rows > 0) {
            wait_for_reads<1>(); // of the first head's P
            fetch_queries(qkv, next, g);
        }
        if (head_of_gates >= 0) gates.sum(tensors, next, head_of_gates, g.gates[head_of_gates]);
        show_to_tensor_cores();
        wait_for_group(group);
        if (copies) {
#pragma unroll 1
            for (int h = 0; h < item.heads; h++) copy_bytes_out(&to[h].inverse, &g.inverse[h], int(sizeof(LowerTiles)));
            commit_copies_out();
        }
    }
    if (copies) wait_for_copies_out();
}

} // namespace

Status prepare_chunks_hopper(CudaContext & context, const Delta & d, const DeltaTensors & tensors,
                             const int32_t * first_chunks, TilePlan * plans) {
    constexpr int bytes = int(sizeof(Memory)) + tile_alignment;
    const cudaError_t error = cudaFuncSetAttribute(prepare_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return fail(Code::device, "gated_delta_net: ", cudaGetErrorString(error));
    GNV_ASSIGN(const CUtensorMap qkv, tensor_map({tensors.qkv, 1, d.tokens, d.width(), 2}, chunk));
    prepare_kernel<<<unsigned(context.processors), groups * group_threads, bytes, context.stream>>>(
        qkv, d, tensors, first_chunks, plans);
    return launched("gated_delta_net");
}

} // namespace gnv::cuda
