#include "formats/sealed_json.h"

#include "core/sha256.h"

#include <algorithm>
#include <string_view>

namespace gnv {

static constexpr size_t block_bytes = 16 << 10;
static constexpr std::string_view key = "\"checksums\"";
static constexpr std::string_view before_digest = "\n    \"";
static constexpr size_t digest_line_bytes = before_digest.size() + 64 + 2; // with a quote, and a comma or a line feed

// The text after the first `size` bytes of a document: the key of the checksums, and the rest.
static std::string tail_of(const char * document, size_t size) {
    std::string tail = concat(key, ": [");
    for (size_t begin = 0; begin < size; begin += block_bytes) {
        const size_t bytes = std::min(block_bytes, size - begin);
        tail += concat(begin > 0 ? "," : "", before_digest, sha256_hex(document + begin, bytes), "\"");
    }
    return tail + "\n  ]\n}\n";
}

std::string seal_json(std::string document) {
    static constexpr std::string_view end = "\n}\n";
    GNV_CHECK(document.size() > end.size() && document.compare(document.size() - end.size(), end.size(), end) == 0);
    document.resize(document.size() - end.size());
    document += ",\n  ";
    return document + tail_of(document.data(), document.size());
}

Result<bool> check_sealed_json(const std::string & text, const std::string & name) {
    const size_t size = text.rfind(key);
    if (size == std::string::npos) return false;
    const std::string expected = tail_of(text.data(), size);
    const std::string_view found = std::string_view(text).substr(size);
    if (found == expected) return true;
    const auto differs = std::mismatch(found.begin(), found.end(), expected.begin(), expected.end());
    const auto at = size_t(differs.first - found.begin());
    const size_t first_line = key.size() + 3; // ": ["
    const size_t begin = at < first_line ? size : (at - first_line) / digest_line_bytes * block_bytes;
    const std::string place =
        begin < size ? concat("bytes ", begin, " to ", std::min(begin + block_bytes, size) - 1, ", or their checksum,")
                     : concat("the list of checksums at byte ", size);
    return fail(Code::format, name, ": ", place, begin < size ? " are" : " is",
                " not as written: the file is damaged or was edited; use another copy, or make it anew");
}

} // namespace gnv
