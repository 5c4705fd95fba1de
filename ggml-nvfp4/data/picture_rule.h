// What a checkpoint says about pictures in records.
#pragma once

#include "images/picture_text.h"
#include "images/processor_config.h"
#include "tokenizer/tokenizer.h"

namespace gnv {

struct PictureRule {
    std::string problem; // why the model takes no pictures; empty: it takes them
    ProcessorConfig processor;
    PictureWords words;                         // of the tokens below
    TokenId image = no_token, video = no_token; // placeholders: one for each merged patch
    TokenId start = no_token, end = no_token;   // around them
    int64_t merge = 1;                          // merge * merge patches are merged
};

} // namespace gnv
