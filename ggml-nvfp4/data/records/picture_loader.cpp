#include "data/records/picture_loader.h"

#include "formats/file.h"

#include <algorithm>

namespace gnv {

namespace {

int base64_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

constexpr std::string_view file_scheme = "file://";

// The bytes of "data:image/png;base64,..."
Result<std::string> decode_data_uri(std::string_view uri) {
    const size_t comma = uri.find(',');
    const std::string_view head = uri.substr(0, comma);
    if (comma == std::string_view::npos || !ends_with(std::string(head), ";base64"))
        return fail(Code::unsupported, "a data: URI that does not begin with data:...;base64, (it begins with ",
                    printable(std::string(head.substr(0, 60))), "); write data:image/png;base64, and the Base64 text");
    return decode_base64(uri.substr(comma + 1));
}

// Where the bytes of an image are.
struct Place {
    std::string path; // empty: in the record
    std::string name; // for messages
};

Result<Place> find_place(const RecordPicture & picture, const std::string & data_file) {
    const std::string & source = picture.source;
    if (!picture.bytes.empty() || starts_with(source, "data:")) return Place{{}, "the picture in the record"};
    if (source.empty())
        return Status(Code::invalid_argument, "a picture without bytes, path or data: URI; add one of them, or "
                                              "leave the picture out");
    for (const char * const scheme : {"http://", "https://", "s3://", "gs://", "hf://"})
        if (starts_with(source, scheme))
            return fail(Code::invalid_argument, printable(source, 200),
                        ": nothing is fetched from the network; save the picture and name its path");
    const std::string path = starts_with(source, std::string(file_scheme)) ? source.substr(file_scheme.size()) : source;
    const std::string full = path[0] == '/' ? path : join_path(parent_path(data_file), path);
    return Place{full, full};
}

Status check_memory(const ReadControl & control, const std::string & name, uint64_t bytes) {
    return control.fits(bytes) ? Status() : control.too_small(name, bytes);
}

Result<PreparedPicture> load_image(const std::string & bytes, const Place & place, const ProcessorConfig & config,
                                   const ReadControl & control, ThreadPool * pool) {
    GNV_ASSIGN(const ImageInfo info, read_image_info(bytes, place.name));
    GNV_ASSIGN(const PatchPlan plan, plan_image(config.images, info.width, info.height, place.name));
    const uint64_t made = 4 * uint64_t(plan.width) * uint64_t(plan.height);
    GNV_TRY(check_memory(control, place.name, memory_to_prepare(bytes.size(), info) + made));
    GNV_ASSIGN(Image image, decode_image(bytes, place.name));
    return prepare_image(config, std::move(image), place.name, pool);
}

Result<PreparedPicture> load_video(const RecordPicture & picture, const Place & place, const ProcessorConfig & config,
                                   const ReadControl & control, ThreadPool * pool) {
    if (place.path.empty() || !is_directory(place.path))
        return fail(path_exists(place.path) ? Code::unsupported : Code::not_found, place.name,
                    path_exists(place.path) ? ": a video must be a folder of frames; take them out of the file"
                                            : ": no such folder of frames");
    GNV_ASSIGN(const std::shared_ptr<const Folder> folder, open_folder(place.path));
    const double rate = picture.frame_rate != 0 ? picture.frame_rate : default_frame_rate;
    GNV_ASSIGN(const VideoPlan plan, plan_video(config.videos, *folder, rate));
    const uint64_t frames = plan.files.size() + 1;
    const ImageInfo info = {ImageFormat::png, plan.frame_width, plan.frame_height};
    const uint64_t of_frame = 3 * uint64_t(plan.patches.width) * uint64_t(plan.patches.height);
    GNV_TRY(check_memory(control, place.name, memory_to_prepare(0, info) + frames * of_frame));
    return prepare_video(plan, *folder, {}, pool);
}

} // namespace

Result<std::string> decode_base64(std::string_view text) {
    std::string out;
    out.reserve(text.size() / 4 * 3 + 3);
    uint32_t bits = 0;
    int count = 0; // of bits
    for (size_t i = 0; i < text.size(); i++) {
        if (text[i] == '\n' || text[i] == '\r' || text[i] == ' ') continue;
        if (text[i] == '=') break;
        const int value = base64_value(text[i]);
        if (value < 0)
            return fail(Code::format, "byte ", i,
                        " of the Base64 text is none of its characters; encode the picture again");
        bits = bits << 6 | uint32_t(value);
        if ((count += 6) < 8) continue;
        count -= 8;
        out += char(bits >> count & 0xff);
    }
    return out;
}

std::string encode_base64(std::string_view bytes) {
    constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve(bytes.size() / 3 * 4 + 4);
    for (size_t at = 0; at < bytes.size(); at += 3) {
        const size_t count = std::min<size_t>(3, bytes.size() - at);
        uint32_t bits = 0;
        for (size_t i = 0; i < 3; i++) bits = bits << 8 | (i < count ? uint8_t(bytes[at + i]) : 0u);
        for (size_t i = 0; i < 4; i++) out += i <= count ? digits[bits >> (18 - 6 * i) & 63] : '=';
    }
    return out;
}

Result<PreparedPicture> load_picture(const RecordPicture & picture, const std::string & data_file,
                                     const ProcessorConfig & config, const ReadControl & control, ThreadPool * pool) {
    GNV_TRY(control.check());
    GNV_ASSIGN(const Place place, find_place(picture, data_file));
    if (picture.is_video) return load_video(picture, place, config, control, pool);
    std::string bytes;
    if (!place.path.empty()) {
        const uint64_t most = std::min(ImageLimits().max_file_bytes, control.left());
        GNV_ASSIGN(bytes, read_file(place.path, most));
    } else if (picture.bytes.empty()) {
        GNV_TRY(check_memory(control, place.name, picture.source.size()));
        GNV_ASSIGN(bytes, decode_data_uri(picture.source));
    }
    return load_image(bytes.empty() ? picture.bytes : bytes, place, config, control, pool);
}

} // namespace gnv
