// Launches for many weights: a kernel's parameters have room for 4 KB of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cuda_runtime.h>
#include <span>

namespace gnv::cuda {

inline constexpr int threads_per_group = 256;

// The weights of one launch.
template <class Weight>
struct Batch {
    static constexpr int most = 96;
    Weight weights[most];
};

// Calls launch(batch, grid) for as many weights at a time as fit. The number of groups of threads is limited by
// `at_once`, which the device runs at the same time, and by the work of a weight.
template <class Weight, class Launch>
cudaError_t launch_in_batches(std::span<const Weight> weights, int at_once, int64_t Weight::*threads,
                              const Launch & launch) {
    static_assert(sizeof(Batch<Weight>) <= 4000);
    for (size_t first = 0; first < weights.size(); first += Batch<Weight>::most) {
        const auto some = weights.subspan(first, std::min<size_t>(Batch<Weight>::most, weights.size() - first));
        Batch<Weight> batch;
        int64_t most = 0;
        for (size_t i = 0; i < some.size(); i++) {
            batch.weights[i] = some[i];
            most = std::max(most, some[i].*threads);
        }
        if (most == 0) continue;
        const int64_t wanted = (most + threads_per_group - 1) / threads_per_group;
        const int64_t share = std::max<int64_t>(1, at_once / int64_t(some.size()));
        launch(batch, dim3(unsigned(std::min(wanted, share)), unsigned(some.size())));
        if (const cudaError_t error = cudaGetLastError()) return error;
    }
    return cudaSuccess;
}

// How many groups of threads of a kernel a device runs at the same time.
template <class Kernel>
cudaError_t groups_at_once(Kernel kernel, int processors, int & groups) {
    const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&groups, kernel, threads_per_group, 0);
    groups *= processors;
    return error;
}

// One weight for a kernel: its components are codes and block scales, its division into rows does not matter.
struct WeightToPack {
    const uint16_t * weights;
    int64_t blocks; // rows * columns / 16
    float global;
    uint8_t *codes, *scales;
};

} // namespace gnv::cuda
