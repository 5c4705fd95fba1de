#include "model/sequences.h"

#include <algorithm>

namespace gnv {

Status check_sequence(const TextSequence & sequence, size_t number, const TextModelSizes & sizes, int64_t past) {
    const int64_t length = sequence.length();
    const std::string where = concat("sequence ", number);
    if (length == 0) return fail(Code::invalid_argument, where, " is empty");
    for (int64_t t = 0; t < length; t++)
        if (sequence.ids[size_t(t)] < 0 || sequence.ids[size_t(t)] >= sizes.vocabulary)
            return fail(Code::invalid_argument, where, ", position ", t, ": token ", sequence.ids[size_t(t)],
                        " is not in the vocabulary of ", sizes.vocabulary, "; was another tokenizer used?");
    if (!sequence.mask.empty() && int64_t(sequence.mask.size()) != length)
        return fail(Code::invalid_argument, where, " has ", length, " tokens and a mask of ", sequence.mask.size());
    if (!sequence.positions.empty() && int64_t(sequence.positions.size()) != 3 * length)
        return fail(Code::invalid_argument, where, " has ", length, " tokens and ", sequence.positions.size(),
                    " positions; [3, ", length, "] are needed");
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

BatchInputs make_batch(const TextSequence * sequences, size_t count) {
    BatchInputs batch;
    BatchShape & shape = batch.shape;
    for (size_t i = 0; i < count; i++) {
        shape.positions += sequences[i].length();
        shape.segments += int64_t(std::max<size_t>(1, sequences[i].segments.size()));
        for (const uint8_t real : sequences[i].mask) shape.masked |= real == 0;
    }
    const auto total = size_t(shape.positions);
    batch.positions.resize(3 * total);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const TextSequence & sequence = sequences[i];
        const auto length = size_t(sequence.length());
        batch.ids.insert(batch.ids.end(), sequence.ids.begin(), sequence.ids.end());
        if (shape.masked && sequence.mask.empty()) batch.mask.insert(batch.mask.end(), length, 1);
        if (shape.masked) batch.mask.insert(batch.mask.end(), sequence.mask.begin(), sequence.mask.end());
        if (sequence.segments.empty()) batch.segments.push_back(int32_t(at));
        for (const int32_t begin : sequence.segments) batch.segments.push_back(int32_t(at) + begin);
        size_t segment = 0;
        int32_t position = 0;
        for (size_t t = 0; t < length; t++, position++) {
            if (segment < sequence.segments.size() && int32_t(t) == sequence.segments[segment]) {
                position = 0;
                segment++;
            }
            for (size_t axis = 0; axis < 3; axis++)
                batch.positions[axis * total + at + t] =
                    sequence.positions.empty() ? position : sequence.positions[axis * length + t];
        }
        at += length;
    }
    for (size_t s = 1; s < batch.segments.size(); s++) batch.last_positions.push_back(batch.segments[s] - 1);
    batch.segments.push_back(int32_t(at));
    batch.last_positions.push_back(int32_t(at) - 1);
    return batch;
}

} // namespace gnv
