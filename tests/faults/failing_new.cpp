// The operator new of a test program in which allocations fail (fault_shim.h), all of its forms: the library's own would do,
// but for the sanitizers', which allocate past these. In a file of its own: compilers that see into it mistake free() for
// the wrong way to give back what operator new returned.
#include "faults/fault_shim.h"

#include <cstdlib>
#include <new>

static void * allocate(size_t size, size_t alignment) noexcept {
#ifndef FAULT_PRELOADED // there, malloc() decides
    if (fault_allocation_fails()) return nullptr;
#endif
    return alignment ? aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
                     : malloc(size ? size : 1);
}

static void * allocate_or_throw(size_t size, size_t alignment) {
    void * const block = allocate(size, alignment);
    if (!block) throw std::bad_alloc();
    return block;
}

using Alignment = std::align_val_t;
using NoThrow = const std::nothrow_t &;
void * operator new(size_t size) { return allocate_or_throw(size, 0); }
void * operator new[](size_t size) { return allocate_or_throw(size, 0); }
void * operator new(size_t size, Alignment alignment) { return allocate_or_throw(size, size_t(alignment)); }
void * operator new[](size_t size, Alignment alignment) { return allocate_or_throw(size, size_t(alignment)); }
void * operator new(size_t size, NoThrow) noexcept { return allocate(size, 0); }
void * operator new[](size_t size, NoThrow) noexcept { return allocate(size, 0); }
void * operator new(size_t size, Alignment alignment, NoThrow) noexcept { return allocate(size, size_t(alignment)); }
void * operator new[](size_t size, Alignment alignment, NoThrow) noexcept { return allocate(size, size_t(alignment)); }
void operator delete(void * block) noexcept { free(block); }
void operator delete[](void * block) noexcept { free(block); }
void operator delete(void * block, size_t) noexcept { free(block); }
void operator delete[](void * block, size_t) noexcept { free(block); }
void operator delete(void * block, Alignment) noexcept { free(block); }
void operator delete[](void * block, Alignment) noexcept { free(block); }
void operator delete(void * block, size_t, Alignment) noexcept { free(block); }
void operator delete[](void * block, size_t, Alignment) noexcept { free(block); }
void operator delete(void * block, NoThrow) noexcept { free(block); }
void operator delete[](void * block, NoThrow) noexcept { free(block); }
void operator delete(void * block, Alignment, NoThrow) noexcept { free(block); }
void operator delete[](void * block, Alignment, NoThrow) noexcept { free(block); }
