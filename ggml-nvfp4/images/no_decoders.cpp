// Stands in for the decoders in a build without GNV_WITH_IMAGES.
#include "images/decode.h"

namespace gnv {

static Status left_out(const std::string & name) {
    return fail(
        Code::unsupported, name,
        ": this build of ggml-nvfp4 reads no pictures: configure it with -DGNV_WITH_IMAGES=ON, or take another build");
}

const char * image_format_name(ImageFormat) { return "picture"; }
Result<ImageInfo> read_image_info(std::string_view, const std::string & name, const ImageLimits &) {
    return left_out(name);
}
Result<Image> decode_image(std::string_view, const std::string & name, const ImageLimits &) { return left_out(name); }
Result<Image> read_image(const std::string & path, const ImageLimits &) { return left_out(path); }

} // namespace gnv
