#include "images/video.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace gnv {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Length of the digits at `at`, zeros in front left out: `at` moves behind them.
size_t skip_zeros_and_count(const std::string & text, size_t & at) {
    while (at < text.size() && text[at] == '0') at++;
    size_t end = at;
    while (end < text.size() && is_digit(text[end])) end++;
    return end - at;
}

// frame2 before frame10.
bool is_before(const std::string & a, const std::string & b) {
    size_t i = 0, j = 0;
    while (i < a.size() && j < b.size()) {
        if (!is_digit(a[i]) || !is_digit(b[j])) {
            if (a[i] != b[j]) return uint8_t(a[i]) < uint8_t(b[j]);
            i++, j++;
            continue;
        }
        const size_t m = skip_zeros_and_count(a, i), n = skip_zeros_and_count(b, j);
        if (m != n) return m < n;
        const int order = a.compare(i, m, b, j, n);
        if (order != 0) return order < 0;
        i += m, j += n;
    }
    const size_t left = a.size() - i, right = b.size() - j;
    return left != right ? left < right : a < b; // the latter: numbers with zeros in front
}

bool has_picture_ending(std::string name) {
    for (char & c : name)
        if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
    for (const char * const ending : {".png", ".jpg", ".jpeg", ".webp"})
        if (ends_with(name, ending)) return true;
    return false;
}

Result<std::vector<std::string>> list_frames(const Folder & folder) {
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, folder.list());
    std::vector<std::string> names;
    for (const DirectoryEntry & entry : entries) {
        if (starts_with(entry.name, ".")) continue;
        if (entry.is_directory || !has_picture_ending(entry.name))
            return fail(Code::format, join_path(folder.path(), entry.name),
                        ": no frame: a video is a folder of .png, .jpg, .jpeg and .webp files and of nothing else");
        names.push_back(entry.name);
    }
    std::sort(names.begin(), names.end(), is_before);
    return names;
}

Result<std::string> read_frame(const Folder & folder, const std::string & file, const ImageLimits & limits) {
    return read_file(folder, file, limits.max_file_bytes);
}

} // namespace

std::vector<int64_t> sample_frames(const VideoProcessorConfig & config, int64_t total, double frame_rate) {
    const double wanted = double(total) / frame_rate * config.frames_per_second;
    int64_t count = wanted < double(config.max_frames) ? int64_t(wanted) : config.max_frames;
    count = std::min({std::max(count, config.min_frames), config.max_frames, total});
    if (!config.do_sample_frames) count = total;
    std::vector<int64_t> frames;
    const double step = count > 1 ? double(total - 1) / double(count - 1) : 0;
    for (int64_t i = 0; i < count; i++) {
        const double at = i > 0 && i == count - 1 ? double(total - 1) : double(i) * step;
        frames.push_back(round_half_even(at));
    }
    return frames;
}

std::vector<double> group_seconds(const VideoProcessorConfig & config, const std::vector<int64_t> & frames,
                                  double frame_rate) {
    const size_t group = size_t(config.frames.temporal_patch_size);
    std::vector<double> seconds;
    for (size_t first = 0; first < frames.size(); first += group) {
        const size_t last = std::min(first + group, frames.size()) - 1;
        seconds.push_back((double(frames[first]) / frame_rate + double(frames[last]) / frame_rate) / 2);
    }
    return seconds;
}

std::string seconds_text(double seconds) {
    char text[64];
    snprintf(text, sizeof text, "<%.1f seconds>", seconds);
    return text;
}

Result<VideoPlan> plan_video(const VideoProcessorConfig & config, const Folder & folder, double frame_rate,
                             const ImageLimits & limits) {
    if (!(frame_rate > 0 && std::isfinite(frame_rate)))
        return fail(Code::invalid_argument, folder.path(), ": ", frame_rate,
                    " frames a second: expected a number above 0");
    VideoPlan plan;
    GNV_TRY(guard_exceptions([&]() -> Status {
        GNV_ASSIGN(const std::vector<std::string> names, list_frames(folder));
        if (names.empty()) return fail(Code::format, folder.path(), ": a video without frames");
        const std::vector<int64_t> frames = sample_frames(config, int64_t(names.size()), frame_rate);
        for (const int64_t frame : frames) plan.files.push_back(names[size_t(frame)]);
        plan.seconds = group_seconds(config, frames, frame_rate);
        GNV_ASSIGN(const std::string bytes, read_frame(folder, plan.files[0], limits));
        GNV_ASSIGN(const ImageInfo info, read_image_info(bytes, join_path(folder.path(), plan.files[0]), limits));
        GNV_ASSIGN(plan.patches,
                   plan_frames(config.frames, int64_t(frames.size()), info.width, info.height, folder.path()));
        plan.frame_width = info.width, plan.frame_height = info.height;
        return {};
    }));
    return plan;
}

Status for_each_frame(const VideoPlan & plan, const Folder & folder, const ImageLimits & limits,
                      const std::function<Status(size_t index, Image & frame)> & visit) {
    for (size_t i = 0; i < plan.files.size(); i++) {
        const std::string name = join_path(folder.path(), plan.files[i]);
        GNV_ASSIGN(const std::string bytes, read_frame(folder, plan.files[i], limits));
        GNV_ASSIGN(Image image, decode_image(bytes, name, limits));
        if (image.width != plan.frame_width || image.height != plan.frame_height)
            return fail(Code::format, name, ": a frame of ", image.width, " x ", image.height, " pixels in a video of ",
                        plan.frame_width, " x ", plan.frame_height);
        GNV_TRY(visit(i, image));
    }
    return {};
}

Status preprocess_video_frame(const VideoProcessorConfig & config, const PatchPlan & plan, const Image & frame,
                              size_t index, size_t count, float * pixel_values, ThreadPool * pool) {
    const int64_t filled = plan.grid.t * config.frames.temporal_patch_size;
    const int64_t end = index + 1 == count ? filled : int64_t(index) + 1;
    return preprocess_frame(config.frames, plan, frame, int64_t(index), end, pixel_values, pool);
}

Status preprocess_video(const VideoProcessorConfig & config, const VideoPlan & plan, const Folder & folder,
                        float * pixel_values, const ImageLimits & limits, ThreadPool * pool) {
    return for_each_frame(plan, folder, limits, [&](size_t index, Image & frame) {
        return preprocess_video_frame(config, plan.patches, frame, index, plan.files.size(), pixel_values, pool);
    });
}

} // namespace gnv
