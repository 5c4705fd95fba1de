// Second moments of groups of rows, x_i x_j summed over the rows of a group, at the speed of matrix products: for an element
// one chain of fused multiply-adds in the order of rows, as Statistic::second_moments defines it.
#pragma once

#include "core/thread_pool.h"

#include <cstdint>

namespace gnv::cpu {

// Row i of group g, columns values times a factor. With `from` and `ends`: row from[j] of x times factors[j], where
// j = ends[g] + i; else x + offset of the group.
struct MomentRows {
    const float * row(int64_t group, int64_t i) const {
        return from ? x + from[ends[group] + i] * stride
                    : x + (ends ? ends[group] * stride : group * columns) + i * stride;
    }
    float factor(int64_t group, int64_t i) const { return factors ? factors[ends[group] + i] : 1; }
    int64_t count(int64_t group) const { return ends ? ends[group + 1] - ends[group] : rows; }

    int64_t groups = 0, columns = 0;
    const float * x = nullptr;
    int64_t stride = 0;              // from a row of x to the next
    int64_t rows = 0;                // in all, or of each group without `ends`
    const int32_t * ends = nullptr;  // [groups + 1]; null: every row has columns of every group
    const int64_t * from = nullptr;  // [rows]; null: all rows, as they are
    const float * factors = nullptr; // [rows], with `from`
};

// Adds to totals [groups, columns, columns], which are symmetric. Scratch memory: moments_scratch_bytes, aligned to a
// float.
Status add_moments(const MomentRows & rows, float * totals, void * scratch, ThreadPool & threads);
uint64_t moments_scratch_bytes(int64_t columns, int threads);

} // namespace gnv::cpu
