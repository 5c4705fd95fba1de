// Weights that llm-compressor quantized: tests/data/nvfp4_golden/README.md.
#pragma once

#include "formats/file.h"

#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

namespace gnv::test {

struct GoldenWeight {
    int group = 0; // members of a group share their global scale
    std::string name;
    int64_t rows = 0, columns = 0;
    uint32_t global_bits = 0;
    std::vector<uint16_t> source;       // BF16 [rows, columns]
    std::vector<uint8_t> codes, scales; // [rows, columns / 2], [rows, columns / 16]
};

// Empty when the files cannot be read.
inline std::vector<GoldenWeight> read_golden_weights() {
    std::vector<GoldenWeight> weights;
    const std::string folder = GNV_TEST_DATA "/nvfp4_golden/";
    const auto index = read_file(folder + "weights.txt", 1 << 20);
    const auto data = read_file(folder + "weights.bin", 1 << 24);
    if (!index.ok() || !data.ok()) return weights;
    std::istringstream lines(index.value());
    size_t offset = 0;
    const auto take = [&](auto & target, size_t count) {
        target.resize(count);
        const size_t bytes = count * sizeof target[0];
        if (offset + bytes <= data.value().size()) memcpy(target.data(), data.value().data() + offset, bytes);
        offset += bytes;
    };
    GoldenWeight weight;
    while (lines >> weight.group >> weight.name >> weight.rows >> weight.columns >> std::hex >> weight.global_bits) {
        lines >> std::dec;
        const auto count = size_t(weight.rows * weight.columns);
        take(weight.source, count);
        take(weight.codes, count / 2);
        take(weight.scales, count / 16);
        weights.push_back(weight);
    }
    if (offset != data.value().size()) weights.clear();
    return weights;
}

} // namespace gnv::test
