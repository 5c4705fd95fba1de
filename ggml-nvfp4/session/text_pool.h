// The caches of many texts in one memory. States that do not grow (convolution, Gated DeltaNet) have a slot for each text; keys
// and values lie in pages of cache_page positions, which a text takes as it grows. A copy of a text shares its full pages: no
// text ever writes to a row that it has written before.
#pragma once

#include "run/text_states.h"

#include <cstdint>
#include <vector>

namespace gnv {

// A text in a pool.
struct PooledText {
    int32_t slot = -1;
    std::vector<int32_t> pages;
    int64_t past = 0; // positions in the caches
};

struct PoolUse {
    int64_t texts = 0, positions = 0;           // that texts have; positions in whole pages
    int64_t most_texts = 0, most_positions = 0; // that the pool has
    uint64_t bytes = 0;                         // of all of it
};

class TextPool {
  public:
    TextPool() = default; // without room
    // `positions` of all texts together, `capacity` those of the longest; both in whole pages.
    static StateExtents extents(int64_t texts, int64_t positions, int64_t capacity);
    // `devices`: of each layer.
    static Result<TextPool> create(const TextStates::Specs & specs, const std::vector<Backend *> & devices,
                                   const StateExtents & extents);

    bool exists() const { return states_.extents().pages > 0; }
    TextStates & states() { return states_; }
    const StateExtents & extents() const { return states_.extents(); } // capacity: a text's
    PoolUse use() const;

    // All of these refuse with Code::out_of_memory, and change nothing then. Work on states is queued.
    Result<PooledText> open();                            // at the start of a text
    Status reserve(PooledText & text, int64_t positions); // room for so many in all
    Result<PooledText> copy(const PooledText & text);
    Status assign(PooledText & to, const PooledText & from); // `to` becomes a copy
    void restart(PooledText & text);                         // to its start; keeps the slot
    void close(PooledText & text);

  private:
    Status refuse_pages(int64_t wanted) const;
    int32_t take_page();
    void release_pages(PooledText & text);
    // Gives `to`, which has a slot and no pages, what `from` has.
    void take_copy(PooledText & to, const PooledText & from);

    TextStates states_;
    uint64_t bytes_ = 0;
    std::vector<int32_t> free_slots_, free_pages_; // the last is taken next
    std::vector<int32_t> holders_;                 // of each page
};

} // namespace gnv
