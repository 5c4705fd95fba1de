// A counting sort in three launches, or one where there are few slots. Slots are cut into chunks:
//
//   count    a block for each chunk: how many of its slots chose each expert
//   begin    one block: sums of the counts, expert by expert and within an expert chunk by chunk, are where each begins
//   write    a warp for each chunk: its slots in order, each to the next place of its expert
//
// Counts are integers, and slots stay in order within a chunk: the result is that of any other stable sort.
#include "cuda/chain.cuh"
#include "cuda/few_choices.cuh"
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

constexpr int least_slots = 1024;  // of a chunk
constexpr int most_experts = 8192; // at once: their counters fit into shared memory
constexpr int most_counts = 65536; // chunks x experts, unless one chunk has more
constexpr int count_threads = 256;
constexpr int begin_threads = 1024; // as many warps as lanes
constexpr int begin_values = 8;     // of a thread, at a time
constexpr int slots_ahead = 8;      // loads of a lane that are under way together

// counts [experts, chunks]
__global__ void __launch_bounds__(count_threads) count_kernel(Choices choices, int32_t * counts) {
    extern __shared__ int32_t count_of[]; // [experts]
    for (int e = threadIdx.x; e < choices.experts; e += count_threads) count_of[e] = 0;
    __syncthreads();
    const int64_t end = choices.end();
    for (int64_t slot = choices.begin() + threadIdx.x; slot < end; slot += count_threads) {
        const int expert = choices.expert_of(slot);
        if (expert >= 0) atomicAdd(count_of + expert, 1);
    }
    __syncthreads();
    for (int e = threadIdx.x; e < choices.experts; e += count_threads)
        counts[int64_t(e) * gridDim.x + blockIdx.x] = count_of[e];
}

// The sum over this lane and those before it.
__device__ int32_t sum_up_to(int32_t value) {
    const int lane = threadIdx.x % warp_size;
#pragma unroll
    for (int step = 1; step < warp_size; step *= 2) {
        const int32_t before = __shfl_up_sync(all_lanes, value, step);
        if (lane >= step) value += before;
    }
    return value;
}

// Replaces counts by the places where they begin, and sets offsets [experts + 1] to those of the experts. `continues`:
// offsets[0] is given, by the experts before these.
__global__ void __launch_bounds__(begin_threads)
    begin_kernel(int32_t * counts, int experts, int chunks, bool continues, int32_t * offsets) {
    static_assert(begin_threads == warp_size * warp_size);
    __shared__ int32_t of_warp[warp_size];
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, total = experts * chunks;
    int32_t done = continues ? offsets[0] : 0; // slots of everything before this turn
    for (int base = 0; base < total; base += begin_threads * begin_values) {
        const int first = base + int(threadIdx.x) * begin_values;
        int32_t values[begin_values], sum = 0;
#pragma unroll
        for (int i = 0; i < begin_values; i++) {
            values[i] = first + i < total ? counts[first + i] : 0;
            sum += values[i];
        }
        const int32_t in_warp = sum_up_to(sum);
        if (lane == warp_size - 1) of_warp[warp] = in_warp;
        __syncthreads();
        const int32_t warps = sum_up_to(of_warp[lane]);
        const int32_t before = __shfl_sync(all_lanes, warps, max(warp - 1, 0));
        int32_t begin = done + (warp > 0 ? before : 0) + in_warp - sum;
        done += __shfl_sync(all_lanes, warps, warp_size - 1);
#pragma unroll
        for (int i = 0; i < begin_values; i++) {
            if (first + i < total) counts[first + i] = begin;
            begin += values[i];
        }
        __syncthreads(); // all have read of_warp, and written their part of counts
    }
    for (int e = threadIdx.x; e < experts; e += begin_threads) offsets[e] = counts[e * chunks];
    if (threadIdx.x == 0) offsets[experts] = done;
}

// begins [experts, chunks]
__global__ void __launch_bounds__(warp_size) write_kernel(Choices choices, const int32_t * begins, int32_t * out) {
    extern __shared__ int32_t next[]; // [experts]: where the next slot of each goes
    const int lane = threadIdx.x;
    for (int e = lane; e < choices.experts; e += warp_size) next[e] = begins[int64_t(e) * gridDim.x + blockIdx.x];
    __syncwarp();
    const int64_t end = choices.end();
    for (int64_t base = choices.begin(); base < end; base += slots_ahead * warp_size) {
        int experts[slots_ahead];
#pragma unroll
        for (int i = 0; i < slots_ahead; i++) {
            const int64_t slot = base + i * warp_size + lane;
            experts[i] = slot < end ? choices.expert_of(slot) : -1;
        }
#pragma unroll
        for (int i = 0; i < slots_ahead; i++) {
            const int expert = experts[i];
            const unsigned same = __match_any_sync(all_lanes, expert); // lanes whose slots chose the same expert
            const int before = __popc(same & ((1u << lane) - 1));
            int32_t place = 0;
            if (expert >= 0) {
                place = next[expert];
                out[place + before] = int32_t(base + i * warp_size + lane);
            }
            __syncwarp(); // all have read their place
            if (expert >= 0 && before == 0) next[expert] = place + __popc(same);
            __syncwarp();
        }
    }
}

// All of it at once, for the few slots of a token or two.
__global__ void __launch_bounds__(most_few_slots) few_kernel(Choices choices, int32_t * offsets, int32_t * out) {
    let_later_start();
    wait_for_earlier();
    order_few(choices, offsets, out);
}

// How slots are cut: so finely that all processors have something to do, unless that makes too many counts.
struct Cut {
    int64_t chunk = 0; // slots
    int chunks = 0;
    explicit Cut(const KernelCall & call) {
        const int64_t slots = call.inputs[0].shape.elements(), experts = call.as<ExpertOrderParams>().count;
        const int64_t most = std::max<int64_t>(1, most_counts / experts);
        const int64_t wanted = std::clamp<int64_t>((slots + least_slots - 1) / least_slots, 1, most);
        chunk = std::max<int64_t>(1, (slots + wanted - 1) / wanted);
        chunks = int(std::max<int64_t>(1, (slots + chunk - 1) / chunk));
    }
};

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<ExpertOrderParams>();
    const Cut cut(call);
    auto * const counts = static_cast<int32_t *>(call.scratch);
    auto * const slots = call.outputs[0].as<int32_t>();
    auto * const offsets = call.outputs[1].as<int32_t>();
    if (const int64_t all = call.inputs[0].shape.elements(); all <= most_few_slots) {
        const Choices choices = {call.inputs[0].as<const int32_t>(), all, all, params.first, int(params.count)};
        return launch_chained("expert_order", context, few_kernel, 1, most_few_slots, 0, choices, offsets, slots);
    }
    for (int64_t first = 0; first < params.count; first += most_experts) {
        const int experts = int(std::min<int64_t>(most_experts, params.count - first));
        const Choices choices = {call.inputs[0].as<const int32_t>(), call.inputs[0].shape.elements(), cut.chunk,
                                 params.first + first, experts};
        const auto blocks = unsigned(cut.chunks);
        const size_t counters = size_t(experts) * sizeof(int32_t);
        count_kernel<<<blocks, count_threads, counters, context.stream>>>(choices, counts);
        begin_kernel<<<1, begin_threads, 0, context.stream>>>(counts, experts, cut.chunks, first > 0, offsets + first);
        write_kernel<<<blocks, warp_size, counters, context.stream>>>(choices, counts, slots);
    }
    return launched("expert_order");
}

uint64_t scratch_bytes(const KernelCall & call) {
    const auto experts = uint64_t(std::min<int64_t>(most_experts, call.as<ExpertOrderParams>().count));
    return experts * uint64_t(Cut(call).chunks) * sizeof(int32_t);
}

} // namespace

const KernelEntry expert_order_entry = {run, scratch_bytes};

} // namespace gnv::cuda
