// The two devices that every test of an op compares, and how far apart they may be.
#pragma once

#include "cuda/op_fixture.h"

#include <algorithm>

namespace gnv::test {

struct Devices {
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(0).take();
    std::unique_ptr<Backend> cpu = open_cpu(*threads);
    std::unique_ptr<Backend> cuda = open_cuda(0).take();
};

// Largest difference over largest magnitude, of numbers that are there in both.
inline double error_of(const std::vector<float> & found, const std::vector<float> & expected) {
    double error = 0, magnitude = 1e-30;
    for (size_t i = 0; i < expected.size(); i++) {
        const double difference = std::abs(double(found[i]) - double(expected[i]));
        error = difference > error || std::isnan(difference) ? difference : error;
        magnitude = std::max(magnitude, std::abs(double(expected[i])));
    }
    return error / magnitude;
}

// Root of the mean squared difference over that of the expected values.
inline double rms_error_of(const std::vector<float> & found, const std::vector<float> & expected) {
    double error = 0, power = 1e-30;
    for (size_t i = 0; i < expected.size(); i++) {
        error += std::pow(double(found[i]) - double(expected[i]), 2);
        power += std::pow(double(expected[i]), 2);
    }
    return std::sqrt(error / power);
}

inline constexpr double bf16_step = 1.0 / 128; // between neighbours, relative, at most

// Within `steps` BF16 steps of the largest magnitude anywhere and half a step in the mean; the same when it is replayed.
inline void compare(Devices & devices, const OpCase & op, double steps = 1.01) {
    OpRunner cpu(*devices.cpu), cuda(*devices.cuda);
    const OpResult expected = cpu.run(op), found = cuda.run(op), again = cuda.run(op, 0, true);
    REQUIRE(found.tensors.size() == expected.tensors.size());
    CHECK(found.tensors == again.tensors);
    for (size_t i = 0; i < expected.tensors.size(); i++) {
        CAPTURE(i);
        CHECK(error_of(found.tensors[i], expected.tensors[i]) <= steps * bf16_step);
        CHECK(rms_error_of(found.tensors[i], expected.tensors[i]) <= 0.5 * steps * bf16_step);
    }
}
inline void compare_exactly(Devices & devices, const OpCase & op) {
    OpRunner cpu(*devices.cpu), cuda(*devices.cuda);
    const OpResult expected = cpu.run(op), found = cuda.run(op);
    CHECK(found.tensors == expected.tensors);
    CHECK(cuda.exact == cpu.exact);
}

inline std::vector<int32_t> segments_of(const std::vector<int> & lengths) {
    std::vector<int32_t> begins = {0};
    for (const int length : lengths) begins.push_back(begins.back() + length);
    return begins;
}

} // namespace gnv::test
