// The eyes of a model: the tower that makes rows of the text model's size of pictures, and how a text says where they go.
#pragma once

#include "model/text_model.h"

#include <cstdint>
#include <memory>

namespace gnv {

// Ids in a text, -1 where config.json names none.
struct PictureTokens {
    int32_t image = -1, video = -1; // placeholders: one for each merged patch of a picture
    int32_t start = -1, end = -1;   // around the placeholders
};

struct VisionModel {
    std::unique_ptr<TextModel> tower; // null: the model has none
    int64_t merge = 0;                // a row of the tower's is made of merge * merge patches
    PictureTokens tokens;
};

// What config.json describes. Defined in models/registry.cpp.
Result<VisionModel> make_vision_model(const JsonValue & config);

} // namespace gnv
