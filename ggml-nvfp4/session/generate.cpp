#include "session/generate.h"

#include "core/clock.h"
#include "tokenizer/text_stream.h"

#include <algorithm>

namespace gnv {

using OnProgress = std::function<bool(int64_t done, int64_t total)>;

using RunPiece = std::function<Status(const TextSequence & piece, const TextSession::Request & request)>;

static Status for_pieces(const TextSession & session, const TextSequence & sequence,
                         const TextSession::Request & request, const RunPiece & run) {
    const int64_t piece_size = session.piece(), all = sequence.length();
    for (int64_t before = 0; before < all;) {
        const int64_t left = all - before, count = left < 2 * piece_size ? left : piece_size;
        TextSession::Request of_piece = request;
        if (request.on_progress)
            of_piece.on_progress = [&](int64_t done, int64_t total) {
                const int64_t groups = total / count;
                return request.on_progress(before * groups + done, all * groups);
            };
        GNV_TRY(run(part_of(sequence, before, count), of_piece));
        before += count;
    }
    return {};
}

Result<std::vector<float>> run_in_pieces(TextSession & session, const TextSequence & sequence,
                                         const TextSession::Request & request) {
    std::vector<float> logits;
    GNV_TRY(for_pieces(session, sequence, request,
                       [&](const TextSequence & piece, const TextSession::Request & of_piece) -> Status {
                           GNV_ASSIGN(std::vector<float> made, session.run(piece, of_piece));
                           if (request.all_logits) {
                               logits.insert(logits.end(), made.begin(), made.end());
                           } else {
                               logits = std::move(made);
                           }
                           return {};
                       }));
    return logits;
}

// The token after `sequence`. Without a draw the device finds the largest logit, and the others stay there.
static Result<int32_t> next_token(TextSession & session, const TextSequence & sequence, const OnProgress & on_progress,
                                  bool draws, Sampler & sampler) {
    TextSession::Request request;
    request.on_progress = on_progress;
    if (draws) {
        GNV_ASSIGN(const std::vector<float> logits, run_in_pieces(session, sequence, request));
        return sampler.pick(logits);
    }
    LargestLogit largest;
    GNV_TRY(for_pieces(session, sequence, request,
                       [&](const TextSequence & piece, const TextSession::Request & of_piece) -> Status {
                           GNV_ASSIGN(const std::vector<LargestLogit> found, session.run_to_largest(piece, of_piece));
                           largest = found.front();
                           return {};
                       }));
    return checked_choice(largest.id, largest.logit);
}

static std::vector<uint8_t> allowed_ids(const Tokenizer & tokenizer, size_t vocabulary) {
    std::vector<uint8_t> allowed(vocabulary);
    for (size_t id = 0; id < vocabulary; id++) allowed[id] = tokenizer.is_token(int32_t(id));
    return allowed;
}

Result<GenerateResult> generate(TextSession & session, int64_t capacity, const Tokenizer & tokenizer,
                                const TextSequence & prompt, const GenerateOptions & options,
                                const OnToken & on_token) {
    auto start = Clock::now();
    GenerateResult result;
    int64_t prompt_total = 0;
    OnProgress on_prompt, on_token_pass;
    if (options.on_progress) {
        on_prompt = [&](int64_t done, int64_t total) { return options.on_progress(done, prompt_total = total); };
        on_token_pass = [&](int64_t, int64_t) { return options.on_progress(prompt_total, prompt_total); };
    }
    const std::vector<uint8_t> allowed = allowed_ids(tokenizer, size_t(session.vocabulary()));
    Sampler sampler(options.sampling, allowed);
    const bool draws = options.sampling.temperature > 0;
    if (!draws) GNV_TRY(session.allow(allowed));
    const auto next = [&](const TextSequence & sequence, const OnProgress & on_progress) {
        return next_token(session, sequence, on_progress, draws, sampler);
    };
    TextStream text;
    TextSequence one;
    for (bool is_first = true;; is_first = false) {
        GNV_ASSIGN(const int32_t id, is_first ? next(prompt, on_prompt) : next(one, on_token_pass));
        if (result.tokens++ == 0) {
            result.prompt_seconds = seconds_since(start);
            start = Clock::now();
        }
        result.token_seconds = seconds_since(start);
        const bool is_stop = std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end();
        bool last = true;
        if (is_stop) {
            result.stop = GenerateStop::id;
        } else if (result.tokens == options.max_tokens) {
            result.stop = GenerateStop::length;
        } else if (session.past() == capacity) {
            result.stop = GenerateStop::capacity;
        } else {
            last = false;
        }
        GNV_ASSIGN(const std::string bytes, tokenizer.decode_bytes({&id, 1}));
        std::string piece = text.push(bytes);
        if (last) piece += text.finish();
        const bool go_on = !on_token || on_token(id, piece, is_stop);
        if (last) return result;
        if (!go_on) {
            result.stop = GenerateStop::callback;
            return result;
        }
        one.ids = {id};
    }
}

} // namespace gnv
