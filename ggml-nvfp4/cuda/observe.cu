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

    __device__ const bf16 * group(int g) const { return x + (offsets ? 0 : g * width); }
    __device__ int64_t begin(int g) const { return offsets ? offsets[g] : 0; }
    __device__ int64_t end(int g) const { return offsets ? offsets[g + 1] : rows; }
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
    const bf16 * const values = view.group(group) + int64_t(blockIdx.x) * 16;
    float * const own = total + (group * (view.width / 16) + blockIdx.x) * 256 + threadIdx.x;
    float sum = *own;
    const int64_t end = view.end(group);
    for (int64_t row = view.begin(group); row < end; row += rows_at_once) {
        const int count = int(min(int64_t(rows_at_once), end - row));
        __syncthreads();
        if (i < count) tile[i][j] = __bfloat162float(values[(row + i) * view.stride + j]);
        __syncthreads();
        for (int r = 0; r < count; r++) sum = fmaf(tile[r][i], tile[r][j], sum);
    }
    *own = sum;
}

constexpr int side = 64, part = 4; // of a block's tile of the matrix; pairs of a thread: part x part
constexpr int threads_a_side = side / part;

// The upper triangle in tiles; each is written to its mirror image, too.
__global__ void moments_kernel(View view, float * total) {
    __shared__ float left[rows_at_once][side], right[rows_at_once][side];
    const int group = blockIdx.z;
    const int64_t first_i = int64_t(blockIdx.y) * side, first_j = int64_t(blockIdx.x) * side, width = view.width;
    if (first_i > first_j) return;
    const int thread = threadIdx.x, di = thread / threads_a_side, dj = thread % threads_a_side;
    const bf16 * const values = view.group(group);
    float * const matrix = total + group * width * width;
    // Column c of a thread is c * threads_a_side further on: neighbours read neighbours.
    const auto row_of = [&](int a) { return first_i + a * threads_a_side + di; };
    const auto column_of = [&](int b) { return first_j + b * threads_a_side + dj; };
    float sums[part][part];
    for (int a = 0; a < part; a++)
        for (int b = 0; b < part; b++)
            sums[a][b] = row_of(a) < width && column_of(b) < width ? matrix[row_of(a) * width + column_of(b)] : 0.0f;
    const int64_t end = view.end(group);
    for (int64_t row = view.begin(group); row < end; row += rows_at_once) {
        const int count = int(min(int64_t(rows_at_once), end - row));
        __syncthreads();
        for (int i = thread; i < count * side; i += threads_a_side * threads_a_side) {
            const int r = i / side, c = i % side;
            const bf16 * const from = values + (row + r) * view.stride;
            left[r][c] = first_i + c < width ? __bfloat162float(from[first_i + c]) : 0.0f;
            right[r][c] = first_j + c < width ? __bfloat162float(from[first_j + c]) : 0.0f;
        }
        __syncthreads();
        for (int r = 0; r < count; r++) {
            float u[part], v[part];
#pragma unroll
            for (int a = 0; a < part; a++) {
                u[a] = left[r][a * threads_a_side + di];
                v[a] = right[r][a * threads_a_side + dj];
            }
#pragma unroll
            for (int a = 0; a < part; a++)
#pragma unroll
                for (int b = 0; b < part; b++) sums[a][b] = fmaf(u[a], v[b], sums[a][b]);
        }
    }
    for (int a = 0; a < part; a++)
        for (int b = 0; b < part; b++) {
            const int64_t i = row_of(a), j = column_of(b);
            if (i >= width || j >= width) continue;
            matrix[i * width + j] = sums[a][b];
            if (first_i != first_j) matrix[j * width + i] = sums[a][b];
        }
}

// --- Launch -------------------------------------------------------------------------------------------------------------------

constexpr const Statistic * known[] = {&Statistic::maximum, &Statistic::magnitudes, &Statistic::second_moments_16,
                                       &Statistic::second_moments};

Status supports(const KernelCall & call) {
    const Statistic * const statistic = call.as<ObserveParams>().statistic;
    if (std::find(std::begin(known), std::end(known), statistic) != std::end(known)) return {};
    return fail(Code::unsupported, "no kernel observes ", statistic->name, " on this device");
}

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<ObserveParams>();
    const Tensor &x = call.inputs[0], &total = call.inputs[1];
    const auto * offsets = call.inputs[2].as<const int32_t>();
    const int64_t stride = x.shape.last();
    const View view = {x.as<const bf16>(), offsets, x.shape.rows(), stride, offsets ? stride : stride / params.groups};
    if (view.rows == 0 || view.width == 0) return {};
    const auto groups = unsigned(params.groups);
    const auto tiles = [&](int tile) { return dim3(blocks_for(view.rows, tile), groups); };
    const dim3 tile_threads(warp_size, warps);
    const unsigned sides = blocks_for(view.width, side);
    if (params.statistic == &Statistic::maximum)
        maximum_kernel<<<tiles(maximum_tile), tile_threads, 0, context.stream>>>(view, total.as<float>());
    else if (params.statistic == &Statistic::magnitudes)
        magnitudes_kernel<<<tiles(magnitude_tile), tile_threads, 0, context.stream>>>(view,
                                                                                      total.as<unsigned long long>());
    else if (params.statistic == &Statistic::second_moments_16)
        moments_16_kernel<<<dim3(blocks_for(view.width, 16), groups), 256, 0, context.stream>>>(view,
                                                                                                total.as<float>());
    else if (params.statistic == &Statistic::second_moments)
        moments_kernel<<<dim3(sides, sides, groups), threads_a_side * threads_a_side, 0, context.stream>>>(
            view, total.as<float>());
    return launched("observe");
}

} // namespace

const KernelEntry observe_entry = {run, nullptr, supports};

} // namespace gnv::cuda
