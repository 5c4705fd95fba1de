#include "core/memory.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
#include <sys/resource.h>

namespace gnv {

// Reads a number from a file of the kernel; false without the file or the number.
static bool read_number(const char * path, const char * label, uint64_t & out) {
    FILE * file = fopen(path, "re");
    if (!file) return false;
    char line[256];
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) {
        const size_t length = strlen(label);
        if (strncmp(line, label, length) != 0) continue;
        unsigned long long value = 0;
        found = sscanf(line + length, "%llu", &value) == 1;
        out = value;
        break;
    }
    fclose(file);
    return found;
}

uint64_t available_memory() {
    uint64_t available = uint64_t(4) << 30; // if the system has no estimate
    uint64_t kilobytes = 0;
    if (read_number("/proc/meminfo", "MemAvailable:", kilobytes)) available = kilobytes * 1024;
    uint64_t limit = 0, used = 0;
    if (read_number("/sys/fs/cgroup/memory.max", "", limit) && read_number("/sys/fs/cgroup/memory.current", "", used))
        available = std::min(available, limit > used ? limit - used : 0);
    return available;
}

uint64_t peak_resident_memory() {
    rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? uint64_t(usage.ru_maxrss) * 1024 : 0;
}

static Result<AlignedBlock> allocate_aligned(uint64_t alignment, uint64_t bytes, const char * what) {
    const uint64_t size = (std::max<uint64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    AlignedBlock block(static_cast<uint8_t *>(std::aligned_alloc(alignment, size)));
    if (!block) return fail(Code::out_of_memory, "cannot allocate ", bytes_text(bytes), " for ", what);
    return block;
}

Result<AlignedBlock> allocate_block(uint64_t bytes, const char * what) { return allocate_aligned(64, bytes, what); }

Result<AlignedBlock> allocate_large_block(uint64_t bytes, const char * what) {
    constexpr uint64_t large_page = 2 << 20;
    if (bytes < 4 * large_page) return allocate_block(bytes, what);
    GNV_ASSIGN(AlignedBlock block, allocate_aligned(large_page, bytes, what));
#ifdef MADV_HUGEPAGE
    (void)madvise(block.get(), bytes / large_page * large_page, MADV_HUGEPAGE); // a wish
#endif
    return block;
}

} // namespace gnv
