// gnv_tokenizer_t, for the calls that take one.
#pragma once

#include "api/handles.h"
#include "chat/chat_template.h"
#include "tokenizer/tokenizer.h"

#include <atomic>
#include <optional>

struct gnv_tokenizer_t : gnv::api::Owned {
    gnv::Tokenizer tokenizer;
    gnv::Encoder encoder;
    gnv::StopCheck stop;                            // of encoding; changed by a run() alone
    std::vector<gnv::TokenId> ids;                  // of the last encode
    std::atomic<bool> calls_back{false};            // whether there is a stop: encoding is a run() then
    std::string folder;                             // of tokenizer.json
    std::optional<gnv::ChatTemplate> chat_template; // of that folder, once it is asked for; changed by a call() alone
};
