// A text model that is asked again and again, with caches: generation, and forward passes over single texts. Weights stay in
// memory when they fit the budget; else they stream through, group by group, for each call.
#pragma once

#include "exec/text_pass.h"

#include <memory>
#include <vector>

namespace gnv {

class TextSession {
  public:
    // `segments` texts at once, of at most `capacity` positions each. Fails when the budget (0: most of what is free) holds
    // neither a group of weights nor the caches.
    static Result<std::unique_ptr<TextSession>> create(const TextVariant & variant, Backend & device,
                                                       ThreadPool & threads, int64_t segments, int64_t capacity,
                                                       uint64_t ram_bytes);
    ~TextSession();
    bool weights_stay() const;
    int64_t past() const; // positions seen so far, of each text
    void reset();         // forgets them

    struct Request {
        bool all_logits = false; // of every position, not only the last of each text
        Executor::OnTap on_tap;  // called in the order of the model
    };
    // Lets the texts go on by `sequence`: as many segments as the session has, of equal length. Returns logits
    // [T or S, vocabulary].
    Result<std::vector<float>> run(const TextSequence & sequence, const Request & request);

  private:
    struct State;
    explicit TextSession(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace gnv
