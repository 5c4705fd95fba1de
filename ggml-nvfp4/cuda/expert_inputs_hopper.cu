#include "cuda/expert_inputs_hopper.cuh"

#include "cuda/expert_products.cuh"
#include "cuda/rotate_hopper.cuh"
#include "cuda/tensor_map.h"

namespace gnv::cuda {

namespace {

using namespace hopper;

// --- Every row with every expert in BF16 -----------------------------------------------------------------------------

// places [experts, rows]: the place of a pair that the router chose, else -1.
struct Exact {
    int * maxima;
    const int32_t * places;
    bf16 *gate, *up;
    int64_t rows;
    int columns;

    class Tile {
      public:
        __device__ Tile(const Exact & all, const ProductPlace & place, void *) : all_(all), place_(place) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int64_t row = place.row + threadIdx.x % warp_size / 4 + h * 8;
                chosen_[h] = row < all.rows ? all.places[int64_t(place.expert) * all.rows + row] : -1;
            }
        }
        __device__ void finish(const float (&sums)[128]) const {
            int * const maximum = all_.maxima + place_.expert;
            raise(maximum, largest_activation<64>(sums, read_maximum(maximum)));
            const int column = place_.column + int(threadIdx.x) % 4 * 2;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (chosen_[h] < 0) continue;
                const int64_t row = int64_t(chosen_[h]) * all_.columns;
                store_pairs<64>(sums, 2 * h, column, all_.columns, all_.gate + row, all_.up + row);
            }
        }

      private:
        const Exact & all_;
        const ProductPlace place_;
        int chosen_[2];
    };
};

__global__ void places_kernel(const int32_t * slots, const int32_t * offsets, int slots_per_token, int64_t rows,
                              int32_t * places) {
    const int expert = blockIdx.x;
    for (int j = offsets[expert] + int(threadIdx.x); j < offsets[expert + 1]; j += int(blockDim.x))
        places[expert * rows + slots[j] / slots_per_token] = j;
}

// --- Every row with every expert in 8 bits ---------------------------------------------------------------------------

struct Screen {
    const float4 * rows;       // [rows]: of cuda/rotate_hopper.cuh
    const float4 * columns[2]; // gate, up: [experts, columns]
    const int * maxima;
    uint32_t * candidates; // [experts, words]: bits of rows
    int64_t row_count;
    int column_count, words;

    class Tile {
      public:
        __device__ Tile(const Screen & all, const ProductPlace & place, void * memory)
            : all_(all), place_(place), memory_(static_cast<float *>(memory)) {
            const int column = place.column + int(threadIdx.x) % 128;
#pragma unroll
            for (int i = 0; i < 2; i++)
                own_[i] = column < all.column_count ? all.columns[i][int64_t(place.expert) * all.column_count + column]
                                                    : float4{0, 0, 0, 0};
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int64_t row = place.row + threadIdx.x % warp_size / 4 + h * 8;
                row_[h] = row < all.row_count ? all.rows[row] : float4{0, 0, 0, 0};
            }
        }
        __device__ void finish(const int (&sums)[128]) const {
            const int thread = int(threadIdx.x) % 128, lane = thread % warp_size, barrier = int(threadIdx.x) / 128;
            asm volatile("bar.sync %0, 128;" ::"r"(barrier) : "memory"); // the tile before is read
#pragma unroll
            for (int i = 0; i < 2; i++) {
                memory_[(3 * i) * 128 + thread] = own_[i].x;
                memory_[(3 * i + 1) * 128 + thread] = own_[i].y;
                memory_[(3 * i + 2) * 128 + thread] = own_[i].z;
            }
            asm volatile("bar.sync %0, 128;" ::"r"(barrier) : "memory");
            float bound[2] = {0, 0};
#pragma unroll
            for (int j = 0; j < 16; j++) {
                float2 c[6];
#pragma unroll
                for (int i = 0; i < 6; i++)
                    c[i] = *reinterpret_cast<const float2 *>(memory_ + i * 128 + j * 8 + lane % 4 * 2);
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float a = row_[h].x, b = row_[h].y, least = row_[h].z;
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const auto of = [&](int n) { return i == 0 ? c[n].x : c[n].y; };
                        const float g = float(sums[4 * j + 2 * h + i]), u = float(abs(sums[64 + 4 * j + 2 * h + i]));
                        const float most_g = fmaf(g, of(0), fmaf(a, of(1), b * of(2)));
                        const float most_u = fmaf(u, of(3), fmaf(a, of(4), b * of(5)));
                        bound[h] = larger(bound[h], larger(most_g, least) * most_u);
                    }
                }
            }
            const float known = read_maximum(all_.maxima + place_.expert);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const bool exists = place_.row + lane / 4 + h * 8 < all_.row_count;
                unsigned found =
                    __ballot_sync(all_lanes, exists && !(bound[h] * screening::rounding_margin <= known * row_[h].w));
                if (found == 0) continue;
                found |= found >> 1;
                found |= found >> 2; // bit 4 * row
                unsigned rows = 0;
                for (int r = 0; r < 8; r++) rows |= (found >> (4 * r) & 1) << r;
                const int64_t first = place_.row + h * 8;
                if (lane == 0)
                    atomicOr(all_.candidates + int64_t(place_.expert) * all_.words + first / 32, rows << (first % 32));
            }
        }

      private:
        const Screen & all_;
        const ProductPlace place_;
        float * const memory_;
        float4 own_[2], row_[2];
    };
};

} // namespace

Status exact_experts(const CudaContext & context, const ExpertInputs & in, int32_t * places) {
    if (cudaMemsetAsync(places, 0xff, size_t(in.rows) * size_t(in.experts) * 4, context.stream) != cudaSuccess)
        return launched("expert_inputs");
    places_kernel<<<unsigned(in.experts), 256, 0, context.stream>>>(in.slots, in.offsets, int(in.slots_per_token),
                                                                    in.rows, places);
    GNV_TRY(launched("expert_inputs"));
    GNV_ASSIGN(const CUtensorMap x, tensor_map({in.x, 1, in.rows, in.k, 2}, product_tile));
    GNV_ASSIGN(const CUtensorMap gate, tensor_map({in.gate, in.experts, in.columns, in.k, 2}, product_tile));
    GNV_ASSIGN(const CUtensorMap up, tensor_map({in.up, in.experts, in.columns, in.k, 2}, product_tile));
    const ExpertProducts products = {in.rows, in.experts, int(in.columns), int((in.k + 63) / 64)};
    const Exact epilogue = {
        reinterpret_cast<int *>(in.maxima), places, in.chosen_gate, in.chosen_up, in.rows, int(in.columns)};
    (void)multiply_experts<float>(context.stream, context.processors, x, gate, up, products, epilogue);
    return launched("expert_inputs");
}

namespace {

// --- Lists of candidates ---------------------------------------------------------------------------------------------

__device__ int sum_of_block(int value, int * of_warps) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(all_lanes, value, step);
    __syncthreads(); // the sums before are read
    if (threadIdx.x % warp_size == 0) of_warps[threadIdx.x / warp_size] = value;
    __syncthreads();
    int sum = 0;
    for (int w = 0; w < int(blockDim.x) / warp_size; w++) sum += of_warps[w];
    return sum;
}

// A block an expert: takes out the pairs that the router chose, which are computed, and counts the rest.
__global__ void count_candidates(const int32_t * slots, const int32_t * offsets, int slots_per_token, int words,
                                 uint32_t * candidates, int32_t * counts) {
    __shared__ int of_warps[warp_size];
    uint32_t * const own = candidates + int64_t(blockIdx.x) * words;
    for (int j = offsets[blockIdx.x] + int(threadIdx.x); j < offsets[blockIdx.x + 1]; j += int(blockDim.x)) {
        const int row = slots[j] / slots_per_token;
        atomicAnd(own + row / 32, ~(1u << row % 32));
    }
    __syncthreads();
    int count = 0;
    for (int i = int(threadIdx.x); i < words; i += int(blockDim.x)) count += __popc(own[i]);
    count = sum_of_block(count, of_warps);
    if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

// A block an expert: rows [offsets[expert], offsets[expert + 1]) of the list, in order.
__global__ void list_candidates(const uint32_t * candidates, const int32_t * counts, int words, int64_t rows,
                                int32_t * list, int32_t * offsets, ScreeningCounts * found) {
    __shared__ int of_warps[warp_size];
    const int expert = int(blockIdx.x), thread = int(threadIdx.x), threads = int(blockDim.x);
    int before = 0;
    for (int e = thread; e < expert; e += threads) before += counts[e];
    before = sum_of_block(before, of_warps);
    if (thread == 0) offsets[expert] = before;
    if (thread == 0 && expert == int(gridDim.x) - 1) {
        offsets[expert + 1] = before + counts[expert];
        if (found) {
            found->pairs += uint64_t(rows) * gridDim.x;
            found->candidates += uint64_t(before + counts[expert]);
        }
    }
    if (found && thread == 0 && counts[expert] == rows)
        atomicAdd(reinterpret_cast<unsigned long long *>(&found->whole), 1ull);
    if (counts[expert] == 0) return;
    for (int first = 0; first < words; first += threads) {
        const uint32_t word = first + thread < words ? candidates[int64_t(expert) * words + first + thread] : 0;
        const int own = __popc(word), lane = thread % warp_size;
        int up_to = own;
        for (int step = 1; step < warp_size; step *= 2) {
            const int other = __shfl_up_sync(all_lanes, up_to, step);
            if (lane >= step) up_to += other;
        }
        __syncthreads();
        if (lane == warp_size - 1) of_warps[thread / warp_size] = up_to;
        __syncthreads();
        int at = before + up_to - own, sum = 0;
        for (int w = 0; w < threads / warp_size; w++) {
            if (w < thread / warp_size) at += of_warps[w];
            sum += of_warps[w];
        }
        for (uint32_t rest = word; rest != 0; rest &= rest - 1)
            list[at++] = (first + thread) * 32 + __ffs(int(rest)) - 1;
        before += sum;
    }
}

struct Scratch { // offsets; of `experts` at a time
    int64_t experts = 0, words = 0;
    uint64_t x = 0, rows = 0, gate = 0, up = 0, gate_bounds = 0, up_bounds = 0, candidates = 0, counts = 0, list = 0,
             offsets = 0, first_tiles = 0, total = 0;
    explicit Scratch(const ExpertInputs & in) {
        constexpr int64_t most_bytes = 256 << 20; // of weights: enough for a launch to fill the device
        const int64_t matrix = in.columns * in.k;
        experts = std::clamp<int64_t>(most_bytes / (2 * matrix), 1, in.experts);
        words = (in.rows + 31) / 32;
        const auto place = [&](uint64_t & at, int64_t bytes) { at = total, total += aligned(uint64_t(bytes)); };
        place(x, in.rows * in.k);
        place(rows, in.rows * int64_t(sizeof(float4)));
        place(gate, experts * matrix);
        place(up, experts * matrix);
        place(gate_bounds, experts * in.columns * int64_t(sizeof(float4)));
        place(up_bounds, experts * in.columns * int64_t(sizeof(float4)));
        place(candidates, experts * words * 4);
        place(counts, experts * 4);
        place(list, experts * in.rows * 4);
        place(offsets, (experts + 1) * 4);
        place(first_tiles, (experts + 1) * 4);
    }
};

} // namespace

uint64_t screening_bytes(const ExpertInputs & in) { return can_rotate(in.k) ? Scratch(in).total : 0; }

Status screened_experts(const CudaContext & context, const ExpertInputs & in, void * scratch,
                        ScreeningCounts * counts) {
    const Scratch at(in);
    const auto place = [&](uint64_t offset) { return static_cast<uint8_t *>(scratch) + offset; };
    auto *const x8 = reinterpret_cast<int8_t *>(place(at.x)), *const gate8 = reinterpret_cast<int8_t *>(place(at.gate)),
                *const up8 = reinterpret_cast<int8_t *>(place(at.up));
    auto * const rows = reinterpret_cast<float4 *>(place(at.rows));
    auto * const gate_bounds = reinterpret_cast<float4 *>(place(at.gate_bounds));
    auto * const up_bounds = reinterpret_cast<float4 *>(place(at.up_bounds));
    auto * const candidates = reinterpret_cast<uint32_t *>(place(at.candidates));
    const auto integers = [&](uint64_t offset) { return reinterpret_cast<int32_t *>(place(offset)); };
    const int words = int(at.words);
    GNV_TRY(rotate_rows(context.stream, {in.x, in.rows, in.k, x8, rows}));
    GNV_ASSIGN(const CUtensorMap x_map, tensor_map({x8, 1, in.rows, in.k, 1}, product_tile));
    for (int64_t first = 0; first < in.experts; first += at.experts) {
        ExpertInputs some = in;
        some.experts = int(std::min(at.experts, in.experts - first));
        some.gate += first * in.columns * in.k;
        some.up += first * in.columns * in.k;
        some.offsets += first;
        some.maxima += first;
        const int64_t columns = some.experts * in.columns;
        // The routed rows are wanted anyway, and begin the maxima.
        GNV_TRY(listed_experts(context, some,
                               {in.slots, some.offsets, in.slots_per_token, true, integers(at.first_tiles)}));
        GNV_TRY(rotate_columns(context.stream, {some.gate, columns, in.k, gate8, gate_bounds}));
        GNV_TRY(rotate_columns(context.stream, {some.up, columns, in.k, up8, up_bounds}));
        if (cudaMemsetAsync(candidates, 0, size_t(some.experts) * size_t(words) * 4, context.stream) != cudaSuccess)
            return launched("expert_inputs");
        GNV_ASSIGN(const CUtensorMap gate_map, tensor_map({gate8, some.experts, in.columns, in.k, 1}, product_tile));
        GNV_ASSIGN(const CUtensorMap up_map, tensor_map({up8, some.experts, in.columns, in.k, 1}, product_tile));
        const ExpertProducts products = {in.rows, some.experts, int(in.columns), int((in.k + 127) / 128)};
        const Screen epilogue = {rows,
                                 {gate_bounds, up_bounds},
                                 reinterpret_cast<const int *>(some.maxima),
                                 candidates,
                                 in.rows,
                                 int(in.columns),
                                 words};
        (void)multiply_experts<int>(context.stream, context.processors, x_map, gate_map, up_map, products, epilogue);
        GNV_TRY(launched("expert_inputs"));
        count_candidates<<<unsigned(some.experts), 256, 0, context.stream>>>(
            in.slots, some.offsets, int(in.slots_per_token), words, candidates, integers(at.counts));
        list_candidates<<<unsigned(some.experts), 256, 0, context.stream>>>(
            candidates, integers(at.counts), words, in.rows, integers(at.list), integers(at.offsets), counts);
        GNV_TRY(launched("expert_inputs"));
        GNV_TRY(listed_experts(context, some,
                               {integers(at.list), integers(at.offsets), 1, false, integers(at.first_tiles)}));
    }
    return {};
}

// A block an expert.
static __global__ void compare_kernel(ExpertInputs a, ExpertInputs b, ScreeningCounts * counts) {
    const int expert = int(blockIdx.x);
    const int64_t first = a.offsets[expert] * a.columns, last = a.offsets[expert + 1] * a.columns;
    bool differs = __float_as_uint(a.maxima[expert]) != __float_as_uint(b.maxima[expert]);
    const auto bits = [](bf16 number) { return __bfloat16_as_ushort(number); };
    for (int64_t i = first + threadIdx.x; i < last; i += blockDim.x)
        differs |= bits(a.chosen_gate[i]) != bits(b.chosen_gate[i]) || bits(a.chosen_up[i]) != bits(b.chosen_up[i]);
    if (__syncthreads_or(differs) && threadIdx.x == 0)
        atomicAdd(reinterpret_cast<unsigned long long *>(&counts->different), 1ull);
}

Status compare_experts(const CudaContext & context, const ExpertInputs & a, const ExpertInputs & b,
                       ScreeningCounts * counts) {
    compare_kernel<<<unsigned(a.experts), 256, 0, context.stream>>>(a, b, counts);
    return launched("expert_inputs");
}

} // namespace gnv::cuda
