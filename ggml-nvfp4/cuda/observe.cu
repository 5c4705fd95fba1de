// Statistics of activations. Maxima and counts are integers: magnitudes of floats are in the order of their bits, NaN
// and Inf above all, so any order gives the same. Each element of a sum belongs to one thread, which adds row after row
// as the definition says (graph/statistic.h). Nothing is refused here: a value that is not finite leaves a total that
// is not, and in the last bin.
#include "cuda/kernels.cuh"

#include <algorithm>
#include <iterator>

namespace gnv::cuda {

namespace {

// The input of a call.
struct View {
    const bf16 * x;
    const int32_t * offsets; // null: every row has columns of every group
    int64_t rows, stride;    // of x
    int64_t width;           // columns of a group
    // Of statistics of some rows: which rows of x, and what they are multiplied with, from begin(g) on, counts[g] of group g.
    const int32_t * picked = nullptr;
    const float * factors = nullptr;
    const int32_t * counts = nullptr;

    __device__ const bf16 * group(int g) const { return x + (offsets ? 0 : g * width); }
    __device__ int64_t begin(int g) const { return offsets ? offsets[g] : 0; }
    __device__ int64_t end(int g) const {
        if (picked) return begin(g) + counts[g];
        return offsets ? offsets[g + 1] : rows;
    }
    // A row of begin(g) ... end(g), and a column of the group.
    __device__ float value(int g, int64_t row, int64_t column) const {
        const int64_t from = picked ? picked[row] : row;
        const float number = __bfloat162float(group(g)[from * stride + column]);
        return picked ? __fmul_rn(number, factors[row]) : number;
    }
    __device__ bool in_eights() const { return width % 8 == 0 && stride % 8 == 0; }
};

// --- Maxima and counts --------------------------------------------------------------------------------------------------------

constexpr int warps = 8; // each takes every eighth row of a block's tile

// Calls `take` with the magnitudes, as BF16 bits, of this thread's part of the block's tile of rows.
template <int tile, class Take>
__device__ void for_magnitudes(const View & view, int group, const Take & take) {
    const int64_t first = max(int64_t(blockIdx.x) * tile, view.begin(group));
    const int64_t last = min(int64_t(blockIdx.x + 1) * tile, view.end(group));
    for (int64_t row = first + threadIdx.y; row < last; row += warps) {
        const bf16 * const values = view.group(group) + row * view.stride;
        if (view.in_eights()) {
            for (int64_t i = threadIdx.x * 8; i < view.width; i += warp_size * 8) {
                const uint4 eight = *reinterpret_cast<const uint4 *>(values + i);
                for (const unsigned pair : {eight.x, eight.y, eight.z, eight.w}) {
                    take(pair & 0x7fff);
                    take(pair >> 16 & 0x7fff);
                }
            }
        } else {
            for (int64_t i = threadIdx.x; i < view.width; i += warp_size)
                take(unsigned(__bfloat16_as_ushort(values[i])) & 0x7fff);
        }
    }
}

constexpr int maximum_tile = 32; // rows of a block

__global__ void maximum_kernel(View view, float * total) {
    const int group = blockIdx.y;
    unsigned largest = 0;
    for_magnitudes<maximum_tile>(view, group, [&](unsigned bits) { largest = max(largest, bits); });
    largest = __reduce_max_sync(all_lanes, largest);
    if (threadIdx.x == 0 && largest > 0) atomicMax(reinterpret_cast<int *>(total) + group, int(largest << 16));
}

constexpr int magnitude_tile = 128;
constexpr int bins = int(magnitude_bins);

// A histogram each warp, so that warps do not wait for each other's popular bins.
__global__ void magnitudes_kernel(View view, unsigned long long * total) {
    const int group = blockIdx.y, thread = int(threadIdx.y * warp_size + threadIdx.x);
    if (int64_t(blockIdx.x) * magnitude_tile >= view.end(group) ||
        int64_t(blockIdx.x + 1) * magnitude_tile <= view.begin(group))
        return;
    __shared__ unsigned counts[warps][bins];
    for (int i = thread; i < warps * bins; i += warps * warp_size) counts[i / bins][i % bins] = 0;
    __syncthreads();
    for_magnitudes<magnitude_tile>(view, group, [&](unsigned bits) {
        constexpr int first = (127 - 16) << 3; // exponent and three bits of the fraction
        const int bin = min(max(int(bits >> 4) - first, 0), bins - 1);
        atomicAdd(&counts[threadIdx.y][bin], 1u);
    });
    __syncthreads();
    for (int bin = thread; bin < bins; bin += warps * warp_size) {
        unsigned long long sum = 0;
        for (int warp = 0; warp < warps; warp++) sum += counts[warp][bin];
        if (sum > 0) atomicAdd(total + int64_t(group) * bins + bin, sum);
    }
}

// --- Moments ------------------------------------------------------------------------------------------------------------------

constexpr int rows_at_once = 16; // loaded together, added one after another

// A block of 16 columns a block, a pair of columns a thread.
__global__ void moments_16_kernel(View view, float * total) {
    __shared__ float tile[rows_at_once][16];
    const int group = blockIdx.y, i = threadIdx.x / 16, j = threadIdx.x % 16;
    const int64_t column = int64_t(blockIdx.x) * 16 + j, begin = view.begin(group), end = view.end(group);
    if (begin == end) return;
    float * const own = total + (group * (view.width / 16) + blockIdx.x) * 256 + threadIdx.x;
    float sum = *own;
    for (int64_t row = begin; row < end; row += rows_at_once) {
        const int count = int(min(int64_t(rows_at_once), end - row));
        __syncthreads();
        if (i < count) tile[i][j] = view.value(group, row + i, column);
        __syncthreads();
        for (int r = 0; r < count; r++) sum = fmaf(tile[r][i], tile[r][j], sum);
    }
    *own = sum;
}

constexpr int threads_a_side = 16;

// The upper triangle in square tiles, part x part pairs of columns a thread; each is written to its mirror image, too.
template <int part>
__global__ void __launch_bounds__(threads_a_side * threads_a_side) moments_kernel(View view, float * total) {
    constexpr int side = part * threads_a_side, four = 4; // columns of a thread lie in fours, for wide loads
    __shared__ alignas(16) float left[rows_at_once][side], right[rows_at_once][side];
    const int group = blockIdx.z;
    const int64_t first_i = int64_t(blockIdx.y) * side, first_j = int64_t(blockIdx.x) * side, width = view.width;
    const int64_t begin = view.begin(group), end = view.end(group);
    if (first_i > first_j || begin == end) return;
    const int thread = threadIdx.x, di = thread / threads_a_side, dj = thread % threads_a_side;
    float * const matrix = total + group * width * width;
    const auto place = [](int a, int d) { return a / four * (four * threads_a_side) + d * four + a % four; };
    const auto row_of = [&](int a) { return first_i + place(a, di); };
    const auto column_of = [&](int b) { return first_j + place(b, dj); };
    float sums[part][part];
#pragma unroll
    for (int a = 0; a < part; a++)
#pragma unroll
        for (int b = 0; b < part; b++)
            sums[a][b] = row_of(a) < width && column_of(b) < width ? matrix[row_of(a) * width + column_of(b)] : 0.0f;
    for (int64_t row = begin; row < end; row += rows_at_once) {
        const int count = int(min(int64_t(rows_at_once), end - row));
        __syncthreads();
        for (int i = thread; i < count * side; i += threads_a_side * threads_a_side) {
            const int r = i / side, c = i % side;
            left[r][c] = first_i + c < width ? view.value(group, row + r, first_i + c) : 0.0f;
            right[r][c] = first_j + c < width ? view.value(group, row + r, first_j + c) : 0.0f;
        }
        __syncthreads();
        for (int r = 0; r < count; r++) {
            alignas(16) float u[part], v[part];
#pragma unroll
            for (int a = 0; a < part; a += four) {
                *reinterpret_cast<float4 *>(u + a) = *reinterpret_cast<const float4 *>(&left[r][place(a, di)]);
                *reinterpret_cast<float4 *>(v + a) = *reinterpret_cast<const float4 *>(&right[r][place(a, dj)]);
            }
#pragma unroll
            for (int a = 0; a < part; a++)
#pragma unroll
                for (int b = 0; b < part; b++) sums[a][b] = fmaf(u[a], v[b], sums[a][b]);
        }
    }
#pragma unroll
    for (int a = 0; a < part; a++)
#pragma unroll
        for (int b = 0; b < part; b++) {
            const int64_t i = row_of(a), j = column_of(b);
            if (i >= width || j >= width) continue;
            matrix[i * width + j] = sums[a][b];
            if (first_i != first_j) matrix[j * width + i] = sums[a][b];
        }
}

// --- Some rows ----------------------------------------------------------------------------------------------------------------

constexpr int picking_threads = 1024;

// What tells which rows a statistic is of.
struct Choice {
    const int32_t * slots; // null: every row of x, once
    const float * weights;
    const int32_t * positions;
    const uint8_t * mask; // may be null
    int64_t slots_per_token;
    bool is_own, wants_held;
};

// A block a group: rows stay in their order, so the sums are those of the CPU.
__global__ void __launch_bounds__(picking_threads)
    pick_kernel(View view, Choice choice, int32_t * picked, float * factors, int32_t * counts) {
    constexpr int groups_of_32 = picking_threads / warp_size;
    __shared__ int of_warp[groups_of_32];
    const int group = blockIdx.x, thread = int(threadIdx.x), warp = thread / warp_size, lane = thread % warp_size;
    const int64_t begin = view.offsets ? view.offsets[group] : 0,
                  end = view.offsets ? view.offsets[group + 1] : view.rows;
    int64_t out = begin;
    for (int64_t first = begin; first < end; first += picking_threads) {
        const int64_t j = first + thread;
        bool wanted = j < end;
        int64_t from = j;
        float factor = 1.0f;
        if (wanted) {
            const int64_t token = choice.slots ? choice.slots[j] / choice.slots_per_token : j;
            const bool is_held = choice.positions[token] % held_back_period == held_back_period - 1; // is_held_back
            wanted = (!choice.mask || choice.mask[token] != 0) && is_held == choice.wants_held;
            if (choice.slots) {
                factor = choice.weights[choice.slots[j]];
                if (!choice.is_own) from = token;
            }
        }
        const unsigned all = __ballot_sync(all_lanes, wanted);
        __syncthreads(); // the counts of the last turn are read
        if (lane == 0) of_warp[warp] = __popc(all);
        __syncthreads();
        int before = __popc(all & ((1u << lane) - 1)), sum = 0;
        for (int w = 0; w < groups_of_32; w++) {
            before += w < warp ? of_warp[w] : 0;
            sum += of_warp[w];
        }
        if (wanted) {
            picked[out + before] = int32_t(from);
            factors[out + before] = factor;
        }
        out += sum;
    }
    if (thread == 0) counts[group] = int32_t(out - begin);
}

// A thread a group, in the order of rows.
__global__ void weights_kernel(View view, int groups, double * total) {
    const int group = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (group >= groups) return;
    double * const own = total + int64_t(group) * 3;
    double count = own[0], squares = own[1], fourths = own[2];
    const int64_t end = view.end(group);
#pragma unroll 8
    for (int64_t row = view.begin(group); row < end; row++) {
        const double weight = view.factors[row], square = __dmul_rn(weight, weight);
        count += 1;
        squares = __dadd_rn(squares, square);
        fourths = __dadd_rn(fourths, __dmul_rn(square, square));
    }
    own[0] = count;
    own[1] = squares;
    own[2] = fourths;
}

// --- Launch -------------------------------------------------------------------------------------------------------------------

enum class Kernel : uint8_t { maximum, magnitudes, moments_16, moments, weights };
struct Known {
    const Statistic * statistic;
    Kernel kernel;
};
constexpr Known known[] = {
    {&Statistic::maximum, Kernel::maximum},
    {&Statistic::magnitudes, Kernel::magnitudes},
    {&Statistic::second_moments_16, Kernel::moments_16},
    {&Statistic::second_moments, Kernel::moments},
    {&Statistic::fitted_moments_16, Kernel::moments_16},
    {&Statistic::held_moments_16, Kernel::moments_16},
    {&Statistic::fitted_moments, Kernel::moments},
    {&Statistic::held_moments, Kernel::moments},
    {&Statistic::fitted_weights, Kernel::weights},
};

const Known * find(const KernelCall & call) {
    const Statistic * const statistic = call.as<ObserveParams>().statistic;
    const auto * const found =
        std::find_if(std::begin(known), std::end(known), [&](const Known & one) { return one.statistic == statistic; });
    return found == std::end(known) ? nullptr : found;
}

Status supports(const KernelCall & call) {
    if (find(call)) return {};
    return fail(Code::unsupported, "no kernel observes ", call.as<ObserveParams>().statistic->name, " on this device");
}

// Scratch memory of statistics of some rows.
struct Picked {
    uint64_t row_bytes, count_bytes;
    explicit Picked(const KernelCall & call) {
        const auto & params = call.as<ObserveParams>();
        const int64_t most =
            call.inputs[3].shape.rank > 0 ? call.inputs[3].shape.elements() : call.inputs[0].shape.rows();
        const bool all = params.statistic->rows == Statistic::Rows::all;
        row_bytes = all ? 0 : aligned(uint64_t(most) * sizeof(int32_t));
        count_bytes = all ? 0 : aligned(uint64_t(params.groups) * sizeof(int32_t));
    }
    uint64_t bytes() const { return 2 * row_bytes + count_bytes; }
};

uint64_t scratch_bytes(const KernelCall & call) { return Picked(call).bytes(); }

void pick_rows(const KernelCall & call, cudaStream_t stream, View & view) {
    const auto & params = call.as<ObserveParams>();
    const Picked size(call);
    auto * const scratch = static_cast<uint8_t *>(call.scratch);
    auto * const picked = reinterpret_cast<int32_t *>(scratch);
    auto * const factors = reinterpret_cast<float *>(scratch + size.row_bytes);
    auto * const counts = reinterpret_cast<int32_t *>(scratch + 2 * size.row_bytes);
    const Choice choice = {call.inputs[3].as<const int32_t>(),
                           call.inputs[4].as<const float>(),
                           call.inputs[5].as<const int32_t>(),
                           call.inputs[6].as<const uint8_t>(),
                           params.slots_per_token,
                           params.row == GroupedLinearParams::Row::own,
                           params.statistic->rows == Statistic::Rows::held};
    pick_kernel<<<unsigned(params.groups), picking_threads, 0, stream>>>(view, choice, picked, factors, counts);
    view.picked = picked;
    view.factors = factors;
    view.counts = counts;
}

template <int part>
void observe_moments(const View & view, unsigned groups, cudaStream_t stream, float * total) {
    const unsigned sides = blocks_for(view.width, part * threads_a_side);
    moments_kernel<part><<<dim3(sides, sides, groups), threads_a_side * threads_a_side, 0, stream>>>(view, total);
}

Status run(KernelCall & call) {
    const CudaContext & context = context_of(call);
    const auto & params = call.as<ObserveParams>();
    const Tensor &x = call.inputs[0], &total = call.inputs[1];
    const auto * offsets = call.inputs[2].as<const int32_t>();
    const int64_t stride = x.shape.last();
    const int64_t width = offsets || params.statistic->rows != Statistic::Rows::all ? stride : stride / params.groups;
    View view = {x.as<const bf16>(), offsets, x.shape.rows(), stride, width};
    if (view.rows == 0 || view.width == 0) return {};
    if (params.statistic->rows != Statistic::Rows::all) pick_rows(call, context.stream, view);
    const auto groups = unsigned(params.groups);
    const auto tiles = [&](int tile) { return dim3(blocks_for(view.rows, tile), groups); };
    const dim3 tile_threads(warp_size, warps);
    switch (find(call)->kernel) {
    case Kernel::maximum:
        maximum_kernel<<<tiles(maximum_tile), tile_threads, 0, context.stream>>>(view, total.as<float>());
        break;
    case Kernel::magnitudes:
        magnitudes_kernel<<<tiles(magnitude_tile), tile_threads, 0, context.stream>>>(view,
                                                                                      total.as<unsigned long long>());
        break;
    case Kernel::moments_16:
        moments_16_kernel<<<dim3(blocks_for(view.width, 16), groups), 256, 0, context.stream>>>(view,
                                                                                                total.as<float>());
        break;
    case Kernel::moments: // large tiles read less, small ones are more
        if (view.width >= 512)
            observe_moments<8>(view, groups, context.stream, total.as<float>());
        else
            observe_moments<4>(view, groups, context.stream, total.as<float>());
        break;
    case Kernel::weights:
        weights_kernel<<<blocks_for(groups, 32), 32, 0, context.stream>>>(view, int(groups), total.as<double>());
        break;
    }
    return launched("observe");
}

} // namespace

const KernelEntry observe_entry = {run, scratch_bytes, supports};

} // namespace gnv::cuda
