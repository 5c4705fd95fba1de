// Writes to files of a file system in memory through mappings.
#include "formats/file.h"

#include <algorithm>
#include <cstring>
#ifdef __linux__
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>
#endif

namespace gnv {

#ifdef __linux__
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 // Linux 5.14
#endif

bool File::is_in_memory() const {
    struct statfs info;
    return fstatfs(fd_, &info) == 0 && info.f_type == TMPFS_MAGIC;
}

bool File::write_mapped(std::span<const FilePart> parts, uint64_t offset) const {
    uint64_t size = 0;
    for (const FilePart & part : parts) size += part.size;
    const auto page = uint64_t(sysconf(_SC_PAGESIZE));
    constexpr uint64_t step = 2 << 20; // what a processor's cache holds between making pages and filling them
    const uint64_t before = offset % page, bytes = before + size;
    void * const mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, off_t(offset - before));
    if (mapped == MAP_FAILED) return false;
    auto * const base = static_cast<uint8_t *>(mapped);
    uint64_t ready = 0, at = before;
    bool good = true;
    for (const FilePart & part : parts) {
        const auto * const data = static_cast<const uint8_t *>(part.data);
        for (uint64_t done = 0; good && done < part.size;) {
            // The pages come first: where there is no room for them, the call fails, while a copy would end the process.
            if (at == ready || ready == 0) {
                const uint64_t next = std::min(bytes, (at / step + 1) * step);
                good = madvise(base + ready, next - ready, MADV_POPULATE_WRITE) == 0;
                ready = next;
            }
            if (!good) break;
            const uint64_t count = std::min(part.size - done, ready - at);
            memcpy(base + at, data + done, count);
            done += count, at += count;
        }
    }
    munmap(mapped, bytes);
    return good;
}
#else
bool File::is_in_memory() const { return false; }
bool File::write_mapped(std::span<const FilePart>, uint64_t) const { return false; }
#endif

} // namespace gnv
