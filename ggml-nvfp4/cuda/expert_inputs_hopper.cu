#include "cuda/expert_inputs_hopper.cuh"

#include "cuda/expert_products.cuh"
#include "cuda/grouped_product.cuh"
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
    int * bounds; // [experts, rows]: bits of a candidate's bound; the others stay 0
    int64_t row_count;
    int column_count;

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
            // Bits of floats that are not negative are in their order; NaN, for no bound, is above all.
            const int known = *reinterpret_cast<const volatile int *>(all_.maxima + place_.expert);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int64_t row = place_.row + lane / 4 + h * 8;
                const float most = bound[h] * (screening::rounding_margin * row_[h].w);
                int bits = most < INFINITY ? __float_as_int(most) : no_bound;
                for (int step = 1; step < 4; step *= 2) bits = max(bits, __shfl_xor_sync(all_lanes, bits, step));
                if (lane % 4 == 0 && row < all_.row_count && bits > known)
                    atomicMax(all_.bounds + int64_t(place_.expert) * all_.row_count + row, bits);
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

struct Scratch { // offsets; of `experts` at a time
    int64_t experts = 0;
    uint64_t x = 0, rows = 0, gate = 0, up = 0, gate_bounds = 0, up_bounds = 0, bounds = 0, chosen_rows = 0,
             first_tiles = 0, candidates = 0, total = 0;
    explicit Scratch(const ExpertInputs & in) {
        constexpr int64_t most_bytes = 256 << 20; // of weights: enough for a launch to fill the device
        const int64_t matrix = in.columns * in.k;
        experts = std::clamp<int64_t>(most_bytes / (2 * matrix), 1, in.experts);
        const auto place = [&](uint64_t & at, int64_t bytes) { at = total, total += aligned(uint64_t(bytes)); };
        place(x, in.rows * in.k);
        place(rows, in.rows * int64_t(sizeof(float4)));
        place(gate, experts * matrix);
        place(up, experts * matrix);
        place(gate_bounds, experts * in.columns * int64_t(sizeof(float4)));
        place(up_bounds, experts * in.columns * int64_t(sizeof(float4)));
        place(bounds, experts * in.rows * 4);
        place(chosen_rows, in.slot_count * 4);
        place(first_tiles, (in.experts + 1) * 4);
        place(candidates, int64_t(candidate_bytes(in.rows, experts)));
    }
};

} // namespace

uint64_t screening_bytes(const ExpertInputs & in) { return can_rotate(in.k) ? Scratch(in).total : 0; }

static __global__ void rows_kernel(const int32_t * slots, int64_t count, int slots_per_token, int32_t * rows) {
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x)
        rows[i] = slots[i] / slots_per_token;
}

// The pairs that the router chose, as any products of experts. They begin the maxima.
static Status chosen_experts(const CudaContext & context, const ExpertInputs & in, bf16 * out, int32_t * rows,
                             int32_t * first_tiles) {
    if (in.slot_count == 0) return {};
    rows_kernel<<<grid_for(in.slot_count), 256, 0, context.stream>>>(in.slots, in.slot_count, int(in.slots_per_token),
                                                                     rows);
    GroupedProduct product = {in.x, rows, in.offsets, in.chosen_gate, in.slot_count, in.columns, in.k, in.experts};
    product.w = in.gate;
    GNV_TRY(grouped_product_hopper(context, product, first_tiles));
    product.w = in.up, product.out = in.chosen_up;
    GNV_TRY(grouped_product_hopper(context, product, first_tiles));
    return activate_observed(context, in.chosen_gate, in.chosen_up, out, in.slot_count, int(in.columns), in.maxima,
                             in.offsets, in.experts);
}

Status screened_experts(const CudaContext & context, const ExpertInputs & in, bf16 * out, void * scratch,
                        ScreeningCounts * counts) {
    const Scratch at(in);
    const auto place = [&](uint64_t offset) { return static_cast<uint8_t *>(scratch) + offset; };
    auto *const x8 = reinterpret_cast<int8_t *>(place(at.x)), *const gate8 = reinterpret_cast<int8_t *>(place(at.gate)),
                *const up8 = reinterpret_cast<int8_t *>(place(at.up));
    auto * const rows = reinterpret_cast<float4 *>(place(at.rows));
    auto * const gate_bounds = reinterpret_cast<float4 *>(place(at.gate_bounds));
    auto * const up_bounds = reinterpret_cast<float4 *>(place(at.up_bounds));
    auto * const bounds = reinterpret_cast<int *>(place(at.bounds));
    const auto integers = [&](uint64_t offset) { return reinterpret_cast<int32_t *>(place(offset)); };
    GNV_TRY(chosen_experts(context, in, out, integers(at.chosen_rows), integers(at.first_tiles)));
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
        GNV_TRY(rotate_columns(context.stream, {some.gate, columns, in.k, gate8, gate_bounds}));
        GNV_TRY(rotate_columns(context.stream, {some.up, columns, in.k, up8, up_bounds}));
        if (cudaMemsetAsync(bounds, 0, size_t(some.experts) * size_t(in.rows) * 4, context.stream) != cudaSuccess)
            return launched("expert_inputs");
        GNV_ASSIGN(const CUtensorMap gate_map, tensor_map({gate8, some.experts, in.columns, in.k, 1}, product_tile));
        GNV_ASSIGN(const CUtensorMap up_map, tensor_map({up8, some.experts, in.columns, in.k, 1}, product_tile));
        const ExpertProducts products = {in.rows, some.experts, int(in.columns), int((in.k + 127) / 128)};
        const Screen epilogue = {rows,    {gate_bounds, up_bounds}, reinterpret_cast<const int *>(some.maxima), bounds,
                                 in.rows, int(in.columns)};
        (void)multiply_experts<int>(context.stream, context.processors, x_map, gate_map, up_map, products, epilogue);
        GNV_TRY(launched("expert_inputs"));
        GNV_TRY(compute_candidates(context, some, bounds, place(at.candidates), counts));
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
