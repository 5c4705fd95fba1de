// A small model for targets that need one: the config of tests/faults/small_model.h with a smaller vocabulary.
#pragma once

#include "faults/small_model.h"
#include "formats/json.h"
#include "fuzz/fuzz_input.h"

namespace gnv::fuzz {

inline std::string tiny_config() {
    std::string config = test::small_config;
    const std::string vocabulary = "\"vocab_size\": 8192";
    config.replace(config.find(vocabulary), vocabulary.size(), "\"vocab_size\": 32");
    return config;
}

// Its headers, without data.
inline std::string tiny_header(uint64_t & data_bytes) {
    const JsonDocument document = JsonDocument::parse(tiny_config(), "config.json").take();
    std::vector<HeaderTensor> tensors;
    data_bytes = 0;
    for (const TensorSpec & spec : list_tensors(document.root(), {}).take()) {
        uint64_t bytes = 2;
        for (const int64_t extent : spec.shape) bytes *= uint64_t(extent);
        tensors.push_back({spec.name, DType::bf16, spec.shape, data_bytes, data_bytes + bytes});
        data_bytes += bytes;
    }
    return make_header(tensors, {}).substr(8);
}

} // namespace gnv::fuzz
