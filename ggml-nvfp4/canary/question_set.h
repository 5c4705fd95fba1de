// The prompts of a canary as tokens, the same for all models that answer.
#pragma once

#include "core/status.h"
#include "tokenizer/tokenizer.h"

#include <optional>
#include <string>
#include <vector>

namespace gnv::canary {

struct QuestionSet {
    std::vector<std::string> prompts;
    std::vector<std::vector<int32_t>> ids; // of each prompt as the model sees it; at least one
    std::string sha256;                    // of these ids
    bool has_template = false;             // the prompts are messages in the model's chat template
    std::vector<int32_t> stop_ids;         // that end an answer; empty: none is known
    std::optional<Tokenizer> tokenizer;    // always there

    int64_t longest() const; // prompt, in tokens
};

// Everything comes from one folder, that of the source: tokenizer, chat template, stop ids. `thinking`: the template decides; else
// it is told not to let the model think first. A prompt that is not UTF-8 or has no tokens is refused with its number.
Result<QuestionSet> make_questions(const std::string & folder, std::vector<std::string> prompts, bool thinking);

} // namespace gnv::canary
