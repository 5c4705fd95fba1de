// Any bytes as a data set: the first byte chooses the format and a budget of memory, the rest is the file. Every row is read
// and made a text, or refused with a message; charges never pass the budget, and are given back.
#include "data/calib_source.h"
#include "data/records/picture_records.h"

#include <cstdlib>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    if (size == 0) return 0;
    static const char * const endings[] = {".jsonl", ".json", ".csv", ".jsonl.zst", ".txt"};
    const uint64_t budgets[] = {UINT64_MAX, 1 << 16, 1 << 20, 7 << 20, 8 << 20, 20 << 20, 64 << 20};
    const gnv::ReadControl control(budgets[data[0] / std::size(endings) % std::size(budgets)], {});
    // A file without a disk, under a name that says its format.
    const int fd = memfd_create("input", 0);
    if (fd < 0 || write(fd, data + 1, size - 1) != ssize_t(size - 1)) abort();
    const std::string target = "/proc/self/fd/" + std::to_string(fd);
    const std::string path = "/tmp/gnv-fuzz-" + std::to_string(getpid()) + endings[data[0] % std::size(endings)];
    if (symlink(target.c_str(), path.c_str()) != 0) abort();

    const gnv::TextRule rule;
    auto opened = gnv::open_records(path, gnv::wanted_fields(rule), control);
    gnv::Status status = opened.ok() ? gnv::Status() : opened.take_status();
    gnv::Record record;
    std::string text;
    while (status.ok()) {
        auto found = opened.value()->next();
        if (!found.ok()) status = found.take_status();
        if (!found.ok() || !found.value()) break;
        auto fault = opened.value()->read(record);
        if (!fault.ok()) status = fault.take_status();
        if (!fault.ok() || fault.value() != gnv::RowFault::none) continue;
        (void)gnv::render_record(record, rule, text);
        if (!gnv::has_pictures(record)) continue;
        std::vector<gnv::RecordPicture> pictures;
        auto arranged = gnv::arrange_pictures(record, {"<i>", "<v>", "<s>", "<e>"}, pictures, text);
        if (!arranged.ok() || arranged.value() != gnv::RowFault::none) continue;
        if (!gnv::render_record(record, rule, text).ok()) abort();
    }
    if (!status.ok() && status.message().empty()) abort();
    if (control.most_used() > control.budget()) abort();
    if (opened.ok()) opened.value().reset();
    if (control.left() != control.budget()) abort();
    unlink(path.c_str());
    close(fd);
    return 0;
}
