// What a model's folder says about pictures.
#pragma once

#include "api/text/picture_handle.h"
#include "images/picture_text.h"
#include "images/processor_config.h"

namespace gnv::api {

struct PictureConfig {
    VisionModel vision;
    ProcessorConfig processor;
};

// Code::unsupported: the model has no vision tower. `with_processor`: false leaves the processor's config unread.
Result<PictureConfig> read_picture_config(const std::string & folder, bool with_processor);

// The texts of the tokens. Code::unsupported: config.json lacks one.
Result<PictureWords> picture_words(const Tokenizer & tokenizer, const PictureTokens & tokens);

} // namespace gnv::api
