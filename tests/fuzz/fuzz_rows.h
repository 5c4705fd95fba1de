// The end of fuzz targets that read rows of a data file: any bytes as a file, once without a budget, and once with one that large
// pieces pass.
#pragma once

#include "data/files/read_control.h"

#include <cstdlib>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace gnv::fuzz {

// Damaged files can claim more rows than is worth a count one by one.
inline constexpr uint64_t most_rows = 10'000;

// `read_all`: a Status, of a path and a ReadControl. Whatever it reads is charged to the budget and given back.
template <class ReadAll>
int fuzz_rows(const uint8_t * data, size_t size, const ReadAll & read_all) {
    const int fd = memfd_create("input", 0);
    if (fd < 0 || write(fd, data, size) != ssize_t(size)) abort();
    for (const ReadControl & control : {ReadControl(), ReadControl(8 << 20, {})}) {
        const Status status = read_all("/proc/self/fd/" + std::to_string(fd), control);
        if (!status.ok() && status.message().empty()) abort();
        if (control.most_used() > control.budget()) abort();
        if (control.budget() != UINT64_MAX && control.left() != control.budget()) abort();
    }
    close(fd);
    return 0;
}

} // namespace gnv::fuzz
