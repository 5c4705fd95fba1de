// From pictures to what the vision tower takes: resize, scale, and the order of patches.
//
// pixel_values is F32 [grid.patches(), channels * temporal_patch_size * patch_size * patch_size]. A row is one patch, its
// values in the order channel, frame, y, x. Rows are in the order of merge blocks: for each group of frames, for each block
// of merge_size x merge_size patches (row by row), for each patch of the block (row by row). So the merge_size^2 patches that
// become one token of the text model are neighbours.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "images/image.h"
#include "images/processor_config.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gnv {

// Python's round(): the nearest whole number, half to even.
int64_t round_half_even(double value);

// grid_thw: groups of frames, and rows and columns of patches, both multiples of merge_size.
struct VisionGrid {
    int64_t t = 0, h = 0, w = 0;
    int64_t patches() const { return t * h * w; }
    int64_t tokens(int64_t merge_size) const {
        return patches() / (merge_size * merge_size);
    } // placeholders in the text
    bool operator==(const VisionGrid &) const = default;
};

// What becomes of a picture or of the frames of a video, decided from their size alone.
struct PatchPlan {
    int64_t width = 0, height = 0; // after the resize
    VisionGrid grid;
    uint64_t values(const ImageProcessorConfig & config) const {
        return uint64_t(grid.patches()) * uint64_t(config.patch_values());
    }
};

// The size that the reference's smart_resize gives, with its rounding: half to even, in F64. `name` is for messages.
// Code::unsupported: sides with a ratio above 200; without do_resize: sides that are no multiples of merged_size().
Result<PatchPlan> plan_image(const ImageProcessorConfig & config, int64_t width, int64_t height,
                             const std::string & name);
// The same of `frames` frames; the limits on pixels hold for all of them. A video has two frames at least.
Result<PatchPlan> plan_frames(const ImageProcessorConfig & config, int64_t frames, int64_t width, int64_t height,
                              const std::string & name);

// Writes plan.values(config) floats: pixel_values of a picture, whose frames are all the same.
Status preprocess_image(const ImageProcessorConfig & config, const PatchPlan & plan, const Image & image,
                        float * pixel_values, ThreadPool * pool = nullptr);
// Writes one frame of a video to its places among the same floats, as frames [first, end) of one group: the last frame of a
// video is written as all that fill the last group.
Status preprocess_frame(const ImageProcessorConfig & config, const PatchPlan & plan, const Image & image, int64_t first,
                        int64_t end, float * pixel_values, ThreadPool * pool = nullptr);

// Writes patches [patch, patch + count) of one group of frames from a frame that has been resized, as frames [first, end) of the
// group; `out` is the place of the first of these patches.
void write_patches(const ImageProcessorConfig & config, const Image & frame, int64_t patch, int64_t count,
                   int64_t first, int64_t end, float * out);

// Plan and values in one.
struct PixelValues {
    std::vector<float> values; // [grid.patches(), config.patch_values()]
    VisionGrid grid;
};
Result<PixelValues> preprocess_image(const ImageProcessorConfig & config, const Image & image, const std::string & name,
                                     ThreadPool * pool = nullptr);

} // namespace gnv
