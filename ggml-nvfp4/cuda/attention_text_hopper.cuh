// Causal attention with heads of 256 on compute capability 9.0.
#pragma once

#include "cuda/attention.cuh"

namespace gnv::cuda {

constexpr int text_queries = 128; // of a block: first_blocks counts blocks of as many

// `blocks`: at least as many as there are.
Status attention_text_hopper(cudaStream_t stream, const BlockAttention & a, unsigned blocks, int processors);

} // namespace gnv::cuda
