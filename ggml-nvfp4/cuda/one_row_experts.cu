// Experts' products of one token. A block asks for all of its weights at once: for a pair of products as soon as it knows its expert,
// for the product behind it while the pair's blocks still run. What arrives first is multiplied first.
#include "cuda/chain.cuh"
#include "cuda/one_row.cuh"
#include "cuda/one_row_group.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

namespace {

using few_rows::Parts;
using few_rows::SharedRows;
using few_rows::threads;
using one_row::tile;
using one_row::unit_bytes;
using one_row::warps;

constexpr int units = one_row::group; // of a part

// The expert of slot j, -1 if fewer slots are in use; a warp calls it. Past the L1 cache: the kernel may have started before these
// were made.
__device__ int expert_of(const int32_t * offsets, int groups, int j) {
    const int lane = threadIdx.x % warp_size, used = __ldcg(offsets + groups);
    unsigned begun = 0; // experts whose slots begin at j or before
#pragma unroll 8
    for (int g = lane; g < groups; g += warp_size) begun += __ldcg(offsets + g) <= j;
    const int expert = int(__reduce_add_sync(all_lanes, begun)) - 1;
    return j < used ? expert : -1;
}

// Block i of 16 numbers of a row, quantized if there is a scale, arranged.
__device__ void put_block(const SharedRows & x, int i, uint4 low, uint4 high, const float * input_scale) {
    if (input_scale) few_rows::quantize_chunks(low, high, *input_scale);
    x.chunk(0, 2 * i) = few_rows::arranged(low), x.chunk(0, 2 * i + 1) = few_rows::arranged(high);
}

// --- A pair -----------------------------------------------------------------------------------------------------------

// A part of 16 rows on its way through shared memory, unit by unit: the first are multiplied while others arrive. Lanes copy the codes
// that they use.
struct StagedPart {
    uint8_t * memory; // coded_bytes, of this warp

    // Where a lane copies from, in bytes from an expert's first row on.
    struct Source {
        int upper, lower, scales;
        // Part `part` of rows [first, first + tile) of n; rows behind n are read as the last.
        __device__ Source(int n, int first, int row_bytes, int part) {
            const int lane = threadIdx.x % warp_size;
            const auto place_of = [&](int row) {
                return min(first + row, n - 1) * row_bytes + part * (units * unit_bytes);
            };
            upper = place_of(lane / 4) + lane % 4 * 16, lower = place_of(lane / 4 + 8) + lane % 4 * 16;
            scales = place_of(lane / 2) / 8 + lane % 2 * 16;
        }
    };
    // `bytes`: of the codes of the experts before.
    __device__ void ask(const FewRowsWeight & w, int64_t bytes, const Source & from) const {
        const int lane = threadIdx.x % warp_size;
        const auto * const codes = static_cast<const uint8_t *>(w.data) + bytes;
        copy_16_bytes(memory + one_row::codes_bytes + lane * 16, w.block_scales + bytes / 8 + from.scales);
#pragma unroll
        for (int u = 0; u < units; u++) {
            uint8_t * const to = memory + u * one_row::unit_stride + lane * 16;
            copy_16_bytes(to, codes + from.upper + u * unit_bytes);
            copy_16_bytes(to + one_row::half_stride, codes + from.lower + u * unit_bytes);
            commit_copies();
        }
    }
    // sum += this times x, an arranged row, from this lane's first chunk of the part on. The warp has asked for `asked` parts.
    template <int asked>
    __device__ void add(const uint4 * x, float (&sum)[4]) const {
        const int lane = threadIdx.x % warp_size;
        const auto * words = reinterpret_cast<const uint4 *>(memory) + lane;
        const auto * scales =
            reinterpret_cast<const uint16_t *>(memory + one_row::codes_bytes) + lane / 4 * 16 + lane % 4;
#pragma unroll 1
        for (int u = 0; u < units; u++) {
            wait_for_copies<asked * units - 1>();
            commit_copies(); // of nothing: one more that may be unfinished
            __syncwarp();    // scales are of other lanes
            one_row::add_coded_unit({words[0], words[one_row::half_stride / 16]}, {scales[0], scales[8 * 16]}, x, sum);
            words += one_row::unit_stride / 16, scales += 4, x += one_row::unit_chunks;
        }
    }
};

// A block has a slot, blockIdx.y, and some columns of both products; each warp a part of 16 columns, of one product or, if `each` is 2,
// of both. There are 2^shift parts.
template <int each>
__global__ void __launch_bounds__(threads, 3)
    pair_kernel(const __grid_constant__ FewRowsExperts p, int row_bytes, int shift) {
    extern __shared__ uint4 memory[];
    __shared__ float sums[2][warps][tile];
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, parts = 1 << shift, j = blockIdx.y;
    const int part = warp & (parts - 1), columns = warps * each / 2 * tile >> shift, blocks = int(p.k / 16);
    const int first_product = each == 2 ? 0 : (warp >> shift) % 2, my_tile = (warp >> shift) / (3 - each);
    const int chunks = SharedRows::chunks_for(p.k);
    uint8_t * const mine = reinterpret_cast<uint8_t *>(memory) + warp * each * one_row::coded_bytes;
    const SharedRows x = {memory + warps * each * one_row::coded_bytes / int(sizeof(uint4)), chunks};
    const SharedRows other_x = {x.memory + chunks, chunks};
    const int64_t n = p.weight.n, first = int64_t(blockIdx.x) * columns;
    const StagedPart::Source source(int(n), int(first) + my_tile * tile, row_bytes, part);
    wait_for_earlier();
    const auto * const of_x = reinterpret_cast<const uint4 *>(p.x);
    uint4 low = {}, high = {};
    if (int(threadIdx.x) < blocks) low = of_x[2 * threadIdx.x], high = of_x[2 * threadIdx.x + 1];
    const int expert = expert_of(p.offsets, p.groups, j);
    if (expert < 0) return;
    const int64_t place = p.places ? p.places[expert] : expert;
#pragma unroll
    for (int i = 0; i < each; i++)
        StagedPart{mine + i * one_row::coded_bytes}.ask(first_product + i == 0 ? p.weight : p.second,
                                                        place * n * row_bytes, source);
    let_later_start(); // not before the wait: one_row_combine() counts on it
    const float * const scale = p.weight.input_scale ? p.weight.input_scale + expert : nullptr;
    const float * const other_scale = p.weight.input_scale ? p.second.input_scale + expert : nullptr;
    const int64_t column = first + threadIdx.x; // of this thread, of the results
    const bool has_column = int(threadIdx.x) < columns && column < n;
    float factors[2] = {};
    if (has_column) {
        factors[0] = few_rows::product_factor(p.weight, expert * n + column, scale);
        factors[1] = few_rows::product_factor(p.second, expert * n + column, other_scale);
    }
    const bool differ = scale && *scale != *other_scale; // nearly never
    for (int i = threadIdx.x; i < blocks; i += threads) {
        if (i >= threads) low = of_x[2 * i], high = of_x[2 * i + 1];
        put_block(x, i, low, high, scale);
        if (differ) put_block(other_x, i, low, high, other_scale);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < each; i++) {
        const int m = first_product + i;
        const SharedRows & of_product = differ && m == 1 ? other_x : x;
        float sum[4] = {};
        StagedPart{mine + i * one_row::coded_bytes}.add<each>(one_row::arranged_chunks(of_product.memory, part * units),
                                                              sum);
        if (lane % 4 == 0) { // the only row of x
            float * const to = sums[m][my_tile * parts + part] + lane / 4;
            to[0] = sum[0], to[8] = sum[2];
        }
    }
    __syncthreads();
    if (!has_column) return;
    float values[2];
#pragma unroll
    for (int m = 0; m < 2; m++) {
        const float * from = sums[m][threadIdx.x / tile * parts] + threadIdx.x % tile;
        values[m] = *from;
        for (int other = 1; other < parts; other++) values[m] += *(from += tile);
        values[m] = rounded(values[m] * factors[m]);
    }
    const int64_t to = j * n + column;
    p.weight.out[to] = __float2bfloat16_rn(values[0]);
    p.second.out[to] = __float2bfloat16_rn(values[1]);
    p.activation[to] = __float2bfloat16_rn(silu_mul(values[0], values[1]));
}

// --- A product and its sum --------------------------------------------------------------------------------------------

// A part of 16 rows of NVFP4, all of it in registers: shared memory is left to the next kernel.
struct TilePart {
    uint4 words[units][2];
    uint16_t scales[units][2];

    // Part `part` of rows [first, first + tile) of expert `place` of w; rows behind n are read as the last.
    __device__ void load(const FewRowsWeight & w, int64_t place, int64_t first, int row_bytes, int part) {
        const int lane = threadIdx.x % warp_size;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int64_t row = min(first + lane / 4 + half * 8, w.n - 1);
            const int64_t at = (place * w.n + row) * row_bytes + part * (units * unit_bytes);
            const uint8_t * const codes = static_cast<const uint8_t *>(w.data) + at + lane % 4 * 16;
            const uint8_t * const of_blocks = w.block_scales + at / 8 + lane % 4 * 2;
#pragma unroll
            for (int u = 0; u < units; u++) {
                words[u][half] = few_rows::load_weights(codes + u * unit_bytes);
                scales[u][half] = __ldg(reinterpret_cast<const uint16_t *>(of_blocks + u * 8));
            }
        }
    }
    // sum += this times x, an arranged row, from this lane's first chunk of the part on.
    __device__ void add(const uint4 * x, float (&sum)[4]) const {
#pragma unroll
        for (int u = 0; u < units; u++) one_row::add_coded_unit(words[u], scales[u], x + u * one_row::unit_chunks, sum);
    }
};

// A block has 16 columns, each warp a slot with all parts of its product. `early`: which slots there are is known before the wait, and
// what is added.
template <int parts, bool early>
__global__ void __launch_bounds__(threads, 2) sum_kernel(const __grid_constant__ FewRowsCombine p, int row_bytes) {
    __shared__ float made[most_combined][tile], weight_of[most_combined];
    extern __shared__ uint4 memory[]; // a row for each warp
    const FewRowsExperts & e = p.experts;
    const int64_t n = e.weight.n, first = int64_t(blockIdx.x) * tile, column = first + threadIdx.x;
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int chunks = SharedRows::chunks_for(e.k);
    const SharedRows x = {memory + warp * chunks, chunks};
    const bool adds = int(threadIdx.x) < tile && column < n;
    if (!early) wait_for_earlier();
    const int used = min(__ldcg(e.offsets + e.groups), int(p.chosen));
    float summand = 0, operands[most_row_steps] = {};
    if (adds) {
        if (p.sum) summand = __ldcg(p.sum + column);
#pragma unroll
        for (int i = 0; i < most_row_steps; i++)
            if (i < p.steps)
                operands[i] = p.step[i].in_f32
                                  ? __ldcg(static_cast<const float *>(p.step[i].operand) + column)
                                  : __bfloat162float(__ldcg(static_cast<const bf16 *>(p.step[i].operand) + column));
    }
    for (int j = warp; j < used; j += warps) {
        const int expert = expert_of(e.offsets, e.groups, j);
        const int64_t place = e.places ? __ldcg(e.places + expert) : expert;
        TilePart w[parts];
#pragma unroll
        for (int part = 0; part < parts; part++) w[part].load(e.weight, place, first, row_bytes, part);
        const float * const input_scale = e.weight.input_scale ? e.weight.input_scale + expert : nullptr;
        const int row = lane % tile;
        const bool exists = first + row < n;
        const float factor = exists ? few_rows::product_factor(e.weight, expert * n + first + row, input_scale) : 0.0f;
        if (lane == 0) weight_of[j] = __ldcg(p.weights + __ldcg(e.slots + j));
        if (j == warp) {
            let_later_start();
            if (early) wait_for_earlier();
        }
        const auto * const of_x = reinterpret_cast<const uint4 *>(e.x + j * e.k);
        __syncwarp(); // the row before is read
        for (int i = lane; i < int(e.k / 16); i += warp_size)
            put_block(x, i, of_x[2 * i], of_x[2 * i + 1], input_scale);
        __syncwarp();
        float total[4] = {};
#pragma unroll
        for (int part = 0; part < parts; part++) {
            float sum[4] = {};
            w[part].add(one_row::arranged_chunks(x.memory, part * units), sum);
#pragma unroll
            for (int i = 0; i < 4; i++) total[i] = part == 0 ? sum[i] : total[i] + sum[i];
        }
        // Lane i % 16 gets row i, which lane 4 * (i % 8) has.
        const float upper = __shfl_sync(all_lanes, total[0], lane % 8 * 4);
        const float lower = __shfl_sync(all_lanes, total[2], lane % 8 * 4);
        const float y = rounded((row < 8 ? upper : lower) * factor);
        if (lane < tile && exists) {
            e.weight.out[j * n + first + row] = __float2bfloat16_rn(y);
            made[j][row] = y;
        }
    }
    if (warp >= used) {
        let_later_start();
        if (early) wait_for_earlier();
    }
    __syncthreads();
    if (!adds) return;
    float total = summand;
    for (int i = 0; i < used; i++) total = fmaf(weight_of[i], made[i][threadIdx.x], total);
    few_rows::store_sum(p, column, total, operands);
}

// Whole parts of four units.
bool fits(const FewRowsWeight & w, int64_t k) {
    const Parts parts(true, k);
    return w.data && w.block_scales && one_row::is_aligned(w) && k % 256 == 0 && parts.units == parts.count * units &&
           w.n > 0 && w.n * parts.row_bytes <= INT32_MAX;
}

constexpr int most_parts_of_sum = 2; // that the registers of a warp hold

// Parts that each warp has of a pair of products.
int pair_each(int64_t k) { return 2 * Parts(true, k).count > warps ? 2 : 1; }

size_t pair_bytes(const FewRowsExperts & p) { // of shared memory
    return size_t(warps * pair_each(p.k) * one_row::coded_bytes) +
           size_t(SharedRows::bytes_for(p.k)) * (p.weight.input_scale ? 2 : 1);
}

} // namespace

bool one_row_fits(const CudaContext & context, const FewRowsExperts & p) {
    const bool of_one_token = p.slots_per_token > 0 && p.count > 0 && p.count <= p.slots_per_token;
    return of_one_token && fits(p.weight, p.k) && fits(p.second, p.k) && p.weight.n == p.second.n &&
           pair_bytes(p) + sizeof(float) * 2 * warps * tile <= size_t(context.most_shared_bytes) &&
           !p.weight.input_scale == !p.second.input_scale;
}

bool one_row_fits(const CudaContext &, const FewRowsCombine & p) {
    const FewRowsExperts & e = p.experts;
    return p.tokens == 1 && p.chosen <= most_combined && e.count <= p.chosen && fits(e.weight, e.k) &&
           Parts(true, e.k).count <= most_parts_of_sum && SharedRows::bytes_for(e.k) * warps <= most_row_bytes;
}

Status one_row_experts(const CudaContext & context, const FewRowsExperts & p) {
    const Parts parts(true, p.k);
    const int each = pair_each(p.k);
    int shift = 0;
    while (1 << shift < parts.count) shift++;
    const dim3 grid(blocks_for(p.weight.n, warps * each / 2 * tile >> shift), unsigned(p.count));
    // Where two blocks a processor are all, shared memory has room for no third one: the other two would wait for it, while some
    // processor has nothing to do.
    size_t bytes = pair_bytes(p);
    if (int64_t(grid.x) * grid.y <= 2 * int64_t(context.processors))
        bytes = std::max(bytes, size_t(context.most_shared_bytes) / 3);
    return launch_chained("grouped_linear", context, each == 2 ? pair_kernel<2> : pair_kernel<1>, grid, threads, bytes,
                          p, parts.row_bytes, shift);
}

Status one_row_combine(const CudaContext & context, const FewRowsCombine & p, bool behind_pair) {
    const Parts parts(true, p.experts.k);
    const auto kernel = parts.count == 1 ? (behind_pair ? sum_kernel<1, true> : sum_kernel<1, false>)
                                         : (behind_pair ? sum_kernel<2, true> : sum_kernel<2, false>);
    return launch_chained("expert_combine", context, kernel, blocks_for(p.experts.weight.n, tile), threads,
                          size_t(SharedRows::bytes_for(p.experts.k)) * warps, p, parts.row_bytes);
}

} // namespace gnv::cuda
