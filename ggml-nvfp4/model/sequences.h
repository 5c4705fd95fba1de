// Texts as a model takes them: ids with the segments, masks and positions that belong to them.
#pragma once

#include "model/text_model.h"

#include <cstdint>
#include <vector>

namespace gnv {

// One piece of input. Segments are independent pieces of text; the first begins at 0.
struct TextSequence {
    std::vector<int32_t> ids;
    std::vector<uint8_t> mask;      // empty: all positions are real
    std::vector<int32_t> segments;  // where each begins; empty: one
    std::vector<int32_t> positions; // [3, T] (time, height, width); empty: 0, 1, 2 ... in each segment, on all axes
    int64_t length() const { return int64_t(ids.size()); }
};

// What a batch holds, see BatchShape.
struct BatchInputs {
    BatchShape shape;
    std::vector<int32_t> ids;            // [T]
    std::vector<int32_t> positions;      // [3, T]
    std::vector<int32_t> segments;       // [S + 1]
    std::vector<uint8_t> mask;           // [T], where there are pads
    std::vector<int32_t> past;           // [S], with states
    std::vector<int32_t> last_positions; // [S]
};

// Ids below the vocabulary, segments no longer than the model's positions, masks and segments that fit. `past`: positions
// that states have seen already.
Status check_sequence(const TextSequence & sequence, size_t number, const TextModelSizes & sizes, int64_t past = 0);

// The inputs of a batch that holds some sequences, one after another.
BatchInputs make_batch(const TextSequence * sequences, size_t count);

} // namespace gnv
