// The inside of a TextSession: text_session_plan.cpp divides memory, text_session.cpp runs.
#pragma once

#include "core/budget.h"
#include "run/lane_inputs.h"
#include "run/weight_stream.h"
#include "session/text_session.h"

#include <atomic>
#include <optional>
#include <set>
#include <tuple>

namespace gnv {

// The ids among which the largest logit is chosen, and where a device reads them.
struct AllowedIds {
    std::vector<uint8_t> ids; // [vocabulary]; empty: not given yet
    DeviceMemory copy;        // of a device with memory of its own

    Status set(Backend & device, bool aliases, std::span<const uint8_t> given);
    const uint8_t * place() const { return copy ? static_cast<const uint8_t *>(copy.get()) : ids.data(); }
};

struct TextSession::State {
    TextVariant variant;
    Backend * device = nullptr;
    ThreadPool * threads = nullptr;
    SessionOptions options;
    std::vector<std::vector<Stage>> stages; // by group
    std::vector<WeightGroup> groups;
    uint64_t weight_bytes = 0, largest_group = 0;

    // Planned.
    bool stay = false;
    int64_t piece = 0;
    Budget budget; // of the device's memory; on the CPU without activations

    TextStates states;
    std::atomic<int64_t> past = 0; // other threads may ask for it while a pass runs
    // The position that comes next in each text. Behind a picture, which takes as many as its longer side, that is not the
    // number of those in the caches.
    std::vector<int32_t> next_position;
    std::vector<DeviceMemory> weights; // of each group; of the largest alone when weights do not stay
    DeviceMemory arena, hidden;
    uint64_t arena_bytes = 0, hidden_bytes = 0;
    LaneInputs inputs;
    std::set<std::tuple<int64_t, bool, bool, bool>> roomy; // there is room for: positions, with mask, rows, all logits

    std::optional<StageRunner> runners[2];     // of the last positions' logits, of all logits
    std::optional<StageRunner> largest_runner; // of the last group, for the largest logit
    AllowedIds allowed;                        // for it

    TextPool pool;
    // Of longer pieces, of single positions; one for each group, because the numbers of texts that go on together are many.
    std::vector<std::unique_ptr<StageRunner>> pool_runners[2];
    std::optional<StageRunner> pool_largest, pool_embeds; // of the last group
    AllowedIds pool_allowed;

    std::unique_ptr<WeightStream> stream;
    std::unique_ptr<WeightUpload> upload; // ends before the stream, from which it copies
    std::optional<size_t> next;           // the group being read

    ~State() { (void)device->synchronize(); } // queued work must end before memory is freed
    const TextModel & model() const { return *variant.model; }
    BatchShape shape_of(int64_t positions) const; // of all texts together
    BatchShape largest_piece() const;
    BatchShape pool_shape(int64_t positions, int64_t segments) const;
    std::vector<BatchShape> planned_shapes() const; // for which there must be room
    uint64_t hidden_bytes_of(const BatchShape & shape) const;

    // The budget with all reservations of a device with memory of its own.
    Budget with(uint64_t of_arena, uint64_t of_hidden, uint64_t of_inputs) const;

    Status cut_groups();
    Status choose_plan();
    Status choose_host_plan(const std::string & purpose);
    static StageOptions stage_options(bool all_logits);
    // Of the largest group.
    Result<uint64_t> arena_bytes_of(const BatchShape & shape, StageRunner & runner);
    Status allocate();
    Status make_room(const BatchShape & shape, bool all_logits);
    Status grow(const BatchShape & shape, uint64_t arena_wanted, const char * what);
    StateExtents own_extents() const;
    StateExtents pool_extents() const;

    // `tell`: called while the weights are awaited; its failure ends the wait.
    Status bring(size_t group, const std::function<Status()> & tell);
    Status load_weights();
    void set_positions(const TextSequence & sequence, BatchInputs & batch) const;
    void go_on(const BatchInputs & batch, int64_t length); // after a pass
    // The head for the texts that want the same, `there` and `shape` say which.
    struct PoolHead {
        TextWant want;
        std::vector<size_t> turns;
    };
    Status run_pool_head(const PoolHead & head, const BatchShape & shape, const DeviceBatch & there,
                         std::span<const TextTurn> turns);
    StageRunner & pool_runner(size_t group, const BatchShape & shape, TextWant want);
    Status run_group(size_t group, const BatchInputs & inputs, const DeviceBatch & there, const Request & request,
                     const std::function<Status()> & tell, const Results & results);
};

} // namespace gnv
