#include "run/draft_inputs.h"

#include <algorithm>
#include <cstddef>

namespace gnv {

Result<DraftInputs> DraftInputs::create(Backend & device) {
    DraftInputs inputs;
    GNV_ASSIGN(inputs.host_, device.allocate_host(sizeof(Block)));
    inputs.host() = {};
    if (!device.device().has_own_memory()) return inputs;
    GNV_ASSIGN(inputs.memory_, device.allocate(sizeof(Block)));
    return inputs;
}

void DraftInputs::send(Backend & device, const Known & known) {
    Block & to = host();
    const auto rows = int32_t(known.ids.size());
    const int32_t next = known.pass.ids.front();
    if (rows > 0 && rows <= most_rows) {
        std::copy(known.ids.begin() + 1, known.ids.end(), to.ids);
        to.ids[rows - 1] = next;
        std::copy(known.positions.begin(), known.positions.end(), to.positions);
        for (int32_t t = 0; t < rows; t++) to.pairs[2 * t] = t, to.pairs[2 * t + 1] = -1 - t;
        to.segments[1] = rows;
        to.past[0] = int32_t(known.past);
        to.last[0] = rows - 1;
    }
    to.own_pairs[1] = -1;
    to.own_segments[1] = 1;
    for (int32_t step = 1; step < known.guesses; step++) {
        for (int32_t axis = 0; axis < 3; axis++)
            to.own_positions[step][axis] = known.positions[size_t(axis * rows + rows - 1)] + step;
        to.own_past[step][0] = int32_t(known.past) + rows + step - 1;
    }
    to.replay_segments[1] = int32_t(known.taken);
    if (known.guesses > 0) {
        to.pass_ids[0] = next;
        std::copy(known.pass.positions.begin(), known.pass.positions.end(), to.pass_positions);
        to.pass_segments[1] = int32_t(known.guesses) + 1;
        to.pass_past[0] = known.pass.past.front();
    }
    if (memory_) device.upload(memory_.get(), &to, offsetof(Block, guesses));
}

DeviceBatch DraftInputs::of_text() const {
    const Block & from = there();
    DeviceBatch batch;
    batch.ids = from.ids, batch.positions = from.positions, batch.pairs = from.pairs;
    batch.segments = from.segments, batch.past = from.past, batch.last_positions = from.last;
    return batch;
}

DeviceBatch DraftInputs::of_own(int64_t step) const {
    const Block & from = there();
    DeviceBatch batch;
    batch.ids = from.pass_ids + step, batch.positions = from.own_positions[step], batch.pairs = from.own_pairs;
    batch.segments = from.own_segments, batch.past = from.own_past[step], batch.last_positions = from.own_last;
    return batch;
}

DeviceBatch DraftInputs::of_replay() const {
    DeviceBatch batch;
    batch.segments = there().replay_segments;
    return batch;
}

DeviceBatch DraftInputs::of_pass() const {
    const Block & from = there();
    DeviceBatch batch;
    batch.ids = from.pass_ids, batch.positions = from.pass_positions;
    batch.segments = from.pass_segments, batch.past = from.pass_past;
    return batch;
}

void DraftInputs::fetch(Backend & device, int64_t guesses) {
    if (guesses > 0) device.download(host().guesses, guess(1), size_t(guesses) * sizeof(int32_t));
}

} // namespace gnv
