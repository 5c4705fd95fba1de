// Hopper's copy engine and the barriers that its copies complete on (compute capability 9.0). A box of a matrix arrives
// in shared memory as the tile that cuda/wgmma.cuh describes; a copy to several blocks of a cluster arrives at the same
// place in each, and completes on the barrier at the same place.
#pragma once

#include "cuda/mma.cuh"

#include <cuda.h>

namespace gnv::cuda::hopper {

// --- Barriers: a phase ends when all arrivals and all expected bytes are there. --------------------------------------

__device__ inline void init_barrier(uint64_t & barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
// Other blocks of the cluster, and the copy engine, see barriers that were initialized before this.
__device__ inline void show_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives, and expects so many bytes in this phase.
__device__ inline void expect_bytes(uint64_t & barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
                 : "memory");
}
// Arrives at the barrier in the same place of block `rank` of the cluster.
__device__ inline void arrive_in_block(uint64_t & barrier, int rank) {
    asm volatile("{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; "
                 "mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(shared_address(&barrier)),
                 "r"(rank)
                 : "memory");
}
// Waits for the end of the phase with this parity: the first phase has 0.
__device__ inline void wait_for_phase(uint64_t & barrier, unsigned parity) {
    asm volatile("{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; "
                 "@!done bra again; }" ::"r"(shared_address(&barrier)),
                 "r"(parity)
                 : "memory");
}

// --- Clusters --------------------------------------------------------------------------------------------------------

__device__ inline int rank_in_cluster() {
    int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
__device__ inline void wait_for_cluster() {
    asm volatile("barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// --- Copies of boxes of a map (cuda/tensor_map.h); what lies outside of the matrix becomes zeros. --------------------

__device__ inline void copy_box(void * to, const CUtensorMap & map, int column, int row, int matrix,
                                uint64_t & barrier) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to)),
                 "l"(&map), "r"(column), "r"(row), "r"(matrix), "r"(shared_address(&barrier))
                 : "memory");
}
// The same to all blocks of the cluster whose bit is in `blocks`.
__device__ inline void copy_box_to(void * to, const CUtensorMap & map, int column, int row, int matrix,
                                   uint64_t & barrier, uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(shared_address(to)),
                 "l"(&map), "r"(column), "r"(row), "r"(matrix), "r"(shared_address(&barrier)), "h"(blocks)
                 : "memory");
}

// --- Registers of a warpgroup's threads ------------------------------------------------------------------------------

template <int registers>
__device__ inline void give_registers_back() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ inline void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

} // namespace gnv::cuda::hopper
