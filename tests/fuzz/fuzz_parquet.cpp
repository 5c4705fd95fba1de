// Any bytes as a Parquet file: every readable column is read to its end, or refused with a message.
#include "data/files/parquet.h"

#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

// Damaged files can claim more rows than anybody wants to count one by one.
static constexpr uint64_t most_rows = 10'000;

static gnv::Status read_all(const std::string & path, const gnv::ReadControl & control) {
    GNV_ASSIGN(gnv::ParquetFile file, gnv::ParquetFile::open(path, control));
    std::vector<uint32_t> columns;
    for (uint32_t i = 0; i < file.columns.size(); i++)
        if (file.columns[i].is_readable_text()) columns.push_back(i);
    GNV_ASSIGN(gnv::ParquetRows rows, gnv::ParquetRows::open(std::move(file), std::move(columns)));
    std::vector<gnv::ParquetCell> cells;
    for (uint64_t row = 0; row < most_rows && rows.next(); row++)
        if (row % 5 != 3) GNV_TRY(rows.read(cells)); // others are skipped
    return {};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const int fd = memfd_create("input", 0);
    if (fd < 0 || write(fd, data, size) != ssize_t(size)) abort();
    // Once without a budget, once with one that large pages pass.
    for (const gnv::ReadControl & control : {gnv::ReadControl(), gnv::ReadControl(8 << 20, {})}) {
        const gnv::Status status = read_all("/proc/self/fd/" + std::to_string(fd), control);
        if (!status.ok() && status.message().empty()) abort();
        if (control.most_used() > control.budget()) abort();
        if (control.budget() != UINT64_MAX && control.left() != control.budget()) abort();
    }
    close(fd);
    return 0;
}
