// Work on rows of a picture, in strips: with threads or without.
#pragma once

#include "core/thread_pool.h"

#include <algorithm>

namespace gnv {

// body(row) for each row in [0, rows); `strip` rows are one task of the pool. Without a pool it cannot fail.
template <class Body>
Status for_strips(ThreadPool * pool, int64_t rows, int64_t strip, const Body & body) {
    const auto run = [&](int64_t begin) {
        for (int64_t row = begin; row < std::min(begin + strip, rows); row++) body(row);
    };
    if (!pool) {
        for (int64_t begin = 0; begin < rows; begin += strip) run(begin);
        return {};
    }
    return pool->parallel_for((rows + strip - 1) / strip, [&](int64_t index) -> Status {
        run(index * strip);
        return {};
    });
}

} // namespace gnv
