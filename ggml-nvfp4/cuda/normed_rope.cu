#include "cuda/normed_rope.cuh"

#include "cuda/chain.cuh"
#include "cuda/row_ops.cuh"

namespace gnv::cuda {

static __global__ void __launch_bounds__(warp_size)
    normed_rope_kernel(NormedHeads q, NormedHeads k, Rope rope, const int32_t * positions) {
    __shared__ bf16 normed[most_normed_head];
    let_later_start();
    wait_for_earlier();
    const int64_t t = blockIdx.y, D = rope.head;
    const bool is_query = int(blockIdx.x) < q.heads;
    const NormedHeads & heads = is_query ? q : k;
    const int64_t row = t * heads.heads + (is_query ? blockIdx.x : blockIdx.x - q.heads);
    const bf16 * const x = heads.x + row * heads.stride;
    const int lane = threadIdx.x;
    const float scale = rms_scale<8>(x, D, heads.epsilon);
    for (int64_t i = lane * 8; i < D; i += warp_size * 8) {
        float values[8], weights[8];
        load_several<8>(x + i, values);
        load_several<8>(heads.weight + i, weights);
#pragma unroll
        for (int j = 0; j < 8; j++) values[j] = rms_normed(values[j], scale, heads.offset, weights[j]);
        store_several<8>(normed + i, values);
        store_several<8>(heads.normed + row * D + i, values);
    }
    __syncwarp();
    bf16 * const out = heads.out + row * D;
    for (int64_t i = lane; i < rope.half; i += warp_size) {
        const float2 both = turned(rope, rope_angle(rope, positions, t, i), __bfloat162float(normed[i]),
                                   __bfloat162float(normed[i + rope.half]));
        out[i] = __float2bfloat16_rn(both.x);
        out[i + rope.half] = __float2bfloat16_rn(both.y);
    }
    for (int64_t i = 2 * rope.half + lane; i < D; i += warp_size) out[i] = normed[i];
}

Status normed_rope(const CudaContext & context, const NormedHeads & q, const NormedHeads & k, const Rope & rope,
                   const int32_t * positions) {
    const dim3 grid(unsigned(q.heads + k.heads), unsigned(rope.tokens));
    return launch_chained("rope", context, normed_rope_kernel, grid, warp_size, 0, q, k, rope, positions);
}

} // namespace gnv::cuda
