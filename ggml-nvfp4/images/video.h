// Videos: a folder of frames and the rate at which they were taken. A few frames are chosen, evenly over the whole, each
// temporal_patch_size of them become one group of patches, and the text says for each group when it was.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "formats/folder.h"
#include "images/decode.h"
#include "images/preprocess.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace gnv {

// Of a video that does not say how many frames a second has, as the reference takes it.
inline constexpr double default_frame_rate = 24;

struct VideoPlan {
    std::vector<std::string> files; // the frames that are looked at, in the order of time
    std::vector<double> seconds;    // [patches.grid.t]: the middle of each group, from the first frame of the video on
    int64_t frame_width = 0, frame_height = 0; // before the resize
    PatchPlan patches;
};

// The numbers of the frames that are looked at, of `total` frames taken at `frame_rate` a second: the reference's
// round(linspace(0, total - 1, n)), half to even, with n = total / frame_rate * frames_per_second within the config's limits.
std::vector<int64_t> sample_frames(const VideoProcessorConfig & config, int64_t total, double frame_rate);
// The middle of each group of frames with these numbers; a last group that is not full repeats its last frame.
std::vector<double> group_seconds(const VideoProcessorConfig & config, const std::vector<int64_t> & frames,
                                  double frame_rate);
// "<1.5 seconds>": what the text says before the placeholders of a group.
std::string seconds_text(double seconds);

// Every file of the folder is a frame, except those whose name begins with a dot; names are in order as text, numbers in
// them as numbers. Only the header of the first chosen frame is read. Fails, besides as the functions above do, on a folder
// without frames, on files without the ending of a picture, and on a frame rate that is no number above 0.
Result<VideoPlan> plan_video(const VideoProcessorConfig & config, const Folder & folder, double frame_rate,
                             const ImageLimits & limits = {});
// Visits the frames that are looked at; one is in memory at a time. All have the first one's size.
Status for_each_frame(const VideoPlan & plan, const Folder & folder, const ImageLimits & limits,
                      const std::function<Status(size_t index, Image & frame)> & visit);
// Writes frame `index` of `count` to its places among plan.values(config.frames) floats.
Status preprocess_video_frame(const VideoProcessorConfig & config, const PatchPlan & plan, const Image & frame,
                              size_t index, size_t count, float * pixel_values, ThreadPool * pool = nullptr);
// Writes plan.patches.values(config.frames) floats; one frame is in memory at a time. All frames have the first one's size.
Status preprocess_video(const VideoProcessorConfig & config, const VideoPlan & plan, const Folder & folder,
                        float * pixel_values, const ImageLimits & limits = {}, ThreadPool * pool = nullptr);

} // namespace gnv
