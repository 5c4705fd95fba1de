// Numbers as unsigned keys in their order.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

// Above 0 for every number, NaN above all; both zeros are equal.
__device__ inline unsigned ordered_key(float number) {
    if (isnan(number)) return 0xffffffff;
    const unsigned bits = __float_as_uint(number == 0 ? 0.0f : number);
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}
// The same in 16 bits.
__device__ inline unsigned ordered_key(bf16 number) { return ordered_key(__bfloat162float(number)) >> 16; }

} // namespace gnv::cuda
