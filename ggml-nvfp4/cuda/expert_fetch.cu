// Two launches: a block finds what is missing and where it goes, then all blocks copy that. They read the host's memory over the
// link, 16 bytes a thread and several of them under way, which keeps it as busy as the copy engine does.
#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

enum { in_offsets, in_stack, in_cache, in_table = 7 }; // three pairs of stack and cache
constexpr int most_stacks = 3, most_parts = 2 * most_stacks;
constexpr int place_bits = 10, most_places = 1 << place_bits, most_experts = 2048;
constexpr unsigned taken = ~0u; // the key of a place that may not be given away
constexpr int threads = 256, words_a_thread = 4;
constexpr int64_t words_a_chunk = threads * words_a_thread; // of 16 bytes

struct Copy {
    int expert, place;
};

struct Search {
    const int32_t * offsets;
    int32_t *counts, *holds; // the table
    int32_t * places;
    int experts, count; // count: of places
    int32_t * copies;   // how many, and
    Copy * list;
};

__global__ void __launch_bounds__(threads) search_kernel(const __grid_constant__ Search p) {
    __shared__ int place_of[most_experts], holds[most_places];
    __shared__ unsigned keys[most_places]; // the smallest goes first: empty places, small counts, early places
    let_later_start();
    wait_for_earlier();
    const auto is_chosen = [&](int g) { return p.offsets[g] < p.offsets[g + 1]; };
    for (int g = threadIdx.x; g < p.experts; g += threads) place_of[g] = -1;
    __syncthreads();
    for (int place = threadIdx.x; place < p.count; place += threads) {
        const int expert = p.holds[place] - 1;
        holds[place] = expert;
        if (expert >= 0) place_of[expert] = place;
        keys[place] = expert < 0          ? unsigned(place)
                      : is_chosen(expert) ? taken
                                          : unsigned(p.counts[expert] + 1) << place_bits | unsigned(place);
    }
    __syncthreads();
    if (threadIdx.x < warp_size) {
        const int lane = threadIdx.x;
        int copies = 0;
        for (int base = 0; base < p.experts; base += warp_size) {
            const int g = base + lane;
            unsigned missing = __ballot_sync(all_lanes, g < p.experts && is_chosen(g) && place_of[g] < 0);
            for (; missing != 0; missing &= missing - 1) {
                unsigned key = taken;
                for (int place = lane; place < p.count; place += warp_size) key = min(key, keys[place]);
                key = smallest_of_warp(key);
                if (key == taken) break; // more are chosen than there are places, which no caller asks for
                const int expert = base + __ffs(int(missing)) - 1, place = int(key % most_places);
                if (lane == 0) {
                    if (holds[place] >= 0) place_of[holds[place]] = -1;
                    holds[place] = expert, place_of[expert] = place, keys[place] = taken;
                    p.list[copies] = {expert, place};
                }
                copies++;
                __syncwarp();
            }
        }
        if (lane == 0) *p.copies = copies;
    }
    __syncthreads();
    for (int place = threadIdx.x; place < p.count; place += threads) p.holds[place] = holds[place] + 1;
    for (int g = threadIdx.x; g < p.experts; g += threads) {
        p.places[g] = place_of[g];
        p.counts[g] += (is_chosen(g) ? 1024 : 0) - p.counts[g] / 64;
    }
}

struct Copies {
    const int32_t * count;
    const Copy * list;
    struct Part { // of each expert: codes or numbers of a stack, or its block scales
        const uint4 * from;
        uint4 * to;
        int64_t words, chunks; // of an expert
    } part[most_parts];
    int parts;
    int64_t chunks; // of an expert, of all parts
};

__global__ void __launch_bounds__(threads) copy_kernel(const __grid_constant__ Copies p) {
    wait_for_earlier();
    const int64_t all = *p.count * p.chunks;
    for (int64_t i = blockIdx.x; i < all; i += gridDim.x) {
        const Copy copy = p.list[i / p.chunks];
        int64_t chunk = i % p.chunks;
        int at = 0;
        for (; chunk >= p.part[at].chunks; at++) chunk -= p.part[at].chunks;
        const Copies::Part & part = p.part[at];
        const uint4 * const from = part.from + copy.expert * part.words;
        uint4 * const to = part.to + copy.place * part.words;
        const int64_t first = chunk * words_a_chunk + threadIdx.x;
        uint4 words[words_a_thread];
#pragma unroll
        for (int w = 0; w < words_a_thread; w++)
            if (first + w * threads < part.words) words[w] = __ldcs(from + first + w * threads);
#pragma unroll
        for (int w = 0; w < words_a_thread; w++)
            if (first + w * threads < part.words) to[first + w * threads] = words[w];
    }
}

int64_t experts_of(const KernelCall & call) { return call.inputs[in_offsets].shape[0] - 1; }
int64_t places_of(const KernelCall & call) { return call.inputs[in_cache].shape[0]; }

// The parts of a call's stacks, with their sizes.
Copies copies_of(const KernelCall & call) {
    Copies p = {};
    const auto add = [&](const void * from, void * to, int64_t bytes) {
        const int64_t words = bytes / 16, chunks = (words + words_a_chunk - 1) / words_a_chunk;
        p.part[p.parts++] = {static_cast<const uint4 *>(from), static_cast<uint4 *>(to), words, chunks};
        p.chunks += chunks;
    };
    for (int i = 0; i < most_stacks; i++) {
        const Tensor &stack = call.inputs[in_stack + 2 * i], &cache = call.inputs[in_cache + 2 * i];
        if (stack.shape.rank == 0) continue;
        const Shape one = {stack.shape[1], stack.shape[2]};
        add(stack.data, cache.data, int64_t(tensor_bytes(stack.dtype, one)));
        if (stack.dtype == DType::f4)
            add(stack.block_scales, const_cast<uint8_t *>(cache.block_scales), one.elements() / 16);
    }
    return p;
}

Status run(KernelCall & call) {
    const CudaContext & context = context_of(call);
    auto * const counts = call.inputs[in_table].as<int32_t>();
    auto * const copies = static_cast<int32_t *>(call.scratch);
    auto * const list = reinterpret_cast<Copy *>(copies + 2);
    const Search search = {call.inputs[in_offsets].as<const int32_t>(),
                           counts,
                           counts + experts_of(call),
                           call.outputs[0].as<int32_t>(),
                           int(experts_of(call)),
                           int(places_of(call)),
                           copies,
                           list};
    GNV_TRY(launch_chained("expert_fetch", context, search_kernel, 1, threads, 0, search));
    Copies p = copies_of(call);
    p.count = copies, p.list = list;
    return launch_chained("expert_fetch", context, copy_kernel, unsigned(4 * context.processors), threads, 0, p);
}

uint64_t scratch_bytes(const KernelCall & call) { return (uint64_t(places_of(call)) + 1) * sizeof(Copy); }

Status supports(const KernelCall & call) {
    if (experts_of(call) > most_experts || places_of(call) > most_places)
        return fail(Code::unsupported, "a cache has at most ", most_places, " of ", most_experts, " experts");
    for (int i = 0; i < most_stacks; i++) {
        const Tensor & stack = call.inputs[in_stack + 2 * i];
        if (stack.shape.rank == 0) continue;
        const Shape one = {stack.shape[1], stack.shape[2]};
        if (tensor_bytes(stack.dtype, one) % 16 != 0 || (stack.dtype == DType::f4 && one.elements() % 256 != 0))
            return fail(Code::unsupported, "an expert's weights are no multiple of 16 bytes");
    }
    return {};
}

} // namespace

const KernelEntry expert_fetch_entry = {run, scratch_bytes, supports};

} // namespace gnv::cuda
