#include "session/texts/generate.h"

#include "core/clock.h"

#include <algorithm>
#include <optional>

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

// What run(piece, request) gives for the last piece.
template <class Value, class Run>
static Result<Value> run_to_last(TextSession & session, const TextSequence & sequence,
                                 const TextSession::Request & request, const Run & run) {
    Value last;
    GNV_TRY(for_pieces(session, sequence, request,
                       [&](const TextSequence & piece, const TextSession::Request & of_piece) -> Status {
                           GNV_ASSIGN(last, run(piece, of_piece));
                           return {};
                       }));
    return last;
}

// The token after `sequence`, or none if the caller's function ends the text. What the choice does not need of the logits stays on
// the device.
static Result<std::optional<int32_t>> next_token(TextSession & session, const TextSequence & sequence,
                                                 const OnProgress & on_progress, int64_t drafts,
                                                 const GenerateOptions & options, Sampler & sampler,
                                                 std::span<const int32_t> chosen) {
    TextSession::Request request;
    request.drafts = drafts;
    request.on_progress = on_progress;
    const auto id_of = [](Result<int32_t> id) -> Result<std::optional<int32_t>> {
        if (!id.ok()) return id.take_status();
        return std::optional(id.value());
    };
    const auto all_logits = [&]() -> Result<std::optional<int32_t>> {
        GNV_ASSIGN(std::vector<float> logits, run_in_pieces(session, sequence, request));
        if (options.on_logits && !options.on_logits(logits, chosen)) return std::optional<int32_t>();
        return id_of(sampler.pick(logits));
    };
    if (options.on_logits) return all_logits();
    if (sampler.takes_largest()) {
        GNV_ASSIGN(const std::vector<LargestLogit> found,
                   run_to_last<std::vector<LargestLogit>>(session, sequence, request,
                                                          [&](const auto & piece, const auto & of_piece) {
                                                              return session.run_to_largest(piece, of_piece);
                                                          }));
        return id_of(checked_choice(found.front().id, double(found.front().logit)));
    }
    if (const std::optional<Draw> draw = sampler.next_draw(); draw && drafts < 0) {
        GNV_ASSIGN(
            const LargestLogit drawn,
            run_to_last<LargestLogit>(session, sequence, request, [&](const auto & piece, const auto & of_piece) {
                return session.run_to_draw(piece, of_piece, *draw);
            }));
        return id_of(sampler.drawn(drawn.id, drawn.logit));
    }
    if (sampler.may_pick_from_largest()) {
        const IsEnough is_enough = [&](const SomeLogits & found) { return sampler.is_enough(found); };
        GNV_ASSIGN(const SomeLogits some,
                   run_to_last<SomeLogits>(session, sequence, request, [&](const auto & piece, const auto & of_piece) {
                       return session.run_to_pick(piece, of_piece, is_enough);
                   }));
        return id_of(sampler.pick(some));
    }
    return all_logits();
}

static std::vector<uint8_t> allowed_ids(const Tokenizer & tokenizer, size_t vocabulary) {
    std::vector<uint8_t> allowed(vocabulary);
    for (size_t id = 0; id < vocabulary; id++) allowed[id] = tokenizer.is_token(int32_t(id));
    return allowed;
}

Result<GenerateResult> generate(TextSession & session, int64_t capacity, const Tokenizer & tokenizer,
                                const TextSequence & prompt, const GenerateOptions & options, const OnToken & on_token,
                                std::vector<int32_t> & chosen) {
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
    sampler.count_prompt(options.counted_ids);
    if (sampler.may_pick_from_largest() || sampler.next_draw() || options.draft.tokens > 0)
        GNV_TRY(session.allow(allowed));
    DraftPlan drafts(options.draft);
    session.begin_drafting();
    const auto finish = [&](GenerateStop stop) {
        result.stop = stop;
        result.draft = session.draft_counts();
        result.draft_end = drafts.end();
        return std::move(result);
    };
    ShownText shown(tokenizer, options);
    TextSequence one;
    for (bool is_first = true;; is_first = false) {
        const int64_t left = options.max_tokens > 0 ? options.max_tokens - result.tokens - 1 : most_drafts;
        GNV_ASSIGN(const std::optional<int32_t> id,
                   next_token(session, is_first ? prompt : one, is_first ? on_prompt : on_token_pass,
                              drafts.next(session.draft_counts(), result.tokens, left), options, sampler, chosen));
        if (is_first) result.prompt_seconds = seconds_since(start);
        if (is_first) start = Clock::now();
        result.token_seconds = seconds_since(start);
        if (!id) return finish(GenerateStop::callback);
        chosen.push_back(*id);
        GNV_ASSIGN(const GeneratedToken token, shown.push(*id, session.past() == capacity));
        result.tokens = shown.tokens();
        result.stop_text = token.stop_text;
        const bool goes_on = !on_token || on_token(token);
        if (token.end) return finish(*token.end);
        if (!goes_on) return finish(GenerateStop::callback);
        one.ids = {token.id};
    }
}

} // namespace gnv
