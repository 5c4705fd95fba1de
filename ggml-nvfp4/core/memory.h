// Memory of the host.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "core/status.h"

namespace gnv {

// Bytes that can be allocated now without swapping, by the estimate of the system and the limit of the process's
// cgroup.
uint64_t available_memory();
// The largest resident memory of this process so far, pages of mapped files included.
uint64_t peak_resident_memory();

// Bytes rounded up to the alignment of blocks and of the data inside them.
constexpr uint64_t rounded_to_64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

struct AlignedFree {
    void operator()(uint8_t * memory) const { std::free(memory); }
};
// A block of memory aligned to 64 bytes; its content is undefined. `what` is for the message.
using AlignedBlock = std::unique_ptr<uint8_t, AlignedFree>;
Result<AlignedBlock> allocate_block(uint64_t bytes, const char * what);
// The same in large pages where the system has them, for a block that is written as a whole: to touch its small pages
// takes longer than to write them.
Result<AlignedBlock> allocate_large_block(uint64_t bytes, const char * what);

} // namespace gnv
