// Attention of one position a segment against a cache in BF16, on compute capability 9.0.
#pragma once

#include "cuda/attention_decode.cuh"

namespace gnv::cuda {

// Blocks of a long text: nearly a processor for each.
constexpr int lone_decode_blocks = 128;
// Shared memory of a block of a text alone: more than half of a processor's, so that no two blocks crowd on one.
constexpr int lone_decode_bytes = 117 << 10;

struct DecodeAttention {
    Attention shape;
    decode::NewHeads made;
    AttentionCache cache;
    decode::Queries queries;
    int query_count;
    const uint8_t * key_mask; // may be null
    decode::Partial partial;
};

// The parts of heads of 64, 128 or 256. Blocks make their queries where made.queries is null: up to eight a key head then.
Status attention_decode_hopper(const CudaContext & context, const DecodeAttention & attention, int head);

} // namespace gnv::cuda
