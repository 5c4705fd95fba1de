// Large blocks of pinned host memory. cudaHostAlloc makes, clears and pins pages one after another; here several
// threads make them, large ones where the system has them, and they are pinned in one go.
#pragma once

#include <cstddef>
#include <vector>

namespace gnv::cuda {

class PinnedBlocks {
  public:
    // Aligned to pages, for the current device and all others. Null where the system or the driver refuses, for more
    // than is free, and for a block too small to be worth it: cudaHostAlloc may still have one.
    void * allocate(size_t bytes);
    // Whether this was one of these blocks; then it is gone. Nothing may be under way from or to it.
    bool free(void * memory);

  private:
    struct Block {
        void * memory = nullptr;
        size_t bytes = 0; // mapped
    };
    std::vector<Block> blocks_;
};

} // namespace gnv::cuda
