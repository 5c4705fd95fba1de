// A text model with caches, called again and again: generation, and forward passes over single texts. Weights stay in
// the memory of the device if they fit the budget; else they stream group by group in each call. Several devices divide the
// layers among them: each keeps the weights and caches of consecutive ones, and hidden states go from one to the next.
#pragma once

#include "run/draft_inputs.h"
#include "session/text_draft.h"
#include "session/text_pool.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace gnv {

struct SessionLoad { // of weights that stay
    uint64_t bytes = 0, bytes_total = 0, groups = 0, groups_total = 0;
};

struct SessionOptions {
    int64_t segments = 1, capacity = 0; // texts at once, of at most so many positions each
    uint64_t ram_bytes = 0;             // for weights and caches; 0: most of the free memory
    // Of a device with memory of its own, for everything; host memory is then for weights on their way. 0: most of its
    // free memory.
    uint64_t device_bytes = 0; // of each of several devices
    // Called before weights are read, after each group, and while a device's are awaited; false gives Code::cancelled.
    std::function<bool(const SessionLoad &)> on_load = {};
    // Texts beside those above which share one memory (session/text_pool.h): how many at once, and their positions together. Each
    // holds up to `capacity`.
    int64_t pool_texts = 0, pool_positions = 0;
    // The draft head of the model, for drafting; null: without. Of one segment, on one device with Backend::runs_as_steps(), with
    // weights that stay.
    const TextModel * draft = nullptr;
    CacheType cache = CacheType::activations; // of all texts, and of the draft head
    int64_t pool_drafts = 0;                  // texts of the pool that draft at once, with `draft`
};

// What a pass makes of the last position of a text.
enum class TextWant : uint8_t {
    none,
    largest,   // the largest logit of those that are allowed
    logits,    // [vocabulary]
    pick,      // as many of the largest logits as a choice takes, or all
    draw,      // the token that a draw from all that are allowed gives
    embedding, // the normed hidden state that logits are made of [H]
};

// How a text of the pool goes on in a pass.
struct TextTurn {
    PooledText * text = nullptr; // which has room
    std::span<const int32_t> ids;
    TextWant want = TextWant::none;
    LargestLogit * largest = nullptr;       // receives it, or what was drawn
    std::vector<float> * numbers = nullptr; // receives logits or the embedding
    SomeLogits * some = nullptr;            // receives what TextWant::pick asks for
    IsEnough is_enough = {};                // for it
    Draw draw = {};                         // for TextWant::draw
    // Of a text that drafts; null: it does not. A turn of one id then may run with guesses, and leaves their results in `draft`.
    TextDraft * draft = nullptr;
    PooledText * head = nullptr; // its draft head's
    int32_t next_id = -1;        // behind `ids`, if that is known
};

// What lies on one of several devices.
struct SessionShare {
    std::string device; // its label
    int32_t first_layer = 0, layers = 0;
    bool embeds = false, has_head = false;
    uint64_t weight_bytes = 0, used = 0, budget = 0; // used: weights, caches and the rest
};

class TextSession {
  public:
    // Fails if a budget is too small, with the smallest sufficient one, and if the device cannot run the model. Weights must
    // stay on several devices, which are of one model (run/device_list.h).
    static Result<std::unique_ptr<TextSession>> create(const TextVariant & variant, std::vector<Backend *> devices,
                                                       ThreadPool & threads, const SessionOptions & options);
    static Result<std::unique_ptr<TextSession>> create(const TextVariant & variant, Backend & device,
                                                       ThreadPool & threads, const SessionOptions & options) {
        return create(variant, std::vector<Backend *>{&device}, threads, options);
    }
    ~TextSession();
    bool weights_stay() const; // all of them in the memory of the devices
    // Of each layer's experts, that have a place in the device's memory while all are in the host's; 0: they are not there.
    int64_t cached_experts() const;
    std::string placement() const;            // where weights lie, for people; empty: they stay
    std::vector<SessionShare> shares() const; // one for each device that has layers
    int64_t vocabulary() const;
    int64_t past() const;          // positions seen so far, of each text
    int32_t next_position() const; // of the first text; behind pictures not past(), see place_pictures()
    // Long texts run well in pieces of so many positions, the last of up to twice as many: activations stay small, and
    // results are those of one piece. A multiple of 64.
    int64_t piece() const;
    void reset(); // discards the texts

    struct Request {
        bool all_logits = false;    // of every position, not only the last of each text
        OnTap on_tap = {};          // called in the order of the model, with host memory and F32 for numbers
        std::vector<Tap> taps = {}; // for on_tap; empty: all
        // Called before each group of weights and after the last: positions that ran through a group, summed over
        // groups. False gives Code::cancelled.
        std::function<bool(int64_t done, int64_t total)> on_progress = {};
        // Drafting, with SessionOptions::draft: below 0 the draft head does not see these positions; else it follows the text.
        // A sequence of a single id then runs with up to so many tokens that it guesses. If the next calls ask for just these,
        // their results are there already; if not, the states go back to where the text is. The results of a call are the same
        // bits for any number.
        int64_t drafts = -1;
    };
    void begin_drafting(); // counts from here on
    const DraftCounts & draft_counts() const;
    uint64_t draft_bytes() const;           // of memory for drafting
    uint64_t saved_bytes() const;           // that a token reads less of weights than they have in the checkpoint
    uint64_t cache_bytes() const;           // of the states of all texts, without those for drafting
    std::span<const int32_t> ahead() const; // guesses whose results are there
    // The ids that run_to_largest(), run_to_pick() and run_to_draw() choose among: those that `ids` does not have as 0
    // [vocabulary]. It keeps a copy.
    Status allow(std::span<const uint8_t> ids);
    // As run(), for greedy generation, after allow(): the largest logit of each text's last position. NaN is larger than all.
    Result<std::vector<LargestLogit>> run_to_largest(const TextSequence & sequence, const Request & request);
    // As run(), for a session of one text, after allow(): of the logits of its last position as many of the largest as are
    // enough, where the device has memory of its own and they need not all come to the host.
    Result<SomeLogits> run_to_pick(const TextSequence & sequence, const Request & request, const IsEnough & is_enough);
    // The same: the token that a draw gives, with its logit.
    Result<LargestLogit> run_to_draw(const TextSequence & sequence, const Request & request, const Draw & draw);
    // Continues the texts with `sequence`: as many segments as the session has, of equal length. Returns logits
    // [T or S, vocabulary]. After a failure that check_sequence() does not find, the next call must be reset().
    Result<std::vector<float>> run(const TextSequence & sequence, const Request & request);

    // --- Texts of the pool.

    TextPool & pool();
    TextPool * head_pool();        // of the draft head's caches; null: no text of the pool may draft
    int64_t pool_capacity() const; // positions of a text: those that were asked for
    Status synchronize();          // until work on states is done
    // The ids among which TextWant::largest chooses, as allow() for the session's own texts.
    Status allow_in_pool(std::span<const uint8_t> ids);
    // Lets texts go on together, each at most once: all by one position, or all by more, of which there are piece() + 1 at most.
    // What a text gets depends on its own ids and on their division into passes alone. After a failure the caches of these
    // texts are of no use, and their numbers of positions as before. `on_progress`: as in Request.
    Status run_pool(std::span<const TextTurn> turns,
                    const std::function<bool(int64_t done, int64_t total)> & on_progress);

    // Drafting of these texts. A place for one, or Code::out_of_memory.
    DraftUse draft_use() const;
    Result<std::unique_ptr<TextDraft>> begin_draft(const PooledText & text, const DraftOptions & draft);
    void end_draft(std::unique_ptr<TextDraft> & draft); // of a settled text, or one that is not used any more
    // The result of a turn of this one id, if the last pass of its text has it already; the text has gone on then.
    bool take_ahead(PooledText & text, TextDraft & draft, int32_t id, TextWant want, LargestLogit & largest,
                    std::vector<float> & logits);
    // Takes guesses back: the states are those of the text then, and can be copied. Queued.
    Status settle(TextDraft & draft);
    void forget_draft(TextDraft & draft); // of a text that goes to another place

  private:
    struct State;
    struct Results { // of a pass: what is asked for
        std::vector<float> * logits = nullptr;
        std::vector<LargestLogit> * largest = nullptr;
        SomeLogits * some = nullptr; // of the only text
        const IsEnough * is_enough = nullptr;
        const Draw * draw = nullptr; // `largest` receives what it gives
    };
    Status run(const TextSequence & sequence, const Request & request, const Results & results);
    explicit TextSession(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace gnv
