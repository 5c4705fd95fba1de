// generation_config.json: the sampling parameters of a checkpoint, and the tokens that end a text.
#pragma once

#include "core/status.h"
#include "formats/json.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gnv {

inline constexpr const char * generation_config_name = "generation_config.json";

// Absent keys and null keep the defaults of the Transformers library.
struct GenerationConfig {
    bool do_sample = false;
    double temperature = 1;
    int64_t top_k = 50;
    double top_p = 1;
    double min_p = 0;
    double repetition_penalty = 1;
    std::vector<int32_t> stop_ids; // eos_token_id: one or a list
};

// Values of other types, or out of range, are failures that name file and key. Unknown keys are ignored.
Result<GenerationConfig> parse_generation_config(const JsonValue & root);
// Of a model folder; the defaults without such a file.
Result<GenerationConfig> read_generation_config(const std::string & folder);

} // namespace gnv
