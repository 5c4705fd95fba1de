// The way of gated_delta_net through the chunks of a segment with Hopper's tensor cores. The arithmetic is that of
// gated_delta_net_chunked.cu; all is transposed here, too. gated_delta_prepare_hopper.cu makes the plans.
//
//   a block: one thread that has the copy engine fetch k, q, v and plans, two chunks ahead, and one or two groups of 4 warps that
//   compute, each with 64 columns of a head's state in its registers: left operands of all products are in registers
//
// A block takes one head of a segment after another; the next one's first chunks come in while the last are computed.
#include "cuda/copy_engine.cuh"
#include "cuda/gated_delta_plan.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;

constexpr int head = delta_head, chunk = delta_chunk, blocks = delta_blocks;
constexpr int group_threads = 128, group_columns = 64, stages = 3;
constexpr int panels = head / tile_columns, pieces = tile_columns / 8;

template <int groups>
struct alignas(tile_alignment) Stage {
    bf16 keys[panels][2 * chunk * tile_columns]; // rows of k, then of q
    bf16 values[groups][chunk * tile_columns];   // columns of the block; then its results
    TilePlan plan;
    static constexpr int bytes = int(sizeof keys + sizeof values + sizeof plan); // that are fetched
};
template <int groups>
struct Memory {
    Stage<groups> chunks[stages];
    Arrivals full[stages], empty[stages];
};

// Columns of one value head of one segment.
struct Item {
    int segment, value_head, first_column, first_chunk, chunks;
    int64_t begin, end;
    template <int groups>
    static __device__ Item at(const Delta & d, const DeltaTensors & tensors, const int32_t * first_chunks, int index) {
        constexpr int parts = head / (groups * group_columns);
        Item item;
        item.first_column = index % parts * groups * group_columns;
        item.value_head = index / parts % d.value_heads;
        item.segment = index / parts / d.value_heads;
        item.first_chunk = first_chunks[item.segment];
        item.chunks = first_chunks[item.segment + 1] - item.first_chunk;
        item.begin = tensors.segments[item.segment];
        item.end = tensors.segments[item.segment + 1];
        return item;
    }
};

// By one thread. Rows behind the last of a segment come, too.
template <int groups>
__device__ void fetch_chunk(const Delta & d, const CUtensorMap & qkv, const Item & item, int at, const TilePlan & plan,
                            Stage<groups> & stage, Arrivals & full) {
    const int row = int(item.begin) + at * chunk, query = item.value_head / (d.value_heads / d.key_heads) * head;
    const int key = query + d.key_heads * head, value = (2 * d.key_heads + item.value_head) * head + item.first_column;
    expect_bytes(full, Stage<groups>::bytes);
#pragma unroll
    for (int panel = 0; panel < panels; panel++) {
        copy_box(stage.keys[panel], qkv, key + panel * tile_columns, row, 0, full);
        copy_box(stage.keys[panel] + chunk * tile_columns, qkv, query + panel * tile_columns, row, 0, full);
    }
#pragma unroll
    for (int group = 0; group < groups; group++)
        copy_box(stage.values[group], qkv, value + group * group_columns, row, 0, full);
    copy_bytes(&stage.plan, &plan, int(sizeof plan), full);
}

// Rows of k and v behind the last of a segment become zeros: the next segment's may hold NaN. By all that compute.
template <int groups>
__device__ void clear_rows(Stage<groups> & stage, int rows) {
    for (int i = rows * (2 + groups) * pieces + int(threadIdx.x) - group_threads; i < chunk * (2 + groups) * pieces;
         i += groups * group_threads) {
        const int tile = i / pieces % (2 + groups);
        bf16 * const to = tile < 2 ? stage.keys[tile] : stage.values[tile - 2];
        *reinterpret_cast<uint4 *>(to + piece_at(i / ((2 + groups) * pieces), i % pieces)) = make_uint4(0, 0, 0, 0);
    }
    show_to_tensor_cores();
    asm volatile("bar.sync 3, %0;" ::"n"(groups * group_threads) : "memory");
}

// Two groups take turns: one multiplies while the other computes what its next products need.
__device__ inline void wait_for_turn(int group) { asm volatile("bar.sync %0, 256;" ::"r"(4 + group) : "memory"); }
__device__ inline void give_turn(int group) { asm volatile("bar.arrive %0, 256;" ::"r"(5 - group) : "memory"); }

__device__ inline void wait_for_group(int group) { asm volatile("bar.sync %0, 128;" ::"r"(group) : "memory"); }

// 16 columns of a sum as a left operand in two parts.
__device__ inline void split_columns(const float * sum, uint32_t (&high)[4], uint32_t (&low)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) high[i] = split_wide(sum[2 * i], sum[2 * i + 1], low[i]);
}

// sum += x m^T for a lower triangular matrix m, both in parts: x [64 columns, 16 positions from 16 * j on], sum of positions 0..
// and of 32... Not yet done on return. Products of two rests are below the precision of the sum.
__device__ inline void add_lower(float (&sum)[2][16], int j, const uint32_t (&high)[4], const uint32_t (&low)[4],
                                 const LowerTiles & m) {
    const uint64_t first = tile_descriptor(m.first), last[2] = {tile_descriptor(m.last[0]), tile_descriptor(m.last[1])};
#pragma unroll
    for (int i = j / 2; i < 2; i++) {
        const uint64_t part = from_column(i == 0 ? first : last[0], 16 * j);
        const uint64_t rest = from_column(i == 0 ? first : last[1], i == 0 ? 32 + 16 * j : 16 * j);
        multiply_add_rows(sum[i], high, part);
        multiply_add_rows(sum[i], low, part);
        multiply_add_rows(sum[i], high, rest);
    }
}

// The tensor cores work on what is there while the operands behind it are made.
template <int groups>
__device__ void compute_chunk(float (&state)[64], Stage<groups> & stage, int group, int turn, bf16 * out,
                              int64_t stride, int rows) {
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size % 4, pair = lane % 4 * 2;
    // M^T k, then M^T q, of all positions
    float known[32] = {}, results[2][16] = {}; // results: of positions 0.. and 32..
    {
        uint32_t high[head / 16][4], low[head / 16][4];
        wait_for_products<0>(); // none is left; so the compiler knows that the state is there
        if (groups == 2 && (group == 1 || turn > 0)) wait_for_turn(group);
        const auto rows_at = [&](int c, int row) {
            return from_row(from_column(tile_descriptor(stage.keys[c / 4]), c % 4 * 16), row);
        };
#pragma unroll
        for (int c = 0; c < head / 16; c++) {
            split_columns(state + 8 * c, high[c], low[c]);
            begin_products();
            multiply_add_rows(known, high[c], rows_at(c, 0));
            multiply_add_rows(known, low[c], rows_at(c, 0));
        }
        commit_products();
#pragma unroll
        for (int c = 0; c < head / 16; c++) {
            multiply_add_rows(reinterpret_cast<float(&)[32]>(results), high[c], rows_at(c, chunk));
            multiply_add_rows(reinterpret_cast<float(&)[32]>(results), low[c], rows_at(c, chunk));
        }
        commit_products();
    }
    const float decay = stage.plan.factors.decay;
#pragma unroll
    for (int i = 0; i < 64; i++) state[i] *= decay;
    wait_for_products<1>();
    if (groups == 2) give_turn(group);
    bf16 * const values = stage.values[group];
    const auto factors_at = [&](int tile, int e) {
        return *reinterpret_cast<const float4 *>(stage.plan.factors.at + tile * 8 + pair + e);
    };
    // R
    uint32_t high[blocks][4], low[blocks][4];
#pragma unroll
    for (int i = 0; i < blocks; i++) {
        uint32_t pairs[4]; // two of positions, each two of columns
        load_matrices_transposed(pairs, values + piece_at(i * 16 + lane / 16 * 8 + lane % 8, 2 * warp + lane / 8 % 2));
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int tile = 2 * i + half;
            const float2 first = wide_numbers(pairs[2 * half]), second = wide_numbers(pairs[2 * half + 1]);
            const float v_of[4] = {first.x, first.y, second.x, second.y};
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const float4 factors = factors_at(tile, e);
#pragma unroll
                for (int at = 4 * tile + e; at < 4 * tile + 4; at += 2)
                    known[at] = fmaf(factors.x, v_of[at % 4], -(factors.y * known[at]));
            }
        }
        split_columns(known + 8 * i, high[i], low[i]);
    }
    wait_for_products<0>();
    // N
    float news[2][16] = {};
    begin_products();
#pragma unroll
    for (int j = 0; j < blocks; j++) add_lower(news, j, high[j], low[j], stage.plan.inverse);
    commit_products();
#pragma unroll
    for (int tile = 0; tile < 2 * blocks; tile++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const float query = stage.plan.factors.at[tile * 8 + pair + e].query;
#pragma unroll
            for (int at = tile % 4 * 4 + e; at < tile % 4 * 4 + 4; at += 2) results[tile / 4][at] *= query;
        }
    wait_for_products<0>();
    // The part of N in the results
    uint32_t new_high[blocks][4], new_low[blocks][4];
#pragma unroll
    for (int j = 0; j < blocks; j++) {
        split_columns(news[j / 2] + j % 2 * 8, new_high[j], new_low[j]);
        begin_products();
        add_lower(results, j, new_high[j], new_low[j], stage.plan.weights);
    }
    commit_products();
    // M
    const uint64_t keys = tile_descriptor(stage.keys[0], int(sizeof stage.keys[0]));
#pragma unroll
    for (int i = 0; i < blocks; i++) {
#pragma unroll
        for (int tile = 2 * i; tile < 2 * i + 2; tile++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const float write = stage.plan.factors.at[tile * 8 + pair + e].write;
                // Rounded, and not fused with the split, which would be up to the compiler.
#pragma unroll
                for (int at = tile % 4 * 4 + e; at < tile % 4 * 4 + 4; at += 2)
                    news[tile / 4][at] = __fmul_rn(news[tile / 4][at], write);
            }
        split_columns(news[i / 2] + i % 2 * 8, high[i], low[i]);
    }
    begin_products();
#pragma unroll
    for (int i = 0; i < blocks; i++) {
        multiply_add(state, high[i], from_row(keys, 16 * i));
        multiply_add(state, low[i], from_row(keys, 16 * i));
    }
    commit_products();
    // The results take the place of this warp's columns of v.
    wait_for_products<1>();
#pragma unroll
    for (int i = 0; i < blocks; i++) {
        const auto two = [&](int at) {
            return pair_of(results[i / 2][i % 2 * 8 + 2 * at], results[i / 2][i % 2 * 8 + 2 * at + 1]);
        };
        store_matrices_transposed(values + piece_at(i * 16 + lane / 16 * 8 + lane % 8, 2 * warp + lane / 8 % 2), two(0),
                                  two(1), two(2), two(3));
    }
    wait_for_group(group + 1);
    const int piece = lane % pieces;
#pragma unroll
    for (int i = 0; i < blocks; i++) {
        const int row = i * 16 + warp * 4 + lane / pieces;
        if (row < rows)
            *reinterpret_cast<uint4 *>(out + row * stride + piece * 8) =
                *reinterpret_cast<const uint4 *>(values + piece_at(row, piece));
    }
    wait_for_products<0>();
}

template <int groups>
__global__ void __launch_bounds__((groups + 1) * group_threads, 1)
    walk_kernel(const __grid_constant__ CUtensorMap qkv, Delta d, DeltaTensors tensors, const int32_t * first_chunks,
                const TilePlan * plans, int items) {
    extern __shared__ unsigned char unaligned[];
    auto & memory = *static_cast<Memory<groups> *>(aligned_tiles(unaligned));
    if (threadIdx.x == 0)
        for (int s = 0; s < stages; s++) {
            start_arrivals(memory.full[s], 1);
            start_arrivals(memory.empty[s], 4 * groups);
        }
    show_barriers();
    __syncthreads();
    const int group = __shfl_sync(all_lanes, int(threadIdx.x) / group_threads, 0) - 1; // known to be one for the warp
    int turn = 0;                                                                      // chunks of all items so far
    if (group < 0) {
        if constexpr (groups == 2) give_registers<24>();
        if (threadIdx.x > 0) return;
        for (int index = blockIdx.x; index < items; index += gridDim.x) {
            const Item item = Item::at<groups>(d, tensors, first_chunks, index);
            for (int at = 0; at < item.chunks; at++, turn++) {
                if (turn >= stages) wait_for(memory.empty[turn % stages], turn / stages - 1);
                fetch_chunk(d, qkv, item, at, plans[int64_t(item.first_chunk + at) * d.value_heads + item.value_head],
                            memory.chunks[turn % stages], memory.full[turn % stages]);
            }
        }
        return;
    }
    if constexpr (groups == 2) take_registers<240>();
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size % 4;
    for (int index = blockIdx.x; index < items; index += gridDim.x) {
        const Item item = Item::at<groups>(d, tensors, first_chunks, index);
        if (item.chunks == 0) continue;
        const int column = item.first_column + group * group_columns;
        float * const own = tensors.memory
                                ? tensors.memory +
                                      (tensors.slot_of(item.segment) * d.value_heads + item.value_head) * head * head +
                                      column + warp * 16 + lane / 4
                                : nullptr;
        const auto state_at = [&](int i) { return (i / 4 * 8 + lane % 4 * 2 + i % 2) * head + i / 2 % 2 * 8; };
        float state[64]; // [64 columns, 128 rows of the state]
#pragma unroll
        for (int i = 0; i < 64; i++) state[i] = own ? own[state_at(i)] : 0.0f;
        for (int at = 0; at < item.chunks; at++, turn++) {
            wait_for(memory.full[turn % stages], turn / stages);
            Stage<groups> & stage = memory.chunks[turn % stages];
            const int64_t first = item.begin + int64_t(at) * chunk, stride = int64_t(d.value_heads) * head;
            const int rows = int(min(int64_t(chunk), item.end - first));
            if (rows < chunk) clear_rows(stage, rows);
            compute_chunk(state, stage, group, turn, tensors.out + first * stride + item.value_head * head + column,
                          stride, rows);
            show_to_tensor_cores(); // the copy engine writes where results were
            __syncwarp();
            if (lane == 0) arrive(memory.empty[turn % stages]);
        }
        if (own)
#pragma unroll
            for (int i = 0; i < 64; i++) own[state_at(i)] = state[i];
    }
    if (groups == 2 && group == 0 && turn > 0) wait_for_turn(group); // the other group's last
}

template <int groups>
Status walk(CudaContext & context, const Delta & d, const DeltaTensors & tensors, const int32_t * first_chunks,
            const TilePlan * plans) {
    constexpr int bytes = int(sizeof(Memory<groups>)) + tile_alignment;
    const cudaError_t error =
        cudaFuncSetAttribute(walk_kernel<groups>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return fail(Code::device, "gated_delta_net: ", cudaGetErrorString(error));
    GNV_ASSIGN(const CUtensorMap qkv, tensor_map({tensors.qkv, 1, d.tokens, d.width(), 2}, chunk));
    const int items = d.segments * d.value_heads * (head / (groups * group_columns));
    walk_kernel<groups>
        <<<unsigned(std::min(items, context.processors)), (groups + 1) * group_threads, bytes, context.stream>>>(
            qkv, d, tensors, first_chunks, plans, items);
    return launched("gated_delta_net");
}

} // namespace

Status walk_chunks_hopper(CudaContext & context, const Delta & d, const DeltaTensors & tensors,
                          const int32_t * first_chunks, const TilePlan * plans) {
    // Fewer columns in a block if heads are too few for all processors; a column's bits do not depend on it.
    const int64_t heads = int64_t(d.segments) * d.value_heads;
    return heads * 2 <= context.processors ? walk<1>(context, d, tensors, first_chunks, plans)
                                           : walk<2>(context, d, tensors, first_chunks, plans);
}

} // namespace gnv::cuda
