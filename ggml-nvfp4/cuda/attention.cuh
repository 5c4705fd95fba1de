// The forms of attention: what their kernels get.
#pragma once

#include "cuda/normed_rope.cuh"

namespace gnv::cuda {

struct Attention {
    int64_t tokens;
    int query_heads, key_heads;
    float scale;
    int head = 0;       // D, where the kernel is not made for one
    bool causal = true; // likewise
};

// k, v [S, capacity, Hkv * D], past i32 [S]; null without a cache. With pages, k, v [N, cache_page, Hkv * D].
template <class Element>
struct CacheOf {
    Element *k, *v;
    const int32_t * past;
    int64_t capacity;                // of a segment
    const int32_t * pages = nullptr; // [S, capacity / cache_page]
    // Of codes: E8M0 [S, capacity, Hkv], or [N, cache_page, Hkv].
    uint8_t *k_scales = nullptr, *v_scales = nullptr;
    int64_t rows = 0; // of all segments, or of all pages

    // Where row r of a segment lies. The rows of a tile of keys follow each other: no tile crosses a page.
    __device__ int64_t row(int64_t segment, int64_t r) const {
        if (!pages) return segment * capacity + r;
        constexpr int page = int(cache_page);
        return int64_t(pages[segment * (capacity / page) + int(r) / page]) * page + int(r) % page;
    }
};
using AttentionCache = CacheOf<bf16>;
using CodedCache = CacheOf<uint8_t>; // E4M3

// Attention in blocks of queries, of segments that have more than one position or no cache.
struct BlockAttention {
    Attention shape;
    const bf16 *q, *k, *v;
    const int32_t * segments;
    int segment_count;
    const int32_t * first_blocks; // [S + 1]: blocks of queries before each segment, and in all
    int32_t * taken;              // 0: kernels whose blocks stay count in it what they take
    const uint8_t * key_mask;     // may be null
    AttentionCache cache;
    bf16 * out;
};

// The norm and rope of q and k before attention.
struct MadeHeads {
    NormedHeads q, k;
    Rope rope;
    const int32_t * positions;
    // Of a call that runs beside the product before it: how many of the columns that it needs there are so far (chain.cuh), and how
    // many it needs.
    uint32_t * made = nullptr;
    uint32_t all = 0;
};
// graph/ops.h's sigmoid_gate of attention's result behind it: gates of a head are neighbours.
struct AttentionGate {
    const bf16 * gates = nullptr; // of the first head; null: the result stays as it is
    int64_t stride = 0;           // from head to head
    bf16 * out = nullptr;
};
// Attention of one position a segment against a cache, with its gate, and where `heads` is given with its heads: as few launches as
// it takes. The kernel before it lets a later one start only when all kernels before have ended, as all products do.
bool attention_can_gate(const AttentionParams & params, bool with_cache);
Status attention_gated(KernelCall & call, const MadeHeads * heads, const AttentionGate & gate);

// Shared memory of a block of such a call, of which each has a processor and can start beside a product; 0: it can not.
uint64_t attention_bytes_beside(const KernelCall & call);

constexpr float log2_of_e = 1.44269504088896341f;

// The kernels for compute capability 9.0, of heads of any multiple of 8 up to 256. Those that shape.head names see what the
// shape says; with 0, `head` is 64, 128 or 256 and attention is causal. first_blocks counts blocks of hopper_queries().
int hopper_queries(const BlockAttention & attention, int64_t head);
Status attention_hopper(cudaStream_t stream, const BlockAttention & attention, int64_t head, unsigned blocks,
                        int processors);

} // namespace gnv::cuda
