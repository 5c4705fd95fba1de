// Pictures that wait for a vision tower: decoded and resized, with 8 bits a channel. Their pixel_values take eight times as much
// memory and are made when the tower runs.
#pragma once

#include "images/decode.h"
#include "images/preprocess.h"
#include "images/video.h"

#include <string>
#include <vector>

namespace gnv {

struct PreparedPicture {
    bool is_video = false;
    PatchPlan plan;
    std::vector<Image> frames;   // of plan.width x plan.height; of an image one, of a video those that are looked at
    std::vector<double> seconds; // of a video: [plan.grid.t], see group_seconds()

    uint64_t bytes() const; // of the frames
};

// What prepare_image() and prepare_video() take at most beside the result, for an image or a frame of this size.
uint64_t memory_to_prepare(uint64_t file_bytes, const ImageInfo & info);

// `image` is used up. Failures are those of plan_image() and plan_video().
Result<PreparedPicture> prepare_image(const ProcessorConfig & config, Image image, const std::string & name,
                                      ThreadPool * pool = nullptr);
// `plan`: of the frames in `folder`.
Result<PreparedPicture> prepare_video(const VideoPlan & plan, const Folder & folder, const ImageLimits & limits = {},
                                      ThreadPool * pool = nullptr);

// The settings of the frames: those of images or of videos.
const ImageProcessorConfig & frame_config(const ProcessorConfig & config, const PreparedPicture & picture);
// Writes patches [first, first + count) of what preprocess_image() and preprocess_video() write.
void write_pixel_values(const ProcessorConfig & config, const PreparedPicture & picture, int64_t first, int64_t count,
                        float * pixel_values);

} // namespace gnv
