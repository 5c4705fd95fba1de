// The convolution, Gated DeltaNet and its norm for one position of one text, in one launch: the three are so short that their
// starts take most of their time.
#pragma once

#include "cuda/gated_delta_net.cuh"

namespace gnv::cuda {

struct ConvStep { // causal_conv of u [T, C]
    const bf16 * u;
    const float * weight;
    float * history;
    bf16 * out;
};
struct NormStep { // gated_rms_norm of its result
    const float * weight;
    const bf16 * z;
    bf16 * out;
    float epsilon;
    bool use_sigmoid;
};

bool one_text_delta_fits(const CudaContext & context, const Delta & d, const DeltaTensors & tensors, int taps);
// d.segments is 1; tensors.qkv is conv.out.
Status one_text_delta(const CudaContext & context, const ConvStep & conv, const Delta & d, const DeltaTensors & tensors,
                      const NormStep & norm);

} // namespace gnv::cuda
