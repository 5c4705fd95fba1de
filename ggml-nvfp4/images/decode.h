// PNG, JPEG and WebP files as 8-bit RGB, pixel for pixel what PIL gives for Image.open(file).convert("RGB"):
//   grey        the three channels are equal; 1, 2 and 4 bits are spread to 0..255
//   16 bit      the high byte; but grey without alpha is clipped: 255 and above are white, as in PIL
//   palette     its colours; an index behind its end is black
//   alpha       dropped, not blended
//   CMYK, YCCK  inverted as Adobe writes them, then multiplied out in 8 bits
//   JPEG        accurate integer DCT, fancy upsampling
//   animations  the first frame, on a black canvas
// Colour profiles, gamma and the EXIF orientation are not applied.
//
// A file that ends early or is damaged is refused, also where PIL fills the rest with grey or does not look at a checksum.
// Messages name the file and, where the decoder knows it, the byte.
//
// In a build without GNV_WITH_IMAGES everything here fails with Code::unsupported.
#pragma once

#include "core/status.h"
#include "images/image.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace gnv {

enum class ImageFormat : uint8_t { png, jpeg, webp, count_ };
const char * image_format_name(ImageFormat format); // "PNG", "JPEG", "WebP"

// What a header may declare; checked before memory is taken for pixels. A decoder takes about 12 bytes a pixel.
struct ImageLimits {
    uint64_t max_pixels = 178'956'970;           // where PIL sees a decompression bomb
    uint64_t max_file_bytes = uint64_t(1) << 30; // of a file that read_image() opens
};

struct ImageInfo {
    ImageFormat format = ImageFormat::png;
    int64_t width = 0, height = 0; // above 0
};

// From the first bytes of a file and its header; pixels are not looked at. `name` is for messages: the path of the file, or
// the record that holds the bytes. Code::format: damaged. Code::unsupported: another kind of file, or above the limits.
Result<ImageInfo> read_image_info(std::string_view bytes, const std::string & name, const ImageLimits & limits = {});
// The pixels; failures as above, and Code::out_of_memory.
Result<Image> decode_image(std::string_view bytes, const std::string & name, const ImageLimits & limits = {});

// The same of a file: Code::not_found and Code::io besides.
Result<Image> read_image(const std::string & path, const ImageLimits & limits = {});

} // namespace gnv
