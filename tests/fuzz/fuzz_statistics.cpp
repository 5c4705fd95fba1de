// Any bytes as a statistics file, as they are and with checksums that fit: refused with a message, or read, shown, merged
// with itself and written again.
#include "formats/sealed_json.h"
#include "fuzz/fuzz_input.h"
#include "quant/calibration_statistics.h"

#include <sys/mman.h>
#include <unistd.h>

using namespace gnv;

static Status use_file(const std::string & text) {
    const int file = memfd_create("input", 0);
    fuzz::require(file >= 0 && write(file, text.data(), text.size()) == ssize_t(text.size()));
    std::string warning;
    Result<Statistics> read = read_statistics("/proc/self/fd/" + std::to_string(file), warning);
    close(file);
    if (!read.ok()) return read.take_status();
    Statistics merged = read.value();
    GNV_TRY(merge_statistics(merged, read.value()));
    fuzz::require(!statistics_text(merged).empty());
    GNV_ASSIGN(const std::string written, statistics_json(merged));
    const Result<bool> sealed = check_sealed_json(written, "written");
    fuzz::require(sealed.ok() && sealed.value());
    return {};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const std::string text(reinterpret_cast<const char *>(data), size);
    fuzz::require_message(use_file(text));
    if (text.size() > 3 && ends_with(text, "\n}\n")) fuzz::require_message(use_file(seal_json(text)));
    return 0;
}
