// Any bytes as a WebP file; the size that the container declares is made to fit, so that what is in it is looked at.
#include "fuzz/fuzz_image.h"

using namespace gnv::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    std::string bytes(reinterpret_cast<const char *>(data), size);
    if (bytes.size() < 12) bytes.resize(12);
    check_image(bytes);
    bytes.replace(0, 4, "RIFF").replace(8, 4, "WEBP");
    for (size_t i = 0; i < 4; i++) bytes[4 + i] = char((bytes.size() - 8) >> 8 * i);
    check_image(bytes);
    return 0;
}
