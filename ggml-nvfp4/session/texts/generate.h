// Generation of text: a prompt, then one token after another.
#pragma once

#include "session/sampling/sampler.h"
#include "session/text_session.h"
#include "session/texts/shown_text.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace gnv {

struct GenerateOptions : AnswerLimits {
    SamplerOptions sampling;          // valid
    DraftOptions draft;               // if the session can
    std::vector<int32_t> counted_ids; // of the text so far, the prompt included: for the repetition penalty
    // May change the logits [vocabulary] of the next token; `chosen`: the tokens so far. False ends the text.
    std::function<bool(std::span<float> logits, std::span<const int32_t> chosen)> on_logits = {};
    // As TextSession::Request::on_progress, for the whole prompt; while tokens are chosen both numbers are equal.
    std::function<bool(int64_t done, int64_t total)> on_progress = {};
};

struct GenerateResult {
    int64_t tokens = 0;
    GenerateStop stop = GenerateStop::length;
    size_t stop_text = 0;      // GenerateStop::text: which
    double prompt_seconds = 0; // until the first token was chosen
    double token_seconds = 0;  // for the later tokens
    DraftCounts draft;
    int64_t draft_end = 0; // tokens after which automatic drafting stopped; 0: it did not
};

// False ends the text.
using OnToken = std::function<bool(const GeneratedToken & token)>;

// Goes on from the session's state, with long prompts in the session's pieces; `prompt`, of one segment, fits the caches,
// which hold `capacity` positions. Only ids that are tokens of `tokenizer` are chosen. `chosen` receives them. Afterwards the
// session has seen all but the last token.
Result<GenerateResult> generate(TextSession & session, int64_t capacity, const Tokenizer & tokenizer,
                                const TextSequence & prompt, const GenerateOptions & options, const OnToken & on_token,
                                std::vector<int32_t> & chosen);

// Lets the session's one text go on by `sequence`, in the session's pieces. Logits of the last position [vocabulary]; with
// all_logits those of every position. `request.on_progress` is told of the whole.
Result<std::vector<float>> run_in_pieces(TextSession & session, const TextSequence & sequence,
                                         const TextSession::Request & request);

} // namespace gnv
