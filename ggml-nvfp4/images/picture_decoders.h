// The decoders behind decode.h: one file each. Bytes begin with the decoder's signature; messages are complete.
#pragma once

#include "images/decode.h"

namespace gnv {

Result<ImageInfo> read_png_info(std::string_view bytes, const std::string & name);
Result<ImageInfo> read_jpeg_info(std::string_view bytes, const std::string & name);
Result<ImageInfo> read_webp_info(std::string_view bytes, const std::string & name);

// Fill `image.rgb`, which has its size. Memory of the decoder is in proportion to the picture.
Status decode_png(std::string_view bytes, const std::string & name, Image & image);
Status decode_jpeg(std::string_view bytes, const std::string & name, Image & image);
Status decode_webp(std::string_view bytes, const std::string & name, Image & image);

// "NAME: byte OFFSET: damaged FORMAT: WHY; ...": what all of them say.
inline Status damaged_image(ImageFormat format, const std::string & name, uint64_t offset, std::string_view why) {
    return fail(Code::format, name, ": byte ", offset, ": damaged ", image_format_name(format), ": ", why,
                "; get the file again, or leave it out");
}

inline Status no_memory_for_image(ImageFormat format, const std::string & name) {
    return fail(Code::out_of_memory, name, ": not enough memory to decode this ", image_format_name(format));
}

} // namespace gnv
