#include "images/processor_config.h"

#include <cmath>

namespace gnv {

namespace {

constexpr const char * processor_file = "processor_config.json";
constexpr const char * image_file = "preprocessor_config.json";
constexpr const char * video_file = "video_preprocessor_config.json";
constexpr uint64_t size_limit = 1 << 20;
// A small picture grows to min_pixels, so they are bounded: to 6 GB of pixel_values. Above max_pixels a large one shrinks.
constexpr int64_t most_least = 1 << 28, most_most = int64_t(1) << 53;

bool find_value(const JsonValue & object, std::string_view key, JsonValue & out) {
    return object.find(key, out) && !out.is_null();
}

Status read_flag(const JsonValue & object, std::string_view key, bool & out) {
    JsonValue value;
    if (!find_value(object, key, value)) return {};
    GNV_ASSIGN(out, value.as_bool());
    return {};
}

// A whole number in [least, most].
template <class Integer>
Status read_count(const JsonValue & object, std::string_view key, int64_t least, int64_t most, Integer & out) {
    JsonValue value;
    if (!find_value(object, key, value)) return {};
    GNV_ASSIGN(const int64_t number, value.as_int());
    if (number < least || number > most)
        return fail(Code::format, value.where(), ": expected ", least, " to ", most, ", found ", number);
    out = Integer(number);
    return {};
}

Status read_positive(const JsonValue & object, std::string_view key, double & out) {
    JsonValue value;
    if (!find_value(object, key, value)) return {};
    GNV_ASSIGN(const double number, value.as_double());
    if (!(number > 0 && std::isfinite(number)))
        return fail(Code::format, value.where(), ": expected a number above 0, found ", number);
    out = number;
    return {};
}

// Three numbers, or one for all channels.
Status read_channels(const JsonValue & object, std::string_view key, std::array<double, 3> & out) {
    JsonValue value;
    if (!find_value(object, key, value)) return {};
    if (!value.is_array()) {
        GNV_ASSIGN(const double number, value.as_double());
        out.fill(number);
        return {};
    }
    GNV_ASSIGN(const size_t size, value.array_size());
    if (size != out.size()) return fail(Code::format, value.where(), ": expected 3 numbers, found ", size);
    return value.for_each_element([&](size_t index, const JsonValue & element) -> Status {
        GNV_ASSIGN(out[index], element.as_double());
        return {};
    });
}

Status read_pixels(const JsonValue & object, ImageProcessorConfig & config) {
    JsonValue size;
    if (find_value(object, "size", size)) {
        if (!size.is_object()) return fail(Code::format, size.where(), ": expected an object");
        for (const char * const least : {"min_pixels", "shortest_edge"})
            GNV_TRY(read_count(size, least, 1, most_least, config.min_pixels));
        for (const char * const most : {"max_pixels", "longest_edge"})
            GNV_TRY(read_count(size, most, 1, most_most, config.max_pixels));
    }
    GNV_TRY(read_count(object, "min_pixels", 1, most_least, config.min_pixels));
    GNV_TRY(read_count(object, "max_pixels", 1, most_most, config.max_pixels));
    if (config.min_pixels > config.max_pixels)
        return fail(Code::format, object.where(), ": at least ", config.min_pixels, " pixels and at most ",
                    config.max_pixels, " are asked for");
    return {};
}

// The kind of processor: the names of Transformers' classes.
Status check_type(const JsonValue & object, std::string_view key, std::string_view beginning, std::string_view part) {
    JsonValue value;
    if (!find_value(object, key, value)) return {};
    GNV_ASSIGN(const std::string_view type, value.as_string());
    if (starts_with(type, beginning) && type.find(part) != type.npos) return {};
    return fail(Code::unsupported, value.where(), ": pictures are prepared as by the processors ", beginning, "...",
                part, ", not by ", printable(type));
}

} // namespace

Status parse_image_processor(const JsonValue & object, ImageProcessorConfig & config) {
    if (!object.is_object()) return fail(Code::format, object.where(), ": expected an object");
    GNV_TRY(check_type(object, "image_processor_type", "Qwen", "VLImageProcessor"));
    GNV_TRY(read_pixels(object, config));
    GNV_TRY(read_count(object, "patch_size", 1, 1024, config.patch_size));
    GNV_TRY(read_count(object, "temporal_patch_size", 1, 64, config.temporal_patch_size));
    GNV_TRY(read_count(object, "merge_size", 1, 64, config.merge_size));
    GNV_TRY(read_flag(object, "do_resize", config.do_resize));
    GNV_TRY(read_flag(object, "do_rescale", config.do_rescale));
    GNV_TRY(read_flag(object, "do_normalize", config.do_normalize));
    GNV_TRY(read_positive(object, "rescale_factor", config.rescale_factor));
    GNV_TRY(read_channels(object, "image_mean", config.mean));
    GNV_TRY(read_channels(object, "image_std", config.deviation));
    for (size_t c = 0; c < 3; c++)
        if (!std::isfinite(config.mean[c]) || !(config.deviation[c] > 0 && std::isfinite(config.deviation[c])))
            return fail(Code::format, object.where(), ": image_mean must be numbers and image_std numbers above 0");
    int64_t filter = 3;
    GNV_TRY(read_count(object, "resample", 0, 5, filter));
    if (config.do_resize && filter != 3)
        return fail(Code::unsupported, object.where(), ": resample is ", filter, ", and only 3 (bicubic) is done");
    return {};
}

Status parse_video_processor(const JsonValue & object, VideoProcessorConfig & config) {
    if (!object.is_object()) return fail(Code::format, object.where(), ": expected an object");
    GNV_TRY(check_type(object, "video_processor_type", "Qwen3", "VLVideoProcessor"));
    GNV_TRY(parse_image_processor(object, config.frames));
    GNV_TRY(read_positive(object, "fps", config.frames_per_second));
    GNV_TRY(read_count(object, "min_frames", 1, 1 << 20, config.min_frames));
    GNV_TRY(read_count(object, "max_frames", 1, 1 << 20, config.max_frames));
    if (config.min_frames > config.max_frames)
        return fail(Code::format, object.where(), ": min_frames is above max_frames");
    GNV_TRY(read_flag(object, "do_sample_frames", config.do_sample_frames));
    JsonValue count;
    if (find_value(object, "num_frames", count))
        return fail(Code::unsupported, count.where(),
                    ": a fixed number of frames; only fps is supported: make it null");
    return {};
}

Result<ProcessorConfig> read_processor_config(const Folder & folder) {
    const auto read = [&](const char * name) -> Result<JsonDocument> {
        GNV_ASSIGN(std::string text, read_file(folder, name, size_limit));
        return JsonDocument::parse(std::move(text), join_path(folder.path(), name));
    };
    ProcessorConfig config;
    bool has_images = false, has_videos = false;
    // The first that is there wins.
    const auto take = [&](const JsonValue & images) -> Status {
        has_images = true;
        return parse_image_processor(images, config.images);
    };
    const auto take_videos = [&](const JsonValue & videos) -> Status {
        has_videos = true;
        return parse_video_processor(videos, config.videos);
    };
    GNV_ASSIGN(const bool nested, has_file(folder, processor_file));
    if (nested) {
        GNV_ASSIGN(const JsonDocument document, read(processor_file));
        JsonValue value;
        if (find_value(document.root(), "image_processor", value)) GNV_TRY(take(value));
        if (find_value(document.root(), "video_processor", value)) GNV_TRY(take_videos(value));
    }
    GNV_ASSIGN(const bool videos, has_file(folder, video_file));
    if (videos && !has_videos) {
        GNV_ASSIGN(const JsonDocument document, read(video_file));
        GNV_TRY(take_videos(document.root()));
    }
    GNV_ASSIGN(const bool images, has_file(folder, image_file));
    if (images && (!has_images || !has_videos)) {
        GNV_ASSIGN(const JsonDocument document, read(image_file));
        if (!has_images) GNV_TRY(take(document.root()));
        if (!has_videos) GNV_TRY(take_videos(document.root()));
    }
    if (!has_images)
        return fail(Code::not_found, folder.path(), ": neither ", image_file, " nor an image_processor in ",
                    processor_file, ": this model takes no pictures");
    if (!has_videos) config.videos.frames = config.images; // a nested config of pictures alone
    return config;
}

} // namespace gnv
