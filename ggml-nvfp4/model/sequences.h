// Texts and pictures as a model takes them: ids or pixels with the segments, masks and positions that belong to them.
#pragma once

#include "core/noise.h"
#include "model/given_rows.h"
#include "model/text_model.h"

#include <cstdint>
#include <span>
#include <vector>

namespace gnv {

// One piece of input. Segments are independent pieces of text, or frames; the first begins at 0.
struct TextSequence {
    std::vector<int32_t> ids;       // of a vision tower's input: none
    std::vector<uint8_t> mask;      // empty: all positions are real
    std::vector<int32_t> segments;  // the begin of each; empty: one segment
    std::vector<int32_t> positions; // [3, T] (time, height, width); empty: 0, 1, 2 ... in each segment, on all axes

    // Rows of the width of TextModelSizes::given: in a text they stand for the embeddings of `given_at`, positions in
    // ascending order; without ids there is one for each position.
    GivenRows given;
    std::vector<int32_t> given_at;
    std::vector<int32_t> extents; // without ids: [2, T], rows and columns of the grid of each position

    int64_t length() const { return int64_t(ids.empty() ? positions.size() / 3 : ids.size()); }
    int64_t given_rows() const { return given.empty() ? 0 : ids.empty() ? length() : int64_t(given_at.size()); }
};

// Positions [begin, begin + count) of a text of one segment, to go on with behind those before.
TextSequence part_of(const TextSequence & text, int64_t begin, int64_t count);

// What a batch holds, see BatchShape.
struct BatchInputs {
    BatchShape shape;
    std::vector<int32_t> ids;            // [T]
    std::vector<int32_t> positions;      // [3, T]
    std::vector<int32_t> segments;       // [S + 1]
    std::vector<uint8_t> mask;           // [T]; empty without pads
    std::vector<int32_t> past;           // [S], with states
    std::vector<int32_t> last_positions; // [S], or BatchShape::asked
    std::vector<int32_t> slots, pages;   // [S], [S, pages of a text]; where texts share states
    // Together [given rows, given columns], of sequences that outlive the batch; ids below 0 refer to them: EmbeddingParams
    std::vector<const GivenRows *> given;
    std::vector<int32_t> extents; // [2, T], where rows are given without ids
    std::vector<int32_t> pairs;   // [2 T], for a draft head: StageBuilder::pairs
    std::vector<Draw> draws;      // for StageOptions::draws, of the texts whose tokens are drawn
};

// Ids below the vocabulary, segments no longer than the model's positions, masks, segments and given rows that fit. `past`:
// positions that states have seen already.
Status check_sequence(const TextSequence & sequence, size_t number, const TextModelSizes & sizes, int64_t past = 0);

// The shape of a batch that holds some sequences, one after another; and its inputs. `with_given`: for stages that read what
// is given, the embed stage.
BatchShape shape_of_batch(const TextSequence * sequences, size_t count, bool with_given = true);
BatchInputs make_batch(const TextSequence * sequences, size_t count, bool with_given = true);

} // namespace gnv
