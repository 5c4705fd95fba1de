// Kernels that follow each other closely: where the device can, the next kernel starts while the last blocks of the one before
// it still run, and waits then. That saves the time between two launches. Weights that no kernel writes may be read before.
#pragma once

#include "cuda/common.cuh"

namespace gnv::cuda {

// Of a kernel that launch_chained() starts: returns when everything queued before it is done. Nothing that an earlier kernel
// writes may be read before, and nothing at all be written.
__device__ inline void wait_for_earlier() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// The next kernel of the queue may start once all blocks have called this or ended. A kernel that fills the device calls it when
// its reading is done, a small one at once.
__device__ inline void let_later_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// How much of something the blocks of a kernel have made, for a kernel that runs beside it and needs no more of it: 0 when the first
// kernel starts, and again when the second one has ended. A block adds to it behind a barrier of all its threads that wrote, by one
// thread. Behind the wait of one thread and a barrier, all threads of its block see what was written.
__device__ inline void add_made(uint32_t * made, uint32_t more) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(made), "r"(more) : "memory");
}
__device__ inline void wait_for_made(const uint32_t * made, uint32_t all) {
    uint32_t so_far;
    do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(so_far) : "l"(made) : "memory");
    } while (so_far < all);
}

// A barrier of a cluster, in two halves: what a thread did before its arrival is seen behind everyone's wait. Blocks may use each
// other's shared memory from the first barrier to the last.
__device__ inline void arrive_in_cluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ inline void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// For kernels whose blocks shall share a processor: one that runs blocks does not change how much of its memory is shared memory.
template <class Kernel>
void take_all_shared_memory(Kernel * kernel) {
    (void)cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
}

// Queues a kernel that calls wait_for_earlier(), for `op`, in clusters of so many blocks along x. Dynamic shared memory may be more
// than the 48 KB of any kernel.
template <class... Params, class... Args>
Status launch_clusters(const char * op, const CudaContext & context, void (*kernel)(Params...), dim3 grid,
                       unsigned cluster, unsigned threads, size_t shared_bytes, Args &&... args) {
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = context.stream;
    config.attrs = attributes;
    if (context.chains) {
        cudaLaunchAttribute & chained = attributes[config.numAttrs++];
        chained.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        chained.val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
        cudaLaunchAttribute & clustered = attributes[config.numAttrs++];
        clustered.id = cudaLaunchAttributeClusterDimension;
        clustered.val.clusterDim = {cluster, 1, 1};
    }
    cudaError_t error = cudaSuccess;
    if (shared_bytes > 0)
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
    if (error == cudaSuccess) (void)cudaLaunchKernelEx(&config, kernel, Params(std::forward<Args>(args))...);
    return launched(op); // a failure of either call is the last error
}

// The same, each block for itself.
template <class... Params, class... Args>
Status launch_chained(const char * op, const CudaContext & context, void (*kernel)(Params...), dim3 grid,
                      unsigned threads, size_t shared_bytes, Args &&... args) {
    return launch_clusters(op, context, kernel, grid, 1, threads, shared_bytes, std::forward<Args>(args)...);
}

} // namespace gnv::cuda
