// Any bytes as an Arrow stream or file: every readable column is read to its end, or refused with a message.
#include "data/files/arrow.h"

#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

// Damaged files can claim more rows than is worth a count one by one.
static constexpr uint64_t most_rows = 10'000;

static gnv::Status read_all(const std::string & path, const gnv::ReadControl & control) {
    GNV_ASSIGN(gnv::ArrowRows rows, gnv::ArrowRows::open(path, control));
    for (uint64_t row = 0; row < most_rows; row++) {
        GNV_ASSIGN(const bool found, rows.next());
        if (!found) break;
        if (row % 5 == 3) continue; // skipped
        for (size_t field = 0; field < rows.fields().size(); field++) {
            gnv::ArrowValue value;
            if (rows.fields()[field].kind != gnv::ArrowField::Kind::other) GNV_TRY(rows.read(field, value));
        }
    }
    return {};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const int fd = memfd_create("input", 0);
    if (fd < 0 || write(fd, data, size) != ssize_t(size)) abort();
    // Once without a budget, once with one that large buffers pass.
    for (const gnv::ReadControl & control : {gnv::ReadControl(), gnv::ReadControl(8 << 20, {})}) {
        const gnv::Status status = read_all("/proc/self/fd/" + std::to_string(fd), control);
        if (!status.ok() && status.message().empty()) abort();
        if (control.most_used() > control.budget()) abort();
        if (control.budget() != UINT64_MAX && control.left() != control.budget()) abort();
    }
    close(fd);
    return 0;
}
