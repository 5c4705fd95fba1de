// What a gnv_tokenizer_t is: needed by every call that takes one.
#pragma once

#include "api/handles.h"
#include "tokenizer/tokenizer.h"

#include <atomic>

struct gnv_tokenizer_t : gnv::api::Owned {
    gnv::Tokenizer tokenizer;
    gnv::Encoder encoder;
    gnv::StopCheck stop;                 // of encoding; changed by a run() alone
    std::vector<gnv::TokenId> ids;       // of the last encode
    std::atomic<bool> calls_back{false}; // whether there is a stop: encoding is a run() then
};
