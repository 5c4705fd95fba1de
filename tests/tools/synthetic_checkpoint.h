// Checkpoints of any config and layout, filled with reproducible values: for tests, and for benchmarks at full size.
#pragma once

#include "core/status.h"
#include "model/model_def.h"

#include <cstdint>
#include <string>

namespace gnv::test {

struct SyntheticOptions {
    LayoutChoice layout;
    int shards = 1;            // files of about the same size; fewer where tensors are too large to spread
    bool headers_only = false; // files of the right size without data: holes that read as zeros and take no space
    uint64_t seed = 0;
    int threads = 1; // 0: one per processor
};

struct SyntheticResult {
    uint64_t tensors = 0, bytes = 0, shards = 0;
};

// Writes config.json, the shards and, where they are several, their index into `folder`, which must not exist. A tensor's
// values depend on its name without the text model's prefix, and on the seed; experts hold the same values in both
// layouts. Memory: a few MB per thread.
Result<SyntheticResult> write_synthetic_checkpoint(const std::string & config_text, const std::string & folder,
                                                   const SyntheticOptions & options);

} // namespace gnv::test
