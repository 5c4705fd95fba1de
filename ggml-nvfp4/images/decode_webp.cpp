#include "images/picture_decoders.h"

#include <algorithm>
#include <webp/decode.h>

namespace gnv {

namespace {

const uint8_t * data_of(std::string_view bytes) { return reinterpret_cast<const uint8_t *>(bytes.data()); }

uint32_t little_endian(std::string_view bytes, size_t at, size_t count) {
    uint32_t value = 0;
    for (size_t i = 0; i < count; i++) value |= uint32_t(uint8_t(bytes[at + i])) << 8 * i;
    return value;
}

Status failure(VP8StatusCode status, const std::string & name, uint64_t offset) {
    switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY: return no_memory_for_image(ImageFormat::webp, name);
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED: return damaged_image(ImageFormat::webp, name, offset, "the file ends early");
    case VP8_STATUS_UNSUPPORTED_FEATURE: return damaged_image(ImageFormat::webp, name, offset, "an unknown feature");
    default: return damaged_image(ImageFormat::webp, name, offset, "not a valid bit stream");
    }
}

// The part of a file that the container speaks of.
Result<std::string_view> container(std::string_view bytes, const std::string & name) {
    const uint64_t size = 8 + uint64_t(little_endian(bytes, 4, 4));
    if (size > bytes.size()) return damaged_image(ImageFormat::webp, name, bytes.size(), "the file ends early");
    return bytes.substr(0, size);
}

Result<WebPBitstreamFeatures> read_features(std::string_view bytes, const std::string & name, uint64_t offset) {
    WebPBitstreamFeatures features;
    const VP8StatusCode status = WebPGetFeatures(data_of(bytes), bytes.size(), &features);
    if (status != VP8_STATUS_OK) return failure(status, name, offset);
    return features;
}

// One picture at a place of the canvas.
struct Frame {
    std::string_view bytes;
    uint64_t offset = 0; // in the file
    int64_t x = 0, y = 0;
};

// The first chunk ANMF of an animation: x / 2, y / 2, width - 1, height - 1, duration (3 bytes each), flags, the picture.
Result<Frame> first_frame(std::string_view bytes, const std::string & name) {
    constexpr size_t chunk_header = 8, frame_header = 16;
    for (uint64_t at = 12; at + chunk_header <= bytes.size();) {
        const uint64_t size = little_endian(bytes, at + 4, 4), content = at + chunk_header;
        if (size > bytes.size() - content) break;
        if (bytes.substr(at, 4) == "ANMF" && size >= frame_header) {
            return Frame{bytes.substr(content + frame_header, size - frame_header), content + frame_header,
                         int64_t(little_endian(bytes, content, 3)) * 2,
                         int64_t(little_endian(bytes, content + 3, 3)) * 2};
        }
        at = content + size + size % 2;
    }
    return damaged_image(ImageFormat::webp, name, bytes.size(), "an animation without a whole frame");
}

} // namespace

Result<ImageInfo> read_webp_info(std::string_view bytes, const std::string & name) {
    GNV_ASSIGN(const std::string_view file, container(bytes, name));
    GNV_ASSIGN(const WebPBitstreamFeatures features, read_features(file, name, 0));
    return ImageInfo{ImageFormat::webp, features.width, features.height};
}

Status decode_webp(std::string_view bytes, const std::string & name, Image & image) {
    GNV_ASSIGN(const std::string_view file, container(bytes, name));
    GNV_ASSIGN(WebPBitstreamFeatures features, read_features(file, name, 0));
    Frame frame{file};
    if (features.has_animation) {
        GNV_ASSIGN(frame, first_frame(file, name));
        GNV_ASSIGN(features, read_features(frame.bytes, name, frame.offset));
        if (features.has_animation || frame.x > image.width - features.width ||
            frame.y > image.height - features.height)
            return damaged_image(ImageFormat::webp, name, frame.offset, "a frame outside the canvas");
        std::fill(image.rgb.begin(), image.rgb.end(), uint8_t(0));
    }
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config)) return fail(Code::internal, "libwebp has another version than its header");
    const size_t stride = size_t(image.width) * 3, begin = size_t(frame.y) * stride + size_t(frame.x) * 3;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA = {image.rgb.data() + begin, int(stride), image.rgb.size() - begin};
    const VP8StatusCode status = WebPDecode(data_of(frame.bytes), frame.bytes.size(), &config);
    WebPFreeDecBuffer(&config.output);
    if (status != VP8_STATUS_OK) return failure(status, name, frame.offset);
    return {};
}

} // namespace gnv
