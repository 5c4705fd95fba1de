// Which candidates are computed at once: an expert's most promising ones, as many as a tile has rows, and then those whose
// bounds exceed the maximum that these gave.
#include "cuda/expert_inputs_hopper.cuh"

namespace gnv::cuda {

namespace {

// Of pairs of an expert and a row; bounds [experts, rows] are bits of floats, 0 of pairs that are no candidates.
struct Candidates {
    int * bounds;
    int64_t rows;
    const int * maxima;
};

constexpr int threads = 1024, warps = threads / warp_size;
constexpr int most_candidates = std::numeric_limits<int>::max();
// Bounds are put into bins by exponent and four more bits, in their order.
constexpr int bin_shift = 19, bin_count = 1 << (31 - bin_shift);

// Of an expert: all candidates in bins above `cut`, and the first `of_cut` in it.
struct Part {
    int count, cut, of_cut;
};

__device__ int sum_of_block(int value, int * of_warps) {
    value = __reduce_add_sync(all_lanes, value);
    __syncthreads(); // the sums before are read
    if (threadIdx.x % warp_size == 0) of_warps[threadIdx.x / warp_size] = value;
    __syncthreads();
    return __reduce_add_sync(all_lanes, of_warps[threadIdx.x % warp_size]);
}

// By one warp: the cut below which `most` candidates, fewer than all, lie in no bin.
__device__ Part part_of(const int * bins, int most) {
    const int lane = threadIdx.x % warp_size;
    int above = 0;
    for (int top = bin_count - 1;; top -= warp_size) {
        const int own = bins[top - lane];
        int up_to = own; // with the bins above
        for (int step = 1; step < warp_size; step *= 2) {
            const int other = __shfl_up_sync(all_lanes, up_to, step);
            if (lane >= step) up_to += other;
        }
        if (const unsigned reached = __ballot_sync(all_lanes, above + up_to >= most)) {
            const int first = __ffs(int(reached)) - 1;
            return {most, top - first, most - above - __shfl_sync(all_lanes, up_to - own, first)};
        }
        above += __shfl_sync(all_lanes, up_to, warp_size - 1);
    }
}

// A block an expert. Leaves out the pairs that the router chose, which are computed.
__global__ void __launch_bounds__(threads) count_kernel(Candidates p, const int32_t * slots, const int32_t * offsets,
                                                        int slots_per_token, int most, Part * parts) {
    __shared__ int bins[bin_count], of_warps[warps];
    const int expert = int(blockIdx.x), thread = int(threadIdx.x);
    int * const own = p.bounds + expert * p.rows;
    for (int j = offsets[expert] + thread; j < offsets[expert + 1]; j += threads) own[slots[j] / slots_per_token] = 0;
    for (int bin = thread; bin < bin_count; bin += threads) bins[bin] = 0;
    __syncthreads();
    const int known = p.maxima[expert];
    int count = 0;
#pragma unroll 4
    for (int64_t row = thread; row < p.rows; row += threads) count += own[row] > known;
    count = sum_of_block(count, of_warps);
    Part part = {count, -1, 0};
    if (count > most) {
        for (int64_t row = thread; row < p.rows; row += threads)
            if (own[row] > known) atomicAdd(bins + (own[row] >> bin_shift), 1);
        __syncthreads();
        if (thread < warp_size) part = part_of(bins, most);
    }
    if (thread == 0) parts[expert] = part;
}

// A block an expert: its part becomes rows [offsets[expert], offsets[expert + 1]) of the list, in order, and no candidates.
__global__ void __launch_bounds__(threads) list_kernel(Candidates p, const Part * parts, int32_t * list,
                                                       int32_t * offsets, int32_t * computed, ScreeningCounts * found) {
    __shared__ int of_warps[warps];
    const int expert = int(blockIdx.x), thread = int(threadIdx.x), warp = thread / warp_size, lane = thread % warp_size;
    const Part part = parts[expert];
    int before = 0;
    for (int e = thread; e < expert; e += threads) before += parts[e].count;
    before = sum_of_block(before, of_warps);
    if (thread == 0) {
        offsets[expert] = before;
        if (expert == int(gridDim.x) - 1) {
            offsets[expert + 1] = before + part.count;
            if (found) found->candidates += uint64_t(before + part.count);
        }
        computed[expert] += part.count;
    }
    int * const own = p.bounds + expert * p.rows;
    const int known = p.maxima[expert];
    int above_cut = 0, at_cut = 0; // of the rows before
    for (int64_t first = 0; above_cut + min(at_cut, part.of_cut) < part.count; first += threads) {
        const int64_t row = first + thread;
        const int bound = row < p.rows ? own[row] : 0, bin = bound >> bin_shift;
        const bool is_above = bound > known && bin > part.cut, is_at = bound > known && bin == part.cut;
        // Both counts in one word: neither exceeds the threads of a block.
        const unsigned lanes_above = __ballot_sync(all_lanes, is_above), lanes_at = __ballot_sync(all_lanes, is_at);
        const unsigned lanes_before = (1u << lane) - 1;
        __syncthreads(); // the counts before are read
        if (lane == 0) of_warps[warp] = __popc(lanes_above) | __popc(lanes_at) << 16;
        __syncthreads();
        const int of_warp = of_warps[lane];
        const int up_to = __reduce_add_sync(all_lanes, lane < warp ? of_warp : 0),
                  all = __reduce_add_sync(all_lanes, of_warp);
        const int own_above = above_cut + (up_to & 0xffff) + __popc(lanes_above & lanes_before),
                  own_at = at_cut + (up_to >> 16) + __popc(lanes_at & lanes_before);
        if (is_above || (is_at && own_at < part.of_cut)) {
            list[before + own_above + min(own_at, part.of_cut)] = int32_t(row);
            own[row] = 0;
        }
        above_cut += all & 0xffff, at_cut += all >> 16;
    }
}

__global__ void count_whole_kernel(const int32_t * computed, int experts, int64_t rows, ScreeningCounts * found) {
    int whole = 0;
    for (int e = int(threadIdx.x); e < experts; e += warp_size) whole += computed[e] == rows;
    whole = __reduce_add_sync(all_lanes, whole);
    if (threadIdx.x > 0) return;
    found->pairs += uint64_t(rows) * uint64_t(experts);
    found->whole += uint64_t(whole);
}

struct Memory { // offsets
    uint64_t parts = 0, list = 0, offsets = 0, first_tiles = 0, computed = 0, total = 0;
    Memory(int64_t rows, int64_t experts) {
        const auto place = [&](uint64_t & at, int64_t bytes) { at = total, total += aligned(uint64_t(bytes)); };
        place(parts, experts * int64_t(sizeof(Part)));
        place(list, experts * rows * 4);
        place(offsets, (experts + 1) * 4);
        place(first_tiles, (experts + 1) * 4);
        place(computed, experts * 4);
    }
};

} // namespace

uint64_t candidate_bytes(int64_t rows, int64_t experts) { return Memory(rows, experts).total; }

Status compute_candidates(const CudaContext & context, const ExpertInputs & in, int * bounds, void * scratch,
                          ScreeningCounts * found) {
    const Memory at(in.rows, in.experts);
    const auto integers = [&](uint64_t offset) {
        return reinterpret_cast<int32_t *>(static_cast<uint8_t *>(scratch) + offset);
    };
    auto * const parts = reinterpret_cast<Part *>(integers(at.parts));
    const Candidates candidates = {bounds, in.rows, reinterpret_cast<const int *>(in.maxima)};
    const auto experts = unsigned(in.experts);
    if (cudaMemsetAsync(integers(at.computed), 0, experts * 4, context.stream) != cudaSuccess)
        return launched("expert_inputs");
    for (const int most : {listed_rows, most_candidates}) {
        count_kernel<<<experts, threads, 0, context.stream>>>(candidates, in.slots, in.offsets, int(in.slots_per_token),
                                                              most, parts);
        list_kernel<<<experts, threads, 0, context.stream>>>(candidates, parts, integers(at.list), integers(at.offsets),
                                                             integers(at.computed), found);
        GNV_TRY(launched("expert_inputs"));
        GNV_TRY(listed_experts(context, in, {integers(at.list), integers(at.offsets), integers(at.first_tiles)}));
    }
    if (found)
        count_whole_kernel<<<1, warp_size, 0, context.stream>>>(integers(at.computed), in.experts, in.rows, found);
    return launched("expert_inputs");
}

} // namespace gnv::cuda
