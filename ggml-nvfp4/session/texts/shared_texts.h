// Texts that share a session: each is fed with ids, and a step lets some of them go on together. Texts join and leave between
// steps; a prompt runs in pieces beside texts that go on by one position.
//
//   feed(a, 1000 ids)  feed(b, 1 id)  feed(c, 1 id)
//   step: [b c] by one position each; [a] by a piece
//   step: [a] by the next piece ...                        until no id waits: results of the last position
//
// What a text gives depends on its own feeds alone: not on other texts, on the order in which they join and leave, or on the
// steps that its ids were divided into. Pieces end at multiples of 64 of the feed and none of a longer feed is a single
// position, so each position has the bits that it has in one pass.
#pragma once

#include "session/text_session.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace gnv {

struct FedText {              // what was fed, and its results
    std::vector<int32_t> fed; // the last feed
    size_t done = 0;          // of its ids
    TextWant want = TextWant::none;
    IsEnough is_enough; // for TextWant::pick, until no id waits
    Draw draw;          // for TextWant::draw
    uint64_t turn = 0;  // texts that were fed earlier go on first

    // Of the last position, when no id waits.
    TextWant has = TextWant::none;
    LargestLogit largest;       // or what was drawn
    std::vector<float> numbers; // logits or the embedding
    SomeLogits some;

    int64_t waiting() const { return int64_t(fed.size() - done); }
};

struct SharedText : FedText {
    PooledText state;
    PooledText head;                  // of the draft head's caches, where texts may draft
    std::unique_ptr<TextDraft> draft; // null: it does not draft
};

class SharedTexts {
  public:
    // The session has a pool and outlives this.
    explicit SharedTexts(TextSession & session) : session_(session) {}

    Result<std::unique_ptr<SharedText>> open();
    void close(SharedText & text);

    // The ids that come next, at least one, and what their last position is to give. Takes the room for them. Refused, without any
    // change: an id outside the vocabulary, ids that wait, a text longer than its caches, and Code::out_of_memory when all
    // texts together have too many positions.
    Status feed(SharedText & text, std::span<const int32_t> ids, TextWant want, IsEnough is_enough = {},
                const Draw & draw = {});

    // From now on `draft.tokens` guesses at a time, up to most_drafts; 0: none. The text stays the same, and a feed of one id that was
    // guessed has its result at once: no id waits. Code::unsupported: the session was opened without; Code::out_of_memory: as many
    // texts as may draft do already.
    Status draft(SharedText & text, const DraftOptions & draft);

    struct Step {
        int64_t texts = 0, positions = 0; // that went on, and by how many positions
        int64_t waiting = 0;              // ids of the texts that wait for the next step
    };
    // One pass over the texts that wait for one position, and one over longer pieces. Of a pass that fails, and of one that
    // `on_progress` stops, all texts return to their start and their ids are dropped; others stay as they are.
    // `on_progress`: positions, summed over groups of weights; false gives Code::cancelled.
    Result<Step> step(std::span<SharedText * const> texts,
                      const std::function<bool(int64_t done, int64_t total)> & on_progress);

    // A copy that goes on by itself, without drafting until that is asked for. Full pages of the caches are shared. Refused while
    // ids wait. What was guessed for the text is forgotten.
    Result<std::unique_ptr<SharedText>> copy(SharedText & text);
    // `text` becomes as `from` is, and drafts as before: to go back, copy a text where it may go back to. Gated DeltaNet's state has
    // no past.
    Status assign(SharedText & text, SharedText & from);
    void restart(SharedText & text); // to its start, without ids

    // The state of a text as bytes, with a checksum and what tells the model (`identity`); and a new text of them, or
    // Code::format (damaged), Code::model (another model) and nothing taken. Results of the last position
    // and what the draft head has seen are not part of it.
    uint64_t saved_bytes(const SharedText & text) const;
    uint64_t most_saved_bytes() const; // of any text
    Result<std::string> save(SharedText & text, const std::string & identity);
    Result<std::unique_ptr<SharedText>> restore(std::span<const uint8_t> bytes, const std::string & identity);

  private:
    void open_head(SharedText & text);
    void copy_head(SharedText & to, const SharedText & from);
    Status run(std::span<SharedText * const> texts, std::span<const int64_t> counts,
               const std::function<bool(int64_t done, int64_t total)> & on_progress);
    TextSession & session_;
    uint64_t turn_ = 0;
};

} // namespace gnv
