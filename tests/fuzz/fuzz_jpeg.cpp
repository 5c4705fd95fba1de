// Any bytes as a JPEG file.
#include "fuzz/fuzz_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    gnv::fuzz::check_image_of("\xff\xd8\xff", data, size);
    return 0;
}
