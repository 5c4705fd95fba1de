// gnv_model_t, for the calls that run a model.
#pragma once

#include "api/handles.h"
#include "run/device_list.h"
#include "run/open_model.h"
#include "run/tap_list.h"
#include "session/sampling/generation_config.h"
#include "session/text_session.h"
#include "tokenizer/tokenizer.h"

#include <string>
#include <vector>

struct ModelSessions; // api/text/session_handle.h
struct ModelSessionsDelete {
    void operator()(ModelSessions * sessions) const;
};

// A member comes after the members that it uses.
struct gnv_model_t : gnv::api::Owned {
    std::string folder;
    gnv::GenerationConfig generation;
    std::unique_ptr<gnv::OpenModel> open;
    bool quantizes_inputs = false;
    int64_t capacity = 0;    // positions
    gnv::DeviceList devices; // which divide the layers among them
    std::unique_ptr<gnv::TextSession> session;
    std::vector<int32_t> ids;                                     // of the text in the caches; changed by a run() alone
    std::unique_ptr<ModelSessions, ModelSessionsDelete> sessions; // null: the model was opened without
    std::unique_ptr<gnv::Tokenizer> tokenizer;                    // of the folder; loaded when first needed

    std::vector<std::string> tap_names;
    std::vector<gnv::TapInfo>
        taps; // those of the vision tower last; for tap_positions; changed and read under the engine's quick_mutex
    int64_t tap_positions = 0;

    gnv::Precision precision = gnv::Precision::f32;
    gnv::CacheType cache = gnv::CacheType::activations;

    gnv::TextVariant variant(gnv::Precision of) const { return open->variant(of, quantizes_inputs); }
};
