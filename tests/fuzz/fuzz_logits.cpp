// Any bytes as a file of saved logits, as they are and with hashes that fit: refused with a message, or read to its end,
// positions and every row.
#include "core/sha256.h"
#include "evaluate/logits_file.h"
#include "fuzz/fuzz_input.h"

#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

using namespace gnv;
using namespace gnv::evaluate;

static Status read_all(const std::string & path, const LogitsHeader & expected) {
    GNV_ASSIGN(const std::unique_ptr<LogitsReader> reader, LogitsReader::open(path, expected));
    std::vector<double> nll;
    std::vector<int32_t> top;
    reader->take_positions(nll, top);
    fuzz::require(int64_t(nll.size()) == expected.positions && int64_t(top.size()) == expected.positions);
    constexpr int64_t step = 100; // does not divide a frame
    std::vector<uint16_t> rows(size_t(step * expected.vocabulary));
    for (int64_t first = 0; first < expected.positions; first += step)
        GNV_TRY(reader->read(first, std::min(step, expected.positions - first), rows.data()));
    return {};
}

static uint64_t number_at(const std::string & file, uint64_t offset) {
    uint64_t number = 0;
    if (offset <= file.size() && sizeof number <= file.size() - offset) memcpy(&number, &file[offset], sizeof number);
    return number;
}

static uint64_t number_behind(const std::string & file, const char * key) {
    const size_t at = file.find(key);
    return at == std::string::npos ? 0 : strtoull(file.c_str() + at + strlen(key), nullptr, 10);
}

static void put_hash(std::string & file, uint64_t to, uint64_t begin, uint64_t end) {
    if (begin > end || end > file.size() || to > file.size() || 64 > file.size() - to) return;
    file.replace(to, 64, sha256_hex(file.data() + begin, end - begin));
}

// The hashes that a file with this content would have: without them a change never gets beyond them.
static std::string with_hashes(std::string file) {
    const uint64_t header_end = 16 + std::min<uint64_t>(number_at(file, 8), 4096);
    const uint64_t tables = number_behind(file, "\"tables\":");
    uint64_t to = tables + number_behind(file, "\"positions\":") * 12;
    if (tables > file.size() || header_end > tables) return file;
    for (uint64_t at = header_end + 64; at < tables && tables - at >= 8; to += 64) {
        const uint64_t size = std::min(number_at(file, at), tables - at - 8);
        put_hash(file, to, at, at + 8 + size);
        at += 8 + size;
    }
    const std::string key = "\"tables_sha256\":\"";
    const size_t at = file.find(key);
    if (at != std::string::npos) put_hash(file, at + key.size(), tables, file.size());
    put_hash(file, header_end, 0, header_end);
    return file;
}

static void use_file(const std::string & content) {
    const int file = memfd_create("input", 0);
    fuzz::require(file >= 0 && write(file, content.data(), content.size()) == ssize_t(content.size()));
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
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const std::string content(reinterpret_cast<const char *>(data), size);
    use_file(content);
    use_file(with_hashes(content));
    return 0;
}
