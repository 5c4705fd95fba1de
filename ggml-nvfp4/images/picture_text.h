// Prompts with pictures, as the model's processor writes them.
#pragma once

#include "core/status.h"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

// The tokens of PictureTokens as texts.
struct PictureWords {
    std::string image, video, start, end;
};

struct PictureInText {
    bool is_video = false;
    int64_t placeholders = 0;       // of a frame
    std::vector<std::string> times; // of a video: what the text says before each frame
};

// `text` with a placeholder for each picture, in their order, becomes one with as many as the model needs. A placeholder of a
// video, with start and end around it if they are there, becomes its frames, each with the time before and its own start and
// end. Before a text without any placeholder all pictures come one after another, between start and end. Fails where pictures
// and placeholders do not belong together.
Result<std::string> expand_placeholders(std::string_view text, std::span<const PictureInText> pictures,
                                        const PictureWords & words);

} // namespace gnv
