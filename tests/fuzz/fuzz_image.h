// What the targets of pictures share: any bytes as a file give a picture of the declared size or a message, and a picture can
// be cut into patches.
#pragma once

#include "fuzz/fuzz_input.h"
#include "images/decode.h"
#include "images/preprocess.h"

namespace gnv::fuzz {

inline void check_image(std::string_view bytes) {
    const ImageLimits limits{.max_pixels = 1 << 18}; // one input takes milliseconds
    const Result<ImageInfo> info = read_image_info(bytes, "input", limits);
    const Result<Image> decoded = decode_image(bytes, "input", limits);
    require_message(info.status());
    require_message(decoded.status());
    require(info.ok() || !decoded.ok());
    if (!decoded.ok()) return;
    const Image & image = decoded.value();
    require(image.width == info.value().width && image.height == info.value().height);
    require(image.rgb.size() == size_t(image.width) * size_t(image.height) * 3);
    ImageProcessorConfig config;
    config.max_pixels = 1 << 14;
    const Result<PixelValues> pixels = preprocess_image(config, image, "input");
    require_message(pixels.status());
    if (!pixels.ok()) return;
    for (const float value : pixels.value().values) require(value > -2 && value < 3);
}

// The same of bytes with a signature in front of them, where they have none.
inline void check_image_of(std::string_view signature, const uint8_t * data, size_t size) {
    std::string bytes(reinterpret_cast<const char *>(data), size);
    if (!starts_with(bytes, signature)) bytes.insert(0, signature);
    check_image(bytes);
}

} // namespace gnv::fuzz
