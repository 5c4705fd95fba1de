#include "cuda/chain.cuh"
#include "cuda/kernels.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

static constexpr int warps_per_block = 8;

template <int lanes>
static __global__ void gated_rms_norm_kernel(const bf16 * o, const float * weight, const bf16 * z, bf16 * out,
                                             int64_t rows, int64_t width, float epsilon, bool use_sigmoid) {
    const int64_t row = int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size;
    const int first = threadIdx.x % warp_size * lanes;
    if (row >= rows) return;
    o += row * width, z += row * width, out += row * width;
    let_later_start();
    wait_for_earlier();
    const float scale = rms_scale<lanes>(o, width, epsilon);
    float values[lanes], gates[lanes], weights[lanes];
    for (int64_t i = first; i < width; i += warp_size * lanes) {
        load_several<lanes>(o + i, values);
        load_several<lanes>(z + i, gates);
        load_several<lanes>(weight + i, weights);
#pragma unroll
        for (int j = 0; j < lanes; j++) {
            const float opened = use_sigmoid ? sigmoid(gates[j]) : gates[j] * sigmoid(gates[j]);
            values[j] = rounded(rounded(values[j] * scale) * weights[j]) * opened;
        }
        store_several<lanes>(out + i, values);
    }
}

// Heads of 128: sixteen threads a row. Each reads its parts of several rows before it needs the first.
constexpr int head = 128, row_threads = head / 8, rows_at_once = 2, threads = 256, rows_a_block = threads / row_threads;

// The sum of rms_scale over a row: of four elements in turn, then in pairs that are 16, 8, 4, 2 and one such sums apart.
__device__ static float sum_of_squares(const float (&values)[8]) {
    float sums[2] = {};
#pragma unroll
    for (int i = 0; i < 8; i++) sums[i / 4] = fmaf(values[i], values[i], sums[i / 4]);
#pragma unroll
    for (int step = row_threads / 2; step > 0; step /= 2)
#pragma unroll
        for (float & sum : sums) sum += __shfl_xor_sync(all_lanes, sum, step);
    return sums[0] + sums[1];
}

template <bool use_sigmoid>
static __global__ void __launch_bounds__(threads)
    heads_kernel(const bf16 * o, const float * weight, const bf16 * z, bf16 * out, int64_t rows, float epsilon) {
    const int at = int(threadIdx.x) % row_threads * 8;
    const int64_t step = int64_t(gridDim.x) * rows_a_block;
    float weights[8];
    load_several<8>(weight + at, weights);
    let_later_start();
    wait_for_earlier();
    for (int64_t first = int64_t(blockIdx.x) * rows_a_block; first < rows; first += step * rows_at_once) {
        uint4 values[rows_at_once] = {}, gates[rows_at_once] = {};
        const auto place = [&](int i) { return (first + i * step + threadIdx.x / row_threads) * head + at; };
#pragma unroll
        for (int i = 0; i < rows_at_once; i++) {
            if (place(i) >= rows * head) continue;
            values[i] = *reinterpret_cast<const uint4 *>(o + place(i));
            gates[i] = *reinterpret_cast<const uint4 *>(z + place(i));
        }
#pragma unroll
        for (int i = 0; i < rows_at_once; i++) {
            float y[8], gate[8];
            unpack(values[i], y);
            unpack(gates[i], gate);
            const float scale = 1.0f / sqrtf(sum_of_squares(y) / float(head) + epsilon);
#pragma unroll
            for (int j = 0; j < 8; j++) y[j] *= scale;
            unpack(pack(y), y);
#pragma unroll
            for (int j = 0; j < 8; j++) y[j] *= weights[j];
            unpack(pack(y), y);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const float opened = sigmoid_of_bf16(gate[j]);
                y[j] *= use_sigmoid ? opened : gate[j] * opened;
            }
            if (place(i) < rows * head) store_eight(out + place(i), pack(y));
        }
    }
}

static Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    const auto & params = call.as<GatedRmsNormParams>();
    const Tensor & o = call.inputs[0];
    const int64_t rows = o.shape.rows();
    if (rows == 0) return {};
    if (o.shape.last() == head) {
        const unsigned blocks = std::min(blocks_for(rows, rows_a_block), unsigned(context.processors * 4));
        return launch_chained("gated_rms_norm", context, params.sigmoid ? heads_kernel<true> : heads_kernel<false>,
                              blocks, threads, 0, o.as<const bf16>(), call.inputs[1].as<const float>(),
                              call.inputs[2].as<const bf16>(), call.outputs[0].as<bf16>(), rows, params.epsilon);
    }
    const auto kernel = o.shape.last() % 4 == 0 ? gated_rms_norm_kernel<4> : gated_rms_norm_kernel<1>;
    return launch_chained("gated_rms_norm", context, kernel, blocks_for(rows, warps_per_block),
                          warps_per_block * warp_size, 0, o.as<const bf16>(), call.inputs[1].as<const float>(),
                          call.inputs[2].as<const bf16>(), call.outputs[0].as<bf16>(), rows, o.shape.last(),
                          params.epsilon, params.sigmoid);
}

const KernelEntry gated_rms_norm_entry = {run};

} // namespace gnv::cuda
