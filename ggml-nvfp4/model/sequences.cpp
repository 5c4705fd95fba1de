#include "model/sequences.h"

#include <algorithm>
#include <numeric>

namespace gnv {

static Status check_given(const TextSequence & sequence, const std::string & where, const TextModelSizes & sizes) {
    const int64_t length = sequence.length(), rows = sequence.given_rows();
    if (sequence.given.empty() && sequence.given_at.empty() && !sequence.ids.empty()) return {};
    if (sizes.given == 0 || int64_t(sequence.given.size()) != rows * sizes.given)
        return fail(Code::invalid_argument, where, " comes with ", sequence.given.size(), " numbers for ", rows,
                    " rows; rows of ", sizes.given, " are needed");
    if (sequence.ids.empty() && int64_t(sequence.extents.size()) != 2 * length)
        return fail(Code::invalid_argument, where, " has ", length, " patches and ", sequence.extents.size(),
                    " extents; [2, ", length, "] are needed");
    if (length % sizes.head_rows != 0)
        return fail(Code::invalid_argument, where, " has ", length, " patches; ", sizes.head_rows,
                    " of them make a row, which does not divide them");
    for (size_t i = 0; i < sequence.given_at.size(); i++)
        if (sequence.given_at[i] < (i == 0 ? 0 : sequence.given_at[i - 1] + 1) || sequence.given_at[i] >= length)
            return fail(Code::invalid_argument, where, ": row ", i, " is given for position ", sequence.given_at[i],
                        " of ", length, "; they must grow");
    return {};
}

Status check_sequence(const TextSequence & sequence, size_t number, const TextModelSizes & sizes, int64_t past) {
    const int64_t length = sequence.length();
    const std::string where = concat("sequence ", number);
    if (length == 0) return fail(Code::invalid_argument, where, " is empty");
    for (int64_t t = 0; t < int64_t(sequence.ids.size()); t++)
        if (sequence.ids[size_t(t)] < 0 || sequence.ids[size_t(t)] >= sizes.vocabulary)
            return fail(Code::invalid_argument, where, ", position ", t, ": token ", sequence.ids[size_t(t)],
                        " is not in the vocabulary of ", sizes.vocabulary, "; was another tokenizer used?");
    if (!sequence.mask.empty() && int64_t(sequence.mask.size()) != length)
        return fail(Code::invalid_argument, where, " has ", length, " tokens and a mask of ", sequence.mask.size());
    if (!sequence.positions.empty() && int64_t(sequence.positions.size()) != 3 * length)
        return fail(Code::invalid_argument, where, " has ", length, " tokens and ", sequence.positions.size(),
                    " positions; [3, ", length, "] are needed");
    GNV_TRY(check_given(sequence, where, sizes));
    int64_t begin = 0;
    for (size_t i = 0; i <= sequence.segments.size(); i++) {
        const int64_t end = i < sequence.segments.size() ? sequence.segments[i] : length;
        const bool first = i == 0 && !sequence.segments.empty();
        if (first ? end != 0 : end <= begin)
            return fail(Code::invalid_argument, where, ": segments must begin at 0 and grow");
        if (past + end - begin > sizes.max_positions)
            return fail(Code::invalid_argument, where, " has a text of ", past + end - begin,
                        " positions, the model has ", sizes.max_positions, "; use shorter sequences");
        begin = end;
    }
    return {};
}

TextSequence part_of(const TextSequence & text, int64_t begin, int64_t count) {
    GNV_CHECK(text.segments.size() <= 1 && begin + count <= text.length());
    TextSequence part;
    const auto cut = [&](const auto & from, int64_t at, int64_t elements, auto & to) {
        if (!from.empty()) to.insert(to.end(), from.begin() + at, from.begin() + at + elements);
    };
    cut(text.ids, begin, count, part.ids);
    cut(text.mask, begin, count, part.mask);
    for (int64_t axis = 0; axis < 3; axis++) cut(text.positions, axis * text.length() + begin, count, part.positions);
    const auto first = std::lower_bound(text.given_at.begin(), text.given_at.end(), begin);
    const auto last = std::lower_bound(first, text.given_at.end(), begin + count);
    for (auto at = first; at != last; at++) part.given_at.push_back(*at - int32_t(begin));
    if (first == last) return part;
    const size_t columns = text.given.size() / text.given_at.size();
    part.given = text.given.part(first - text.given_at.begin(), last - first, int64_t(columns));
    return part;
}

BatchShape shape_of_batch(const TextSequence * sequences, size_t count, bool with_given) {
    BatchShape shape;
    for (size_t i = 0; i < count; i++) {
        shape.positions += sequences[i].length();
        shape.segments += int64_t(std::max<size_t>(1, sequences[i].segments.size()));
        for (const uint8_t real : sequences[i].mask) shape.masked |= real == 0;
        const int64_t rows = with_given ? sequences[i].given_rows() : 0;
        if (rows > 0) shape.given_columns = int64_t(sequences[i].given.size()) / rows;
        shape.given_rows += rows;
    }
    return shape;
}

// Of the rows that are given with a sequence, whose first position is `begin` of the batch, `rows` of which come before.
static void add_given(const TextSequence & sequence, size_t begin, int32_t rows, BatchInputs & batch) {
    batch.given.push_back(&sequence.given);
    for (size_t i = 0; i < sequence.given_at.size(); i++)
        batch.ids[begin + size_t(sequence.given_at[i])] = -1 - (rows + int32_t(i));
    const auto length = size_t(sequence.length()), total = size_t(batch.shape.positions);
    batch.extents.resize(sequence.extents.empty() ? 0 : 2 * total);
    for (size_t axis = 0; axis < 2 && !sequence.extents.empty(); axis++)
        std::copy_n(sequence.extents.begin() + ptrdiff_t(axis * length), length,
                    batch.extents.begin() + ptrdiff_t(axis * total + begin));
}

// 0, 1, 2 ... in each segment.
static void count_positions(const TextSequence & sequence, int32_t * to) {
    const int64_t length = sequence.length();
    int64_t begin = 0;
    for (size_t i = 0; i <= sequence.segments.size(); i++) {
        const int64_t end = i < sequence.segments.size() ? sequence.segments[i] : length;
        std::iota(to + begin, to + end, 0);
        begin = end;
    }
}

BatchInputs make_batch(const TextSequence * sequences, size_t count, bool with_given) {
    BatchInputs batch;
    batch.shape = shape_of_batch(sequences, count, with_given);
    const BatchShape & shape = batch.shape;
    const auto total = size_t(shape.positions);
    batch.positions.resize(3 * total);
    size_t at = 0;
    int64_t given = 0; // rows so far
    for (size_t i = 0; i < count; i++) {
        const TextSequence & sequence = sequences[i];
        const auto length = size_t(sequence.length());
        batch.ids.insert(batch.ids.end(), sequence.ids.begin(), sequence.ids.end());
        if (with_given && sequence.given_rows() > 0) {
            add_given(sequence, at, int32_t(given), batch);
            given += sequence.given_rows();
        }
        if (shape.masked && sequence.mask.empty()) batch.mask.insert(batch.mask.end(), length, 1);
        if (shape.masked) batch.mask.insert(batch.mask.end(), sequence.mask.begin(), sequence.mask.end());
        if (sequence.segments.empty()) batch.segments.push_back(int32_t(at));
        for (const int32_t begin : sequence.segments) batch.segments.push_back(int32_t(at) + begin);
        for (size_t axis = 0; axis < 3; axis++) {
            int32_t * const to = batch.positions.data() + axis * total + at;
            if (sequence.positions.empty()) {
                count_positions(sequence, to);
            } else {
                std::copy_n(sequence.positions.data() + axis * length, length, to);
            }
        }
        at += length;
    }
    for (size_t s = 1; s < batch.segments.size(); s++) batch.last_positions.push_back(batch.segments[s] - 1);
    batch.segments.push_back(int32_t(at));
    batch.last_positions.push_back(int32_t(at) - 1);
    return batch;
}

} // namespace gnv
