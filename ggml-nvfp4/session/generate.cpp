#include "session/generate.h"
#include "core/clock.h"

#include "tokenizer/text_stream.h"

#include <algorithm>

namespace gnv {

// Logits of the last position [vocabulary].
static Result<std::vector<float>> run_ids(TextSession & session, std::span<const int32_t> ids) {
    std::vector<float> logits;
    const auto piece_size = size_t(session.piece());
    while (!ids.empty()) {
        const size_t count = ids.size() < 2 * piece_size ? ids.size() : piece_size;
        TextSequence piece;
        piece.ids.assign(ids.begin(), ids.begin() + ptrdiff_t(count));
        GNV_ASSIGN(logits, session.run(piece, {}));
        ids = ids.subspan(count);
    }
    return logits;
}

static std::vector<uint8_t> allowed_ids(const Tokenizer & tokenizer, size_t vocabulary) {
    std::vector<uint8_t> allowed(vocabulary);
    for (size_t id = 0; id < vocabulary; id++) allowed[id] = tokenizer.is_token(int32_t(id));
    return allowed;
}

Result<GenerateResult> generate(TextSession & session, int64_t capacity, const Tokenizer & tokenizer,
                                std::span<const int32_t> prompt, const GenerateOptions & options,
                                const OnToken & on_token) {
    auto start = Clock::now();
    GenerateResult result;
    GNV_ASSIGN(std::vector<float> logits, run_ids(session, prompt));
    const std::vector<uint8_t> allowed = allowed_ids(tokenizer, logits.size());
    Sampler sampler(options.sampling, allowed);
    TextStream text;
    for (;;) {
        GNV_ASSIGN(const int32_t id, sampler.pick(logits));
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
        GNV_ASSIGN(logits, run_ids(session, {&id, 1}));
    }
}

} // namespace gnv
