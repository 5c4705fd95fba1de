#include "cuda/pinned_memory.h"

#include "core/memory.h"
#include "core/thread_pool.h"

#include <algorithm>
#include <cuda_runtime.h>
#include <sys/mman.h>
#include <unistd.h>

namespace gnv::cuda {

static constexpr size_t least_bytes = 64 << 20; // less takes cudaHostAlloc a few milliseconds
static constexpr size_t huge_page = 2 << 20;

static size_t rounded_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

// Private memory of the process that begins at the border of a huge page; null on failure.
static uint8_t * map_memory(size_t bytes) {
    void * const mapped = mmap(nullptr, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    uint8_t * const begin = static_cast<uint8_t *>(mapped);
    const size_t before = rounded_up(reinterpret_cast<size_t>(begin), huge_page) - reinterpret_cast<size_t>(begin);
    if (before > 0) (void)munmap(begin, before);
    if (before < huge_page) (void)munmap(begin + before + bytes, huge_page - before);
#ifdef MADV_HUGEPAGE
    (void)madvise(begin + before, bytes, MADV_HUGEPAGE); // a wish
#endif
    return begin + before;
}

// A page is made, and cleared, by the thread that writes to it first.
static void make_pages(uint8_t * memory, size_t bytes, size_t page) {
    constexpr int most_threads = 16; // which have the memory to themselves before more do
    constexpr size_t step = 8 * huge_page;
    const auto threads = ThreadPool::create(std::min(most_threads, available_processors()));
    if (!threads.ok()) return; // pinning makes them, too
    (void)threads.value()->parallel_for(int64_t((bytes + step - 1) / step), [&](int64_t i) -> Status {
        const size_t begin = size_t(i) * step, end = std::min(begin + step, bytes);
        for (size_t at = begin; at < end; at += page) *static_cast<volatile uint8_t *>(memory + at) = 0;
        return {};
    });
}

void * PinnedBlocks::allocate(size_t bytes) {
    // Pages that the system cannot provide would end the process; the driver returns an error instead.
    if (bytes < least_bytes || bytes > available_memory()) return nullptr;
    blocks_.reserve(blocks_.size() + 1); // so that nothing fails once the block exists
    const size_t page = size_t(sysconf(_SC_PAGESIZE)), mapped = rounded_up(bytes, page);
    uint8_t * const memory = map_memory(mapped);
    if (!memory) return nullptr;
    make_pages(memory, mapped, page);
    // Portable: other devices copy from it as well. Mapped: kernels read it.
    if (cudaHostRegister(memory, mapped, cudaHostRegisterPortable | cudaHostRegisterMapped) != cudaSuccess) {
        (void)cudaGetLastError(); // later calls must not see it
        (void)munmap(memory, mapped);
        return nullptr;
    }
    blocks_.push_back({memory, mapped});
    return memory;
}

bool PinnedBlocks::free(void * memory) {
    const auto block =
        std::find_if(blocks_.begin(), blocks_.end(), [&](const Block & known) { return known.memory == memory; });
    if (block == blocks_.end()) return false;
    // Fails after a failure of the device; its driver then releases the memory with everything else.
    if (cudaHostUnregister(memory) != cudaSuccess) (void)cudaGetLastError();
    (void)munmap(memory, block->bytes);
    blocks_.erase(block);
    return true;
}

} // namespace gnv::cuda
