// Greedy answers of one model to many prompts, which it writes together.
#pragma once

#include "canary/question_set.h"
#include "run/device_list.h"
#include "session/text_session.h"

#include <functional>
#include <vector>

namespace gnv::canary {

struct Answer {
    std::vector<int32_t> ids; // without the stop id
    bool capped = false;      // the limit ended it
    bool repeats = false;     // canary/repetition.h
};

struct AnswerOptions {
    int64_t max_tokens = 256;
    uint64_t ram_bytes = 0, device_bytes = 0; // 0: most of the free memory
    int64_t texts_at_once = 0;                // 0: as many as fit; changes only the time
    std::function<void(const std::string & note)> note;
    // Tokens of all answers: those that are written, and the largest number; an answer that ends early counts as complete. False
    // stops the run.
    std::function<bool(int64_t done, int64_t total)> progress;
};

// An answer depends on its prompt and the model alone: not on the prompts beside it, threads or memory. Weights stay in memory if
// they fit; else every token of all texts at once reads them.
Result<std::vector<Answer>> write_answers(const TextVariant & variant, const QuestionSet & questions,
                                          const DeviceList & devices, ThreadPool & threads,
                                          const AnswerOptions & options);

} // namespace gnv::canary
