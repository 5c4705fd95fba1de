// BF16 weights in 12 bits a number, without loss: products of few rows wait for memory, of which they read a quarter less.
// The exponents of a weight's numbers take few values; codec/compact_bf16_layout.h says how that is used.
#pragma once

#include "codec/compact_bf16_layout.h"
#include "core/status.h"
#include "core/tensor.h"
#include "core/thread_pool.h"

namespace gnv::cpu {

// Rearranges a weight [.., N, K] in BF16 in its own memory, aligned to 4. Leaves it as it is if N is odd, K not divisible by
// 64, or the weight has too many numbers that would have to be listed. The result is the same for any number of threads.
Status make_compact(Tensor & weight, ThreadPool & threads);

// Of a weight that is compact.
CompactBf16 compact_view(const Tensor & weight);

} // namespace gnv::cpu
