// The norm and rope of heads before attention of one position, and the way of new rows into its cache: by attention's blocks
// themselves, or by one kernel.
#pragma once

#include "cuda/attention_cache.cuh"
#include "cuda/chain.cuh"
#include "cuda/normed_rope.cuh"
#include "cuda/row_ops.cuh"
#include "cuda/tiles.cuh"

namespace gnv::cuda {

namespace decode {

// Heads of one position that a block makes itself: rms_norm and rope as normed_rope.cu computes them, by one warp. At most
// warp_size pairs turn.
template <int head>
struct HeadMaker {
    static constexpr int lanes = head / 8; // that have numbers
    const Rope & rope;
    float frequency = 0;
    float2 turn; // of this lane's pair
    __device__ explicit HeadMaker(const Rope & known) : rope(known) {}
    // First of all, and long: a power in F64.
    __device__ void set_frequency() {
        const int lane = threadIdx.x % warp_size;
        if (lane < rope.half) frequency = rope_frequency(rope, lane);
    }
    __device__ void set_position(const int32_t * positions, int64_t t) {
        const int lane = threadIdx.x % warp_size;
        if (lane < rope.half) turn = rope_angle(rope, positions, t, lane, frequency);
    }
    // This lane's numbers of a norm's weight, or of a head.
    template <class T>
    __device__ static void load(const T * from, float (&numbers)[8]) {
        const int lane = threadIdx.x % warp_size;
#pragma unroll
        for (float & number : numbers) number = 0;
        if (lane < lanes) load_several<8>(from + lane * 8, numbers);
    }
    // `made`: in shared memory. `normed` and `out` are null where another block writes them.
    __device__ void make(float (&x)[8], const float (&weights)[8], const NormedHeads & p, bf16 * made, bf16 * normed,
                         bf16 * out) const {
        const int lane = threadIdx.x % warp_size;
        float sum = 0;
#pragma unroll
        for (const float number : x) sum = fmaf(number, number, sum);
        const float scale = rms_scale(sum, head, p.epsilon);
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = rms_normed(x[i], scale, p.offset, weights[i]);
        if (lane < lanes) {
            store_several<8>(made + lane * 8, x);
            if (normed) store_several<8>(normed + lane * 8, x);
        }
        __syncwarp();
        if (lane < rope.half) {
            const float2 both =
                turned(rope, turn, __bfloat162float(made[lane]), __bfloat162float(made[lane + rope.half]));
            made[lane] = __float2bfloat16_rn(both.x);
            made[lane + rope.half] = __float2bfloat16_rn(both.y);
        }
        __syncwarp();
        if (out && lane < lanes)
            *reinterpret_cast<uint4 *>(out + lane * 8) = *reinterpret_cast<const uint4 *>(made + lane * 8);
    }
};

// What a block of attention takes its queries from: rows that earlier kernels made, or what it makes them and the new row of the
// cache from.
struct NewHeads {
    const bf16 * queries; // null: it makes them
    NormedHeads q, k;
    const bf16 * v;
    Rope rope;
    const int32_t * positions;
};

// A row of the cache receives a head of k or v, by one warp.
template <int head, class Element>
__device__ void store_head(const bf16 * from, const CacheOf<Element> & cache, int64_t at, bool is_value) {
    const int lane = threadIdx.x % warp_size;
    Element * const to = (is_value ? cache.v : cache.k) + at * head;
    if constexpr (sizeof(Element) == 1) {
        pack_head<head>(from + lane * (head / warp_size), to, (is_value ? cache.v_scales : cache.k_scales) + at);
    } else if (lane < HeadMaker<head>::lanes) {
        store_eight(to + lane * 8, *reinterpret_cast<const uint4 *>(from + lane * 8));
    }
}

// The heads of all positions, and their rows of the cache, by a kernel of their own. Block: a head of q, k or v of a position.
template <int head, class Element>
__global__ void __launch_bounds__(warp_size)
    heads_kernel(const __grid_constant__ NewHeads made, const __grid_constant__ CacheOf<Element> cache,
                 const int32_t * segments, int segment_count) {
    __shared__ __align__(16) bf16 row_made[head];
    const int64_t t = blockIdx.y;
    const int kind = int(blockIdx.x) < made.q.heads ? 0 : int(blockIdx.x) < made.q.heads + made.k.heads ? 1 : 2;
    const int h = int(blockIdx.x) - (kind == 0 ? 0 : kind == 1 ? made.q.heads : made.q.heads + made.k.heads);
    const NormedHeads & heads = kind == 0 ? made.q : made.k;
    HeadMaker<head> maker(made.rope);
    maker.set_frequency();
    maker.set_position(made.positions, t);
    float weights[8], x[8];
    if (kind < 2) HeadMaker<head>::load(heads.weight, weights);
    int64_t at = 0;
    if (kind > 0) {
        const int segment = stretch_of(segments, segment_count, t);
        at = cache.row(segment, cache.past[segment] + (t - segments[segment])) * made.k.heads + h;
    }
    wait_for_earlier();
    let_later_start(); // as store_kernel
    const int64_t row = t * heads.heads + h;
    const bf16 * from = made.v + row * head;
    if (kind < 2) {
        HeadMaker<head>::load(heads.x + row * heads.stride, x);
        maker.make(x, weights, heads, row_made, heads.normed + row * head, heads.out + row * head);
        from = row_made;
    }
    if (kind > 0) store_head<head>(from, cache, at, kind == 2);
}

} // namespace decode

} // namespace gnv::cuda
