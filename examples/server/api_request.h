// The body of a request of the OpenAI API, checked.
#pragma once

#include "api_error.h"
#include "prompt_maker.h"
#include "text.h"
#include "tool_calls.h"

namespace server {

struct ModelLimits {
    std::string name; // under which the model is served
    uint64_t capacity = 0, vocabulary = 0;
};

struct ApiRequest {
    TextRequest text;
    bool is_chat = false, streams = false, streams_usage = false;
    Json tools; // null: none
};

// Throw ApiError. Every member must be known and have an effect, or be one that says nothing about the text.
ApiRequest parse_chat(const std::string & body, const ModelLimits & limits, PromptMaker & prompts);
ApiRequest parse_completion(const std::string & body, const ModelLimits & limits, PromptMaker & prompts);

} // namespace server
