// What the tests of row ops share: values, an independent rounding to BF16, comparisons of bits, recorded tensors.
#pragma once

#include "checkpoint_files.h"
#include "cpu/row_kernels.h"
#include "golden_file.h"
#include "ops/run_op.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace gnv::test {

inline const std::vector<int> thread_counts = {1, 2, 3, 5};
inline const std::vector<int64_t> ragged_widths = {1, 15, 16, 17, 100, 2048};

inline std::vector<float> normal_floats(int64_t count, uint32_t seed, float scale = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(static_cast<size_t>(count));
    for (float & value : values) value = normal(random);
    return values;
}

template <class T>
bool same_bits(const std::vector<T> & a, const std::vector<T> & b) {
    return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// The nearer of the two BF16 neighbours of a finite value, the one with the even last bit when both are as near.
inline float nearest_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t below = bits & 0xffff0000u, above = below + 0x10000u;
    float low, high;
    memcpy(&low, &below, sizeof low);
    memcpy(&high, &above, sizeof high);
    const double to_low = std::fabs(double(value) - double(low)), to_high = std::fabs(double(high) - double(value));
    if (to_low != to_high) return to_low < to_high ? low : high;
    return (below >> 16) % 2 == 0 ? low : high;
}

inline double double_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

inline bool near(double actual, double expected, double relative) {
    return std::fabs(actual - expected) <= relative * std::fabs(expected) + 1e-30;
}

// A weight of the small checkpoint, widened where it is BF16.
inline std::vector<float> checkpoint_floats(const std::string & name) {
    static std::vector<MemoryTensor> tensors = load_tensors(GNV_TEST_BINARY_DIR "/data/qwen36-tiny");
    const MemoryTensor & tensor = find_tensor(tensors, name);
    GNV_CHECK(tensor.dtype == DType::bf16 || tensor.dtype == DType::f32);
    const size_t bytes = tensor.dtype == DType::bf16 ? 2 : 4;
    std::vector<float> values(tensor.data.size() / bytes);
    for (size_t i = 0; i < values.size(); i++) {
        uint32_t bits = 0;
        memcpy(reinterpret_cast<char *>(&bits) + 4 - bytes, tensor.data.data() + i * bytes, bytes);
        memcpy(&values[i], &bits, sizeof bits);
    }
    return values;
}

inline const GoldenFile & recorded_text() {
    static const GoldenFile file("text.safetensors");
    return file;
}

} // namespace gnv::test
