// How a checkpoint wants pictures and videos prepared: what Transformers' processors of the Qwen2-VL and Qwen3-VL families
// read from its folder.
#pragma once

#include "core/status.h"
#include "formats/folder.h"
#include "formats/json.h"

#include <array>
#include <cstdint>

namespace gnv {

// Of pictures. The defaults are those of Qwen2VLImageProcessor, for keys that are absent or null.
struct ImageProcessorConfig {
    // Pixels of a picture after its resize; of a video: of all its frames. size.shortest_edge and size.longest_edge, or
    // min_pixels and max_pixels, which win.
    uint64_t min_pixels = 56 * 56, max_pixels = 28 * 28 * 1280;
    int64_t patch_size = 14, temporal_patch_size = 2, merge_size = 2;
    bool do_resize = true, do_rescale = true, do_normalize = true;
    double rescale_factor = 1 / 255.0;
    std::array<double, 3> mean = {0.48145466, 0.4578275, 0.40821073}; // OpenAI's CLIP
    std::array<double, 3> deviation = {0.26862954, 0.26130258, 0.27577711};

    int64_t merged_size() const { return patch_size * merge_size; } // pixels of a token's side
    int64_t patch_values() const { return 3 * temporal_patch_size * patch_size * patch_size; } // a row of pixel_values
};

// Of videos. The defaults are those of Qwen3VLVideoProcessor.
struct VideoProcessorConfig {
    ImageProcessorConfig frames = {.min_pixels = 128 * 32 * 32,
                                   .max_pixels = 32 * 32 * 768,
                                   .patch_size = 16,
                                   .mean = {0.5, 0.5, 0.5},
                                   .deviation = {0.5, 0.5, 0.5}};
    double frames_per_second = 2; // that are looked at
    int64_t min_frames = 4, max_frames = 768;
    bool do_sample_frames = true; // false: every frame is looked at
};

struct ProcessorConfig {
    ImageProcessorConfig images;
    VideoProcessorConfig videos;
};

// From processor_config.json (its members image_processor and video_processor), where that has none from
// preprocessor_config.json and video_preprocessor_config.json; videos without a config of their own take the one of pictures.
// Code::not_found: the folder has no config of pictures, so its model takes none. Code::format and Code::unsupported, with
// file and key: values that make no sense, or that ask for another processor or filter.
Result<ProcessorConfig> read_processor_config(const Folder & folder);

// The members of one such object, over what `config` holds.
Status parse_image_processor(const JsonValue & object, ImageProcessorConfig & config);
Status parse_video_processor(const JsonValue & object, VideoProcessorConfig & config);

} // namespace gnv
