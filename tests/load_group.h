// Weights of a group in memory, read by the threads of a pool.
#pragma once

#include "run/weight_group.h"

namespace gnv::test {

inline Status load_group(WeightGroup & group, const WeightCatalog & catalog, const FolderFiles & files, void * memory,
                         ThreadPool & threads) {
    group = group.at(memory);
    const std::vector<WeightGroup::Read> reads = group.reads();
    return threads.parallel_for(int64_t(reads.size()),
                                [&](int64_t i) { return group.read(reads[size_t(i)], catalog, files, nullptr); });
}

} // namespace gnv::test
