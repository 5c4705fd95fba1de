// The operator new of a test program in which allocations fail (fault_shim.h). In a file of its own: compilers that see
// into it mistake free() for the wrong way to give back what operator new returned.
#include "faults/fault_shim.h"

#include <cstdlib>
#include <new>

static void * allocate(size_t size, size_t alignment) {
    if (fault_allocation_fails()) throw std::bad_alloc();
    void * const block =
        alignment ? aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment) : malloc(size ? size : 1);
    if (!block) throw std::bad_alloc();
    return block;
}

void * operator new(size_t size) { return allocate(size, 0); }
void * operator new[](size_t size) { return allocate(size, 0); }
void * operator new(size_t size, std::align_val_t alignment) { return allocate(size, size_t(alignment)); }
void * operator new[](size_t size, std::align_val_t alignment) { return allocate(size, size_t(alignment)); }
void operator delete(void * block) noexcept { free(block); }
void operator delete[](void * block) noexcept { free(block); }
void operator delete(void * block, size_t) noexcept { free(block); }
void operator delete[](void * block, size_t) noexcept { free(block); }
void operator delete(void * block, std::align_val_t) noexcept { free(block); }
void operator delete[](void * block, std::align_val_t) noexcept { free(block); }
void operator delete(void * block, size_t, std::align_val_t) noexcept { free(block); }
void operator delete[](void * block, size_t, std::align_val_t) noexcept { free(block); }
