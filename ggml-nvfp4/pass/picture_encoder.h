// What the vision tower makes of pictures: a row of the text model's size for each square of patches.
#pragma once

#include "core/budget.h"
#include "model/pictures.h"
#include "run/stage_runner.h"

#include <functional>
#include <span>
#include <vector>

namespace gnv {

struct PictureOptions {
    Budget host, device;        // as PassOptions has them
    OnTap on_tap = {};          // of each batch of pictures, in their order; host memory, F32
    std::vector<Tap> taps = {}; // those that it sees; empty: all
    std::function<bool(int64_t done, int64_t total)> on_progress = {}; // positions, as TextSession::Request has them
};

// Fails as encode_pictures() would for want of memory; `pictures` need no pixels, and nothing runs.
Status plan_encoding(const VisionModel & vision, const TextVariant & tower, Backend & device, ThreadPool & threads,
                     std::span<const Picture> pictures, const PictureOptions & options);

// Writes [placeholders of all pictures, hidden of the text model] to `rows`, picture by picture. Weights are read once for all
// of them and stay no longer than the call, pixels that a function writes exist for a batch at a time; what comes out of a
// picture depends on nothing but the picture.
Status encode_pictures(const VisionModel & vision, const TextVariant & tower, Backend & device, ThreadPool & threads,
                       std::span<const Picture> pictures, const PictureOptions & options, std::span<float> rows);
// The same in memory of the result.
Result<std::vector<float>> encode_pictures(const VisionModel & vision, const TextVariant & tower, Backend & device,
                                           ThreadPool & threads, std::span<const Picture> pictures,
                                           const PictureOptions & options);

} // namespace gnv
