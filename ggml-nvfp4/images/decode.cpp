#include "images/decode.h"

#include "formats/file.h"
#include "images/picture_decoders.h"

namespace gnv {

namespace {

struct Decoder {
    ImageFormat format;
    Result<ImageInfo> (*read_info)(std::string_view bytes, const std::string & name);
    Status (*decode)(std::string_view bytes, const std::string & name, Image & image);
};

constexpr Decoder decoders[] = {
    {ImageFormat::png, read_png_info, decode_png},
    {ImageFormat::jpeg, read_jpeg_info, decode_jpeg},
    {ImageFormat::webp, read_webp_info, decode_webp},
};

struct Signature {
    size_t offset;
    std::string_view bytes;
    const char * name;
    const Decoder * decoder; // null: there is none
};

using namespace std::string_view_literals;
constexpr Signature signatures[] = {
    {0, "\x89PNG\r\n\x1a\n"sv, "PNG", &decoders[0]},
    {0, "\xff\xd8\xff"sv, "JPEG", &decoders[1]},
    {8, "WEBP"sv, "WebP", &decoders[2]},
    {0, "GIF8"sv, "GIF", nullptr},
    {0, "BM"sv, "BMP", nullptr},
    {0, "II*\0"sv, "TIFF", nullptr},
    {0, "MM\0*"sv, "TIFF", nullptr},
    {4, "ftypavif"sv, "AVIF", nullptr},
    {4, "ftyphei"sv, "HEIC", nullptr},
    {4, "ftypmif1"sv, "HEIF", nullptr},
    {0, "\xff\x0a"sv, "JPEG XL", nullptr},
    {0, "\0\0\0\x0cJXL "sv, "JPEG XL", nullptr},
    {0, "\0\0\0\x0cjP  "sv, "JPEG 2000", nullptr},
    {0, "%PDF"sv, "PDF", nullptr},
    {0, "<svg"sv, "SVG", nullptr},
    {0, "<?xml"sv, "XML", nullptr},
    {4, "ftyp"sv, "MP4", nullptr},
    {0, "version https://git-lfs"sv, "Git LFS pointer", nullptr},
};

Result<const Decoder *> find_decoder(std::string_view bytes, const std::string & name) {
    if (bytes.empty()) return fail(Code::format, name, ": the file is empty; get the file again, or leave it out");
    for (const Signature & signature : signatures) {
        if (bytes.size() < signature.offset || !starts_with(bytes.substr(signature.offset), signature.bytes)) continue;
        if (signature.decoder && (signature.offset == 0 || starts_with(bytes, "RIFF"))) return signature.decoder;
        if (!signature.decoder)
            return fail(Code::unsupported, name, ": a file of type ", signature.name,
                        ", and only PNG, JPEG and WebP are read; convert it");
    }
    return fail(Code::format, name,
                ": begins with no signature of PNG, JPEG or WebP; get the file again, or convert it");
}

Result<ImageInfo> read_info(const Decoder & decoder, std::string_view bytes, const std::string & name,
                            const ImageLimits & limits) {
    GNV_ASSIGN(const ImageInfo info, decoder.read_info(bytes, name));
    if (info.width <= 0 || info.height <= 0)
        return fail(Code::format, name, ": a picture of ", info.width, " x ", info.height, " pixels");
    if (uint64_t(info.width) > limits.max_pixels / uint64_t(info.height))
        return fail(Code::unsupported, name, ": a picture of ", info.width, " x ", info.height, " pixels, and at most ",
                    count_text(limits.max_pixels), " are decoded; make it smaller, or leave it out");
    return info;
}

} // namespace

const char * image_format_name(ImageFormat format) {
    constexpr const char * names[] = {"PNG", "JPEG", "WebP"};
    return names[int(format)];
}

Result<ImageInfo> read_image_info(std::string_view bytes, const std::string & name, const ImageLimits & limits) {
    GNV_ASSIGN(const Decoder * const decoder, find_decoder(bytes, name));
    return read_info(*decoder, bytes, name, limits);
}

Result<Image> decode_image(std::string_view bytes, const std::string & name, const ImageLimits & limits) {
    Image image;
    GNV_TRY(guard_exceptions([&]() -> Status {
        GNV_ASSIGN(const Decoder * const decoder, find_decoder(bytes, name));
        GNV_ASSIGN(const ImageInfo info, read_info(*decoder, bytes, name, limits));
        image.width = info.width, image.height = info.height;
        image.rgb.resize(size_t(info.width) * size_t(info.height) * 3);
        return decoder->decode(bytes, name, image);
    }));
    return image;
}

Result<Image> read_image(const std::string & path, const ImageLimits & limits) {
    GNV_ASSIGN(const std::string bytes, read_file(path, limits.max_file_bytes));
    return decode_image(bytes, path, limits);
}

} // namespace gnv
