#include "images/preprocess.h"

#include "images/resize.h"
#include "images/strips.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace gnv {

namespace {

constexpr double max_aspect = 200;

Status check_aspect(int64_t width, int64_t height, const std::string & name) {
    if (width <= 0 || height <= 0)
        return fail(Code::invalid_argument, name, ": a picture of ", width, " x ", height, " pixels");
    if (double(std::max(width, height)) / double(std::min(width, height)) > max_aspect)
        return fail(Code::unsupported, name, ": a picture of ", width, " x ", height,
                    " pixels: one side is more than 200 times the other; cut it, or leave it out");
    return {};
}

// A size and a number of frames to a grid.
Result<PatchPlan> make_plan(const ImageProcessorConfig & config, int64_t groups, int64_t width, int64_t height,
                            const std::string & name) {
    const int64_t step = config.merged_size();
    if (width < step || height < step || width % step || height % step)
        return fail(Code::unsupported, name, ": ", width, " x ", height, " pixels are no multiples of ", step,
                    ", and the processor's config forbids a resize (do_resize)");
    return PatchPlan{width, height, {groups, height / config.patch_size, width / config.patch_size}};
}

// The F32 of every level of a channel, computed as the reference does: rescale and normalize in one step, in F32.
using LevelTable = std::array<std::array<float, 256>, 3>;

LevelTable make_levels(const ImageProcessorConfig & config) {
    LevelTable table;
    const float unit = config.do_rescale ? float(1 / config.rescale_factor) : 1.0f;
    for (size_t c = 0; c < 3; c++) {
        const float mean = float(config.mean[c]) * unit, deviation = float(config.deviation[c]) * unit;
        for (size_t level = 0; level < 256; level++) {
            const float value = float(level);
            table[c][level] = config.do_normalize ? (value - mean) / deviation
                              : config.do_rescale ? value * float(config.rescale_factor)
                                                  : value;
        }
    }
    return table;
}

// One row of merge blocks of one frame. `out`: the first patch of that row.
void write_block_row(const ImageProcessorConfig & config, const LevelTable & levels, const Image & image, int64_t row,
                     int64_t frame, float * out) {
    const int64_t size = config.patch_size, merge = config.merge_size, plane = size * size;
    const int64_t columns = image.width / size;
    for (int64_t block = 0; block < columns / merge; block++) {
        for (int64_t a = 0; a < merge; a++) {
            for (int64_t b = 0; b < merge; b++, out += config.patch_values()) {
                for (int64_t y = 0; y < size; y++) {
                    const int64_t from = ((row * merge + a) * size + y) * image.width + (block * merge + b) * size;
                    const uint8_t * const pixels = image.rgb.data() + from * 3;
                    for (int64_t c = 0; c < 3; c++) {
                        const float * const table = levels[size_t(c)].data();
                        float * const values = out + (c * config.temporal_patch_size + frame) * plane + y * size;
                        for (int64_t x = 0; x < size; x++) values[x] = table[pixels[3 * x + c]];
                    }
                }
            }
        }
    }
}

} // namespace

int64_t round_half_even(double value) { // std::nearbyint depends on the mode of the processor
    const double below = std::floor(value), rest = value - below;
    const int64_t down = int64_t(below);
    if (rest != 0.5) return rest < 0.5 ? down : down + 1;
    return down % 2 == 0 ? down : down + 1;
}

Result<PatchPlan> plan_image(const ImageProcessorConfig & config, int64_t width, int64_t height, const std::string & name) {
    GNV_TRY(check_aspect(width, height, name));
    if (!config.do_resize) return make_plan(config, 1, width, height, name);
    const int64_t step = config.merged_size();
    const double h = double(height), w = double(width), f = double(step);
    int64_t rows = round_half_even(h / f), columns = round_half_even(w / f);
    const double pixels = double(rows * step) * double(columns * step);
    if (pixels > double(config.max_pixels)) {
        const double shrink = std::sqrt(h * w / double(config.max_pixels));
        rows = std::max(int64_t(1), int64_t(std::floor(h / shrink / f)));
        columns = std::max(int64_t(1), int64_t(std::floor(w / shrink / f)));
    } else if (pixels < double(config.min_pixels)) {
        const double grow = std::sqrt(double(config.min_pixels) / (h * w));
        rows = int64_t(std::ceil(h * grow / f));
        columns = int64_t(std::ceil(w * grow / f));
    }
    return make_plan(config, 1, columns * step, rows * step, name);
}

Result<PatchPlan> plan_frames(const ImageProcessorConfig & config, int64_t frames, int64_t width, int64_t height,
                              const std::string & name) {
    const int64_t group = config.temporal_patch_size, step = config.merged_size();
    if (frames < group)
        return fail(Code::unsupported, name, ": a video has ", group, " frames at least, and this one ", frames,
                    "; take it as a picture");
    const int64_t groups = (frames + group - 1) / group;
    GNV_TRY(check_aspect(width, height, name));
    if (!config.do_resize) return make_plan(config, groups, width, height, name);
    if (height < step || width < step) {
        const double grow = std::max(double(step) / double(height), double(step) / double(width));
        height = int64_t(double(height) * grow), width = int64_t(double(width) * grow);
    }
    const double h = double(height), w = double(width), f = double(step), count = double(frames);
    int64_t rows = round_half_even(h / f), columns = round_half_even(w / f);
    const int64_t rounded = round_half_even(count / double(group)) * group;
    const double pixels = double(rounded) * double(rows * step) * double(columns * step);
    if (pixels > double(config.max_pixels)) {
        const double shrink = std::sqrt(count * h * w / double(config.max_pixels));
        rows = std::max(int64_t(1), int64_t(std::floor(h / shrink / f)));
        columns = std::max(int64_t(1), int64_t(std::floor(w / shrink / f)));
    } else if (pixels < double(config.min_pixels)) {
        const double grow = std::sqrt(double(config.min_pixels) / (count * h * w));
        rows = int64_t(std::ceil(h * grow / f));
        columns = int64_t(std::ceil(w * grow / f));
    }
    return make_plan(config, groups, columns * step, rows * step, name);
}

Status preprocess_frame(const ImageProcessorConfig & config, const PatchPlan & plan, const Image & image, int64_t first,
                        int64_t end, float * pixel_values, ThreadPool * pool) {
    Image resized;
    if (image.width != plan.width || image.height != plan.height) {
        GNV_ASSIGN(resized, resize_bicubic(image, plan.width, plan.height, pool));
    }
    const Image & picture = resized.rgb.empty() ? image : resized;
    const LevelTable levels = make_levels(config);
    const int64_t merge = config.merge_size, row_values = plan.grid.w * merge * config.patch_values();
    return for_strips(pool, plan.grid.h / merge, 1, [&](int64_t row) {
        for (int64_t frame = first; frame < end; frame++) {
            const int64_t group = frame / config.temporal_patch_size, place = frame % config.temporal_patch_size;
            float * const out = pixel_values + (group * (plan.grid.h / merge) + row) * row_values;
            write_block_row(config, levels, picture, row, place, out);
        }
    });
}

Status preprocess_image(const ImageProcessorConfig & config, const PatchPlan & plan, const Image & image,
                        float * pixel_values, ThreadPool * pool) {
    return preprocess_frame(config, plan, image, 0, config.temporal_patch_size, pixel_values, pool);
}

Result<PixelValues> preprocess_image(const ImageProcessorConfig & config, const Image & image, const std::string & name,
                                     ThreadPool * pool) {
    GNV_ASSIGN(const PatchPlan plan, plan_image(config, image.width, image.height, name));
    PixelValues out;
    GNV_TRY(guard_exceptions([&]() -> Status {
        out.values.resize(plan.values(config));
        return preprocess_image(config, plan, image, out.values.data(), pool);
    }));
    out.grid = plan.grid;
    return out;
}

} // namespace gnv
