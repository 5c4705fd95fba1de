// Hopper's copy engine (compute capability 9.0), whose copies complete on the barriers of cuda/arrivals.cuh. A box of a matrix arrives
// in shared memory as the tile that cuda/wgmma.cuh describes; a copy to several blocks of a cluster arrives at the same
// place in each, and completes on the barrier at the same place.
#pragma once

#include "cuda/arrivals.cuh"

#include <cuda.h>

namespace gnv::cuda::hopper {

// --- Barriers: a phase ends when all arrivals and all expected bytes are there. --------------------------------------

// Other blocks of the cluster, and the copy engine, see barriers that were started before this.
__device__ inline void show_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives, and expects so many bytes in this phase.
__device__ inline void expect_bytes(Arrivals & barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
                 : "memory");
}
// Arrives at the barrier in the same place of block `rank` of the cluster.
__device__ inline void arrive_in_block(Arrivals & barrier, int rank) {
    asm volatile("{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; "
                 "mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(shared_address(&barrier)),
                 "r"(rank)
                 : "memory");
}
// Writes a word to the same place in block `rank`, where the barrier in the same place expects its four bytes.
__device__ inline void send_to_block(int & to, int word, Arrivals & barrier, int rank) {
    asm volatile(
        "{ .reg .b32 there, done; mapa.shared::cluster.u32 there, %0, %3; mapa.shared::cluster.u32 done, %2, %3; "
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [there], %1, [done]; }" ::"r"(shared_address(&to)),
        "r"(word), "r"(shared_address(&barrier)), "r"(rank)
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

// The first copy need not wait for the map.
__device__ inline void prefetch_map(const CUtensorMap & map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

__device__ inline void copy_box(void * to, const CUtensorMap & map, int column, int row, int matrix,
                                Arrivals & barrier) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to)),
                 "l"(&map), "r"(column), "r"(row), "r"(matrix), "r"(shared_address(&barrier))
                 : "memory");
}
// How long what a copy reads stays in the L2 cache: as long as other bytes, or, for what is read once, it is the first to go.
__device__ inline uint64_t stays() {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
__device__ inline uint64_t goes_first() {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
// The same with a policy.
__device__ inline void copy_box(void * to, const CUtensorMap & map, int column, int row, int matrix, Arrivals & barrier,
                                uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(shared_address(to)),
                 "l"(&map), "r"(column), "r"(row), "r"(matrix), "r"(shared_address(&barrier)), "l"(policy)
                 : "memory");
}
// The same of bytes one behind the other: a multiple of 16, from and to multiples of 16.
__device__ inline void copy_bytes(void * to, const void * from, int bytes, Arrivals & barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(&barrier))
                 : "memory");
}
// What this thread wrote to device memory is seen by copies that are asked for behind the next barrier.
__device__ inline void show_to_copies() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

// Bytes from shared memory, of this thread's current group of copies. What other threads wrote there must be visible to the copy
// engine (show_to_tensor_cores() and a barrier).
__device__ inline void copy_bytes_out(void * to, const void * from, int bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(shared_address(from)),
                 "r"(bytes)
                 : "memory");
}
__device__ inline void commit_copies_out() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Waits until all but the last `pending` groups of this thread have read shared memory.
template <int pending>
__device__ inline void wait_for_reads() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory");
}
// Waits until all copies of this thread are done.
__device__ inline void wait_for_copies_out() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// A box to all blocks of the cluster whose bit is in `blocks`.
__device__ inline void copy_box_to(void * to, const CUtensorMap & map, int column, int row, int matrix,
                                   Arrivals & barrier, uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(shared_address(to)),
                 "l"(&map), "r"(column), "r"(row), "r"(matrix), "r"(shared_address(&barrier)), "h"(blocks)
                 : "memory");
}

} // namespace gnv::cuda::hopper
