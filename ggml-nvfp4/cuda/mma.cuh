// Products on tensor cores: BF16 operands, F32 sums, for one warp at a time. An F32 operand is split into two BF16
// parts, which keep 16 of its 24 bits.
//
// Layout, with lane = 4 * row + pair / 2: of a 16 x 8 sum, c[0] and c[1] are row `row`, columns `pair` and `pair` + 1;
// c[2] and c[3] are the same columns of row + 8. Two sums side by side, as pairs of BF16, are a left
// operand of 16 x 16.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

__device__ inline uint32_t shared_address(const void * pointer) { return uint32_t(__cvta_generic_to_shared(pointer)); }

// Four 8 x 8 matrices from shared memory; lane i gives the address of row i % 8 of matrix i / 8.
__device__ inline void load_matrices(uint32_t (&out)[4], const bf16 * row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row)));
}
__device__ inline void load_matrices_transposed(uint32_t (&out)[4], const bf16 * row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row)));
}

// An 8 x 8 matrix of BF16, a pair in each lane.
__device__ inline uint32_t transposed(uint32_t pair) {
    uint32_t out;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(pair));
    return out;
}

// c += a * b: 16 x 8 += 16 x 16 times 16 x 8
__device__ inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two F32 numbers as a pair of BF16; `rest` is the rounding error as another pair.
__device__ inline uint32_t split(float x, float y, uint32_t & rest) {
    const uint32_t pair = pair_of(x, y);
    const float2 kept = numbers_of(pair);
    rest = pair_of(x - kept.x, y - kept.y);
    return pair;
}

// Two sums side by side as a left operand.
__device__ inline void split_operand(const float (&left)[4], const float (&right)[4], uint32_t (&high)[4],
                                     uint32_t (&low)[4]) {
    high[0] = split(left[0], left[1], low[0]);
    high[1] = split(left[2], left[3], low[1]);
    high[2] = split(right[0], right[1], low[2]);
    high[3] = split(right[2], right[3], low[3]);
}

// An F32 number as one of 11 bits and a rest of as many; the same product of those, 16 x 8 += 16 x 8 times 8 x 8: a[0] and a[1]
// are column lane % 4 of rows `row` and row + 8, a[2] and a[3] column lane % 4 + 4; b0 and b1 are column lane / 4 of these rows.
__device__ inline uint32_t split_short(float x, uint32_t & rest) {
    uint32_t high;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(high) : "f"(x));
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rest) : "f"(x - __uint_as_float(high)));
    return high;
}
__device__ inline void multiply_add_short(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Copies 16 bytes to shared memory asynchronously; zeros unless `exists`.
__device__ inline void copy_16_bytes(void * to, const void * from, bool exists = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(exists ? 16 : 0)
                 : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `pending` of the groups that this thread has committed are unfinished.
template <int pending>
__device__ inline void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

} // namespace gnv::cuda
