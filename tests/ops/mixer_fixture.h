// What the tests of the token mixers share: tensors that own their memory, and calls of kernels.
#pragma once

#include "cpu/loops.h"
#include "cpu/mixer_kernels.h"
#include "graph/graph.h"

#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <memory>
#include <random>
#include <vector>

namespace gnv::test {

using Floats = std::vector<float>;
using Integers = std::vector<int32_t>;

inline Tensor view(Floats & values, std::initializer_list<int64_t> dims) { return {DType::f32, dims, values.data()}; }
inline Tensor view(Integers & values, std::initializer_list<int64_t> dims) { return {DType::i32, dims, values.data()}; }
inline Tensor view(std::vector<uint8_t> & values, std::initializer_list<int64_t> dims) {
    return {DType::u8, dims, values.data()};
}

inline Floats random_floats(int64_t count, float scale, uint32_t seed) {
    std::mt19937 random(seed);
    Floats values(static_cast<size_t>(count));
    for (float & value : values) value = float(int32_t(random())) * 0x1p-31f * scale;
    return values;
}

inline float bf16_of(float value) { // nearest, ties to even; finite values
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

inline void round_all(Floats & values) {
    for (float & value : values) value = bf16_of(value);
}

inline ThreadPool & pool_of(int threads) {
    static std::unique_ptr<ThreadPool> pools[8];
    if (!pools[threads]) pools[threads] = ThreadPool::create(threads).take();
    return *pools[threads];
}

using KernelWith = Status (*)(const cpu::Loops & loops, KernelCall & call);

// How a kernel runs; results may not depend on it.
struct Way {
    int threads = 2;
    const cpu::Loops * loops = nullptr; // the kernel's own choice
};

// Runs with exactly the scratch memory that the kernel asked for, filled with NaN; what lies beyond must stay.
inline void run_kernel(const KernelEntry & entry, KernelWith kernel, const OpParams & params, Precision precision,
                       std::vector<Tensor> inputs, Tensor output, const Way & way = {}) {
    inputs.resize(Node::max_inputs); // absent ones have no data
    KernelCall call{params, precision, inputs.data(), &output, nullptr, &pool_of(way.threads)};
    std::vector<Tensor> shapes = inputs; // without data, as when memory is planned
    for (Tensor & tensor : shapes) tensor.data = nullptr;
    Tensor output_shape = output;
    output_shape.data = nullptr;
    const KernelCall planned{params, precision, shapes.data(), &output_shape, nullptr, call.threads};
    const uint64_t bytes = entry.scratch_bytes ? entry.scratch_bytes(planned) : 0;
    std::unique_ptr<char[]> memory(new char[bytes + 128]);
    char * begin = memory.get() + (64 - reinterpret_cast<uintptr_t>(memory.get()) % 64) % 64;
    memset(begin, 0xff, bytes + 64);
    call.scratch = begin;
    const Status status = way.loops ? kernel(*way.loops, call) : entry.run(call);
    REQUIRE_MESSAGE(status.ok(), status.message());
    for (int i = 0; i < 64; i++) REQUIRE(uint8_t(begin[bytes + uint64_t(i)]) == 0xff);
}

// Largest difference, relative to the largest magnitude of what is expected.
template <class Expected>
double relative_error(const Floats & actual, const std::vector<Expected> & expected) {
    REQUIRE(actual.size() == expected.size());
    double worst = 0, largest = 0;
    for (size_t i = 0; i < actual.size(); i++) {
        const double difference = std::abs(double(actual[i]) - double(expected[i]));
        if (!(difference <= 1e300)) return INFINITY; // NaN, too
        worst = std::max(worst, difference);
        largest = std::max(largest, std::abs(double(expected[i])));
    }
    return largest > 0 ? worst / largest : worst;
}

inline bool same_bits(const Floats & a, const Floats & b) {
    return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// 1, 2, 3 and 5 threads, and each variant of the loops.
inline std::vector<Way> all_ways() {
    std::vector<Way> ways;
    for (const int threads : {1, 2, 3, 5}) ways.push_back({threads});
    for (const cpu::Loops * loops : cpu::all_loops()) ways.push_back({2, loops});
    return ways;
}

} // namespace gnv::test
