// Any bytes as a file of saved logits: refused with a message, or read to its end, positions and every row.
#include "evaluate/logits_file.h"
#include "fuzz/fuzz_input.h"

#include <sys/mman.h>
#include <unistd.h>

using namespace gnv;
using namespace gnv::evaluate;

static Status read_all(const std::string & path, const LogitsHeader & expected) {
    GNV_ASSIGN(const std::unique_ptr<LogitsReader> reader, LogitsReader::open(path, expected));
    std::vector<double> nll;
    std::vector<int32_t> top;
    GNV_TRY(reader->read_positions(nll, top));
    fuzz::require(int64_t(nll.size()) == expected.positions && int64_t(top.size()) == expected.positions);
    constexpr int64_t step = 100; // does not divide a frame
    std::vector<uint16_t> rows(size_t(step * expected.vocabulary));
    for (int64_t first = 0; first < expected.positions; first += step)
        GNV_TRY(reader->read(first, std::min(step, expected.positions - first), rows.data()));
    return {};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const int file = memfd_create("input", 0);
    fuzz::require(file >= 0 && write(file, data, size) == ssize_t(size));
    const std::string path = "/proc/self/fd/" + std::to_string(file);
    for (const int64_t positions : {3, 1030}) { // one frame; a whole one and a short one
        LogitsHeader expected;
        expected.vocabulary = 8;
        expected.positions = positions;
        expected.precision = "fp32";
        expected.data_sha256 = "d";
        fuzz::require_message(read_all(path, expected));
    }
    close(file);
    return 0;
}
