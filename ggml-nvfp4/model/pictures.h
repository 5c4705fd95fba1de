// Pictures in a text: what a vision tower is given of them, which rows of a text are theirs, and where its positions are on the
// three axes of time, height and width.
#pragma once

#include "model/sequences.h"
#include "model/vision_model.h"

#include <span>
#include <string>
#include <vector>

namespace gnv {

// An image, or a video. Patches are in the order of the model's processor: frame by frame, in each the squares of merge *
// merge patches row by row, in a square its patches row by row.
struct Picture {
    bool is_video = false;
    int64_t frames = 1; // that patches hold: of an image 1, of a video one for each group of temporal_patch frames
    int64_t rows = 0, columns = 0; // patches of a frame
    GivenRows pixels = {};         // [patches, TextModelSizes::given]

    int64_t patches() const { return frames * rows * columns; }
};

// Fails on extents that the merger does not divide, that are not positive or too large for the numbers of pixels.
Status check_picture(const Picture & picture, size_t number, const VisionModel & vision);
// Placeholders of the picture's kind that a text has for it.
int64_t placeholders_of(const Picture & picture, const VisionModel & vision);

// What the tower is run with: each frame is a segment. The picture has been checked.
TextSequence patches_of(const Picture & picture, const VisionModel & vision);

// Gives `text`, whose ids have a placeholder for each merged patch, its positions, the first of which is `first`, and those at
// which pictures stand: `pictures` in the order of the text, each frame of a video a run of its own.
//
//   text: all three axes count on; a frame that begins at p: time p, height p + row, width p + column of merged patches; the
//   text after it goes on at p + the larger extent
//
// Pixels are not needed. Fails where pictures and placeholders do not belong together. `text.given`, the tower's rows, is the caller's to set.
Status place_pictures(std::span<const Picture> pictures, const VisionModel & vision, TextSequence & text,
                      int32_t first = 0);

} // namespace gnv
