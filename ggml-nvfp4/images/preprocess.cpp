#include "images/preprocess.h"

#include "images/resize.h"
#include "images/strips.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

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

struct Size {
    int64_t width, height;
};
struct Sides {
    double w, h;
};

// The multiples of the size of a token next to `sides`; where the limits forbid them, the largest or smallest with about the
// same ratio that they allow. A video has `frames` frames, and counts as `rounded` ones against the limits.
Size fit(Sides sides, double frames, double rounded, const ImageProcessorConfig & config) {
    const int64_t step = config.merged_size();
    const double f = double(step), most = double(config.max_pixels), least = double(config.min_pixels);
    int64_t columns = round_half_even(sides.w / f), rows = round_half_even(sides.h / f);
    const double pixels = rounded * double(rows * step) * double(columns * step);
    if (pixels > most) {
        const double shrink = std::sqrt(frames * sides.h * sides.w / most);
        columns = std::max(int64_t(1), int64_t(std::floor(sides.w / shrink / f)));
        rows = std::max(int64_t(1), int64_t(std::floor(sides.h / shrink / f)));
    } else if (pixels < least) {
        const double grow = std::sqrt(least / (frames * sides.h * sides.w));
        columns = int64_t(std::ceil(sides.w * grow / f));
        rows = int64_t(std::ceil(sides.h * grow / f));
    }
    return {columns * step, rows * step};
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

// Patches [patch, patch + count) of a group, as its frames [first, end).
void write_levels(const ImageProcessorConfig & config, const LevelTable & levels, const Image & image, int64_t patch,
                  int64_t count, int64_t first, int64_t end, float * out) {
    const int64_t size = config.patch_size, merge = config.merge_size, plane = size * size;
    const int64_t of_row = image.width / config.merged_size() * merge * merge; // patches of a row of merge blocks
    for (const int64_t last = patch + count; patch < last; patch++, out += config.patch_values()) {
        const int64_t row = patch / of_row, i = patch % of_row;
        const int64_t block = i / (merge * merge), a = i / merge % merge, b = i % merge;
        const int64_t top = (row * merge + a) * size, left = (block * merge + b) * size;
        for (int64_t c = 0; c < 3; c++) {
            const float * const table = levels[size_t(c)].data();
            float * const values = out + (c * config.temporal_patch_size + first) * plane;
            for (int64_t y = 0; y < size; y++) {
                const uint8_t * const pixels = image.rgb.data() + ((top + y) * image.width + left) * 3 + c;
                for (int64_t x = 0; x < size; x++) values[y * size + x] = table[pixels[3 * x]];
            }
            for (int64_t copy = 1; copy < end - first; copy++)
                memcpy(values + copy * plane, values, size_t(plane) * sizeof(float));
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

Result<PatchPlan> plan_image(const ImageProcessorConfig & config, int64_t width, int64_t height,
                             const std::string & name) {
    GNV_TRY(check_aspect(width, height, name));
    if (!config.do_resize) return make_plan(config, 1, width, height, name);
    const Size size = fit({double(width), double(height)}, 1, 1, config);
    return make_plan(config, 1, size.width, size.height, name);
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
    double w = double(width), h = double(height);
    if (height < step || width < step) {
        const double grow = std::max(double(step) / h, double(step) / w);
        w = std::floor(w * grow), h = std::floor(h * grow);
    }
    const int64_t rounded = round_half_even(double(frames) / double(group)) * group;
    const Size size = fit({w, h}, double(frames), double(rounded), config);
    return make_plan(config, groups, size.width, size.height, name);
}

Status preprocess_frame(const ImageProcessorConfig & config, const PatchPlan & plan, const Image & image, int64_t first,
                        int64_t end, float * pixel_values, ThreadPool * pool) {
    Image resized;
    if (image.width != plan.width || image.height != plan.height) {
        GNV_ASSIGN(resized, resize_bicubic(image, plan.width, plan.height, pool));
    }
    const Image & picture = resized.rgb.empty() ? image : resized;
    const LevelTable levels = make_levels(config);
    const int64_t rows = plan.grid.h / config.merge_size, places = config.temporal_patch_size;
    const int64_t of_row = plan.grid.w * config.merge_size, group = first / places;
    GNV_CHECK(first < end && (end - 1) / places == group);
    return for_strips(pool, rows, 1, [&](int64_t row) {
        float * const out = pixel_values + (group * rows + row) * of_row * config.patch_values();
        write_levels(config, levels, picture, row * of_row, of_row, first % places, first % places + end - first, out);
    });
}

void write_patches(const ImageProcessorConfig & config, const Image & frame, int64_t patch, int64_t count,
                   int64_t first, int64_t end, float * out) {
    write_levels(config, make_levels(config), frame, patch, count, first, end, out);
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
