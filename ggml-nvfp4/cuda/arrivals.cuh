// Barriers in shared memory that count arrivals (compute capability 9.0): a group that fills tiles and groups that use them wait
// for each other without stopping the whole block.
#pragma once

#include "cuda/mma.cuh"

namespace gnv::cuda::hopper {

using Arrivals = uint64_t; // in shared memory

// By one thread, before a barrier of the block. A phase ends with its `count`-th arrival.
__device__ inline void start_arrivals(Arrivals & a, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&a)), "r"(count) : "memory");
}

// What this thread did before is seen by every thread that waits for the phase.
__device__ inline void arrive(Arrivals & a) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(shared_address(&a))
                 : "memory");
}

// The same once the copies of this thread that began before have arrived; the thread goes on.
__device__ inline void arrive_with_copies(Arrivals & a) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&a)) : "memory");
}

// Waits for the end of phase `phase` (the first is 0), which is the current one or the one before.
__device__ inline void wait_for(Arrivals & a, int phase) {
    asm volatile(
        "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra again; }" ::"r"(
            shared_address(&a)),
        "r"(phase & 1)
        : "memory");
}

// Registers of a thread, for all threads of a group of four warps: a group that only copies gives some to those that multiply.
template <int count>
__device__ inline void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ inline void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

} // namespace gnv::cuda::hopper
