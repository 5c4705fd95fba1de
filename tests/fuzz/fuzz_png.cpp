// Any bytes as a PNG file: as they are, and with checksums that are right, so that what the chunks say is looked at.
#include "fuzz/fuzz_image.h"

using namespace gnv::fuzz;

static uint32_t checksum(std::string_view bytes) {
    uint32_t sum = 0xffffffff;
    for (const char byte : bytes) {
        sum ^= uint8_t(byte);
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
    }
    return ~sum;
}

static void repair(std::string & bytes) {
    constexpr size_t header = 8; // length and type of a chunk
    for (size_t at = 8; bytes.size() - at >= header + 4;) {
        size_t length = 0;
        for (size_t i = 0; i < 4; i++) length = length << 8 | uint8_t(bytes[at + i]);
        if (length > bytes.size() - at - header - 4) return;
        const size_t end = at + header + length;
        const uint32_t sum = checksum(std::string_view(bytes).substr(at + 4, length + 4));
        for (size_t i = 0; i < 4; i++) bytes[end + i] = char(sum >> (24 - 8 * i));
        at = end + 4;
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const std::string_view signature("\x89PNG\r\n\x1a\n", 8);
    check_image_of(signature, data, size);
    std::string bytes(reinterpret_cast<const char *>(data), size);
    if (!gnv::starts_with(bytes, signature)) bytes.insert(0, signature);
    repair(bytes);
    check_image(bytes);
    return 0;
}
