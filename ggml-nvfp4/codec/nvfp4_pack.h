// The fast NVFP4 codec of the CPU. Every variant gives the bytes of the reference in codec/nvfp4.h.
#pragma once

#include "codec/nvfp4.h"
#include "core/instruction_set.h"

#include <string>
#include <vector>

namespace gnv::nvfp4 {

// One implementation of the codec for each InstructionSet.
struct Kernels {
    const char * name; // "avx512", "avx2", "portable"
    // Largest magnitude as BF16 bits (sign cleared); >= 0x7f80: a NaN or Inf is among the elements.
    uint16_t (*absolute_maximum_bf16)(const uint16_t * weights, int64_t count);
    // As nvfp4::quantize_reference for BF16 and Layout::row_major.
    void (*quantize_bf16)(const uint16_t * weights, const nvfp4::Weight & out);
    // As nvfp4::dequantize_reference for Layout::row_major.
    void (*dequantize)(const nvfp4::ConstWeight & weight, float * out);
};

// The implementations for this processor, fastest first; the last is always "portable".
const std::vector<const Kernels *> & kernels();
const Kernels & kernels_for(InstructionSet set); // the processor must have the set

// Any source dtype and layout: the kernels if they apply, else the reference. Single-threaded: callers split work by
// rows.
void quantize(InstructionSet set, DType source, const void * weights, const nvfp4::Weight & out);
void dequantize(InstructionSet set, const nvfp4::ConstWeight & weight, float * out);

} // namespace gnv::nvfp4
