// The inside of a TextSession: text_session_plan.cpp divides memory, text_session.cpp runs.
#pragma once

#include "core/budget.h"
#include "run/host_experts.h"
#include "run/input_block.h"
#include "run/lane_inputs.h"
#include "run/weight_stream.h"
#include "session/chosen_rows.h"
#include "session/text_session.h"

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace gnv {

// The ids among which the largest logit is chosen, and where a device reads them.
struct AllowedIds {
    std::vector<uint8_t> ids; // [vocabulary]; empty: not given yet
    bool any = false;         // is allowed
    DeviceMemory copy;        // of a device with memory of its own

    Status set(Backend & device, bool aliases, std::span<const uint8_t> given);
    const uint8_t * place() const { return copy ? static_cast<const uint8_t *>(copy.get()) : ids.data(); }
};

// For whom a row of logits is.
struct LogitRow {
    SomeLogits * some;
    const IsEnough * is_enough;
};
// What StageCall::on_top gives: the largest logits of each row if they are enough, else all.
Status take_logits(Backend & device, const Tensor & ids, const Tensor & logits, const Tensor & all,
                   std::span<const LogitRow> rows);

// A device with consecutive groups of weights.
struct SessionPlace {
    Backend * device = nullptr;
    size_t first = 0, end = 0; // groups
    // Of the device's memory; on the CPU without activations.
    Budget budget;
    uint64_t weight_bytes = 0, cache_bytes = 0, pool_bytes = 0;

    DeviceMemory arena, hidden;
    LaneInputs inputs;
    std::unique_ptr<StageRunner> runners[2]; // of the last positions' logits, of all logits
    std::unique_ptr<WeightUpload> upload;    // ends before the stream, from which it copies

    bool aliases() const { return upload->aliases(); }
};

// Drafting (text_session_draft.cpp): a pass ahead runs a token with tokens that the draft head guessed behind it. The text goes on
// by the first; by the others when it turns out that they come next.
struct Drafting {
    TextVariant variant;                // of the draft head
    std::vector<Stage> block, guessing; // without and with its head
    WeightGroup weights;
    DeviceMemory memory; // of these
    TextStates states;   // keys and values of the draft head
    TextStates before;   // before the last pass ahead: the text's states that do not grow
    TextStates kept;     // rows of that pass, for a replay
    int64_t past = 0;    // rows in `states`
    uint64_t bytes = 0;  // of all of it
    DraftInputs inputs;
    DeviceMemory own_stream; // [1, H], of its own steps
    // Of rows of the text; of the head for all rows of a pass ahead; of replays; of each step from its own stream, because a
    // device records a step with the places that it reads.
    std::optional<StageRunner> runner, largest_of_all, replay;
    std::vector<std::unique_ptr<StageRunner>> own;
    std::set<int64_t> replayed; // numbers of rows for whose replay there is room

    // The last pass: its ids and positions [3, rows], by how many rows the text has gone on, and whether its stream is still in
    // State::hidden.
    std::vector<int32_t> ids, positions;
    int64_t taken = 0;
    bool has_stream = false;
    // The results of all rows of a pass ahead.
    std::vector<float> logits;
    std::vector<LargestLogit> largest;

    DraftCounts counts;
    bool is_timed = false; // the last pass ahead
    // Passes so far by positions, one of which has no drafts. The first two of a kind are no measure on a device: its kernels
    // are loaded, and then recorded.
    std::array<int64_t, most_drafts + 2> runs = {};
    bool is_ahead() const { return taken < int64_t(ids.size()); }
    void forget() { ids.clear(), positions.clear(), taken = 0, has_stream = false; }
};

// The same for texts of the pool (text_session_pool_draft.cpp). A text that drafts has a place here.
struct PoolDrafting {
    // Positions of a pass that belong to texts that draft; those of many texts are fewer each.
    static constexpr int64_t most_rows = 256;
    int64_t places = 0, rows = 0; // texts, and positions of them in a pass
    TextPool heads;               // keys and values of the draft head, of all texts of the pool
    TextStates before;            // before the last pass ahead: states that do not grow, by place
    TextStates kept;              // rows of that pass, for replays
    DeviceMemory streams, own;    // [places, DraftInputs::most_rows, H] of rows not seen; [places, H] of own steps
    DeviceMemory guesses;         // i32 [most_drafts, places]
    InputBlock inputs;
    std::optional<StageRunner> runner, replay;
    std::vector<std::unique_ptr<StageRunner>> own_runners; // by step
    std::vector<int32_t> free_places;
    std::vector<TextDraft *> ahead; // whose rows are kept
    // Passes so far by positions and texts: as Drafting::runs.
    std::map<std::pair<int64_t, int64_t>, int64_t> runs;
    uint64_t bytes = 0;
};

struct TextSession::State {
    TextVariant variant;
    ThreadPool * threads = nullptr;
    SessionOptions options;
    std::vector<std::vector<Stage>> stages; // by group
    std::vector<WeightGroup> groups;        // with `experts` without those
    uint64_t weight_bytes = 0, largest_group = 0;

    // Planned.
    bool stay = false; // groups are read once
    // What stays in host memory because the device has no room for it; null: nothing. The embedding, of which a pass reads a few
    // rows, is there as well.
    std::unique_ptr<HostExperts> experts;
    HostMemory embedding;
    uint64_t host_needed = 0, device_needed = 0; // for that; 0: it is not possible
    int64_t piece = 0;
    std::vector<SessionPlace> places; // in the order of groups; without devices that have none

    TextStates states;
    std::atomic<int64_t> past = 0; // other threads may ask for it while a pass runs
    // The position that comes next in each text. Behind a picture, which takes as many as its longer side, that is not the
    // number of those in the caches.
    std::vector<int32_t> next_position;
    // Of each group that stays on its device; of the largest alone when weights do not stay.
    std::vector<DeviceMemory> weights;
    uint64_t arena_bytes = 0, hidden_bytes = 0, inputs_bytes = 0; // on each device
    std::set<std::tuple<int64_t, bool, bool, bool, bool>>
        roomy; // there is room for: positions, with mask, rows, all logits, as steps

    // Of the last group, for the largest logit, some of the largest, or a draw; and the ids for them.
    std::optional<StageRunner> largest_runner, top_runner, draw_runner;
    AllowedIds allowed;
    ChosenRows chosen_rows;

    std::optional<Drafting> drafting;
    std::optional<PoolDrafting> pool_drafting;

    TextPool pool;
    // Of longer pieces, of single positions; one for each group, because the numbers of texts that go on together are many.
    std::vector<std::unique_ptr<StageRunner>> pool_runners[2];
    std::optional<StageRunner> pool_largest, pool_top, pool_draw, pool_embeds; // of the last group
    AllowedIds pool_allowed;

    std::unique_ptr<WeightStream> stream;
    std::optional<size_t> next; // the group being read

    ~State();                                                   // queued work ends before memory is freed
    Backend & device() const { return *places.front().device; } // all are of its model
    SessionPlace & last() { return places.back(); }             // which has the head
    SessionPlace & place_of(size_t group);
    bool aliases() const { return places.front().aliases(); }
    Status synchronize();
    const TextModel & model() const { return *variant.model; }
    BatchShape shape_of(int64_t positions) const; // of all texts together
    BatchShape largest_piece() const;
    BatchShape pool_shape(int64_t positions, int64_t segments) const {
        return shape_in(pool_extents(), positions, segments);
    }
    BatchShape shape_in(const StateExtents & extents, int64_t positions, int64_t segments) const; // of texts with pages
    std::vector<BatchShape> planned_shapes() const; // for which there must be room
    uint64_t hidden_bytes_of(const BatchShape & shape) const;

    // The budget with all reservations of a device with memory of its own, and without those that depend on its groups.
    Budget with(const SessionPlace & place, uint64_t of_arena, uint64_t of_hidden, uint64_t of_inputs) const;
    Budget with_groups(const SessionPlace & place, uint64_t of_arena, uint64_t of_hidden, uint64_t of_inputs) const;
    // What a group takes of the memory of its device.
    uint64_t cache_bytes(size_t group, const StateExtents & extents) const;
    void take_groups(SessionPlace & place, size_t first, size_t end) const;
    // Divides groups among the devices so that the fullest is as little full as possible; false if they do not fit.
    bool divide_groups();
    std::vector<Backend *> layer_devices() const;

    Status cut_groups();
    Status choose_plan();
    // Plans for experts in host memory; false: the model, the device or the budget of the host does not allow it.
    Result<bool> keep_experts_in_host(const Budget & host);
    // By what the plan leaves; false: too little. `is_last`: with the smallest pieces.
    bool size_experts(bool is_last);
    bool is_in_host(size_t group) const { return experts && group == 0; }
    // A batch as a group runs it: with places of a cache, or without.
    BatchShape shape_on(size_t group, const BatchShape & shape) const;
    void give_experts(size_t group, StageCall & call);
    Status load_to_host(size_t group); // what stays there
    std::string placement() const;
    Status explain_shortage(Status status) const;
    Status choose_device_plan(const std::string & purpose);
    Status refuse_division(const std::string & purpose);
    void make_head_runners();
    Status choose_host_plan(const std::string & purpose);
    static StageOptions stage_options(bool all_logits);
    // Of the largest group; `runner_of` gives each its runner.
    Result<uint64_t> arena_bytes_of(const BatchShape & shape, const std::function<StageRunner &(size_t)> & runner_of);
    Status allocate();
    Status make_room(const BatchShape & shape, bool all_logits);
    Status grow(const BatchShape & shape, uint64_t arena_wanted, const char * what);
    StateExtents own_extents() const;
    StateExtents pool_extents() const;

    // `tell`: called while the weights are awaited; its failure ends the wait.
    Status bring(size_t group, const std::function<Status()> & tell);
    // Queues the hidden states' way to the device of the group, if the one before lies on another.
    void follow_hidden(size_t group, const BatchShape & shape);
    // The inputs of a batch on every device.
    Result<std::vector<DeviceBatch>> upload_inputs(const BatchInputs & batch, const AllowedIds & allowed_ids);
    uint64_t largest_load() const; // bytes that are read at once
    Status load_weights();
    Status arrange_weights(size_t group); // of those that stay
    Status load_draft(const std::function<Status()> & tell);
    void set_positions(const TextSequence & sequence, BatchInputs & batch) const;
    void go_on(const BatchInputs & batch, int64_t length); // after a pass
    // `there`: the inputs on the only device, for which there is room; null: they are uploaded.
    Status run_groups(const BatchInputs & inputs, const Request & request, const Results & results,
                      const DeviceBatch * there = nullptr);

    // Drafting.
    Status plan_drafting();
    // Of a device with memory of its own: what drafting needs besides.
    Status plan_draft_passes();
    Status allocate_drafting();
    bool take_ahead(int32_t id, const Results & results); // if that is what comes next in a pass ahead
    int64_t guesses_for(int64_t most) const;              // that the draft head can make now
    // Before the next pass, of which the draft head sees the first id if `follows`: takes the rest of a pass ahead back, lets the
    // draft head see the pass before, and queues all guesses if `inputs` are those of a pass ahead.
    Status catch_up(const BatchInputs & inputs, bool follows, bool all_logits);
    Status settle(int64_t rows);                    // queues what takes back all but these
    Status see_text(int32_t next, int32_t * guess); // the draft head, the rows of the last pass
    Status see_own(int64_t step, int32_t * guess);  // from its own stream
    // The draft head with its `caches`. `rows_of`: rows of the stream, those of texts or its own, in and out. `guesses`: receives
    // the likeliest token behind the last row of each text, on the device; null: it is not asked for.
    Status run_head(StageRunner & runner, const BatchShape & shape, const DeviceBatch & there, TextStates & caches,
                    void * rows_of, int32_t * guesses);
    uint64_t row_bytes() const; // of the stream
    // Queues what brings `of`, which are as before a pass ahead, to where they were behind the first rows of it. Those were kept
    // from `kept_begin` on; `shape` has as many.
    Status replay(StageRunner & runner, const BatchShape & shape, const DeviceBatch & there, TextStates & of,
                  TextStates & kept, int64_t kept_begin);
    Status make_room_for_drafts(int64_t taken, int64_t rows, int64_t guesses);
    BatchShape draft_shape(int64_t rows, DraftInput draft) const;
    bool is_measure(int64_t positions); // whether a pass of so many positions, one more, shows how long such take
    Status run_ahead(const BatchInputs & inputs, const Request & request, const Results & results);
    void remember(const BatchInputs & inputs, int64_t taken);
    // Of texts of the pool.
    struct DraftRows { // a text with rows that its draft head is to see
        TextDraft * draft;
        PooledText * head;
        int32_t next_id;
        int64_t guesses;
        size_t turn;
    };
    StateExtents head_extents() const; // of the draft head's caches
    uint64_t pool_draft_input_bytes() const;
    Status plan_pool_drafting();
    Status plan_pool_draft_passes();
    Status allocate_pool_drafting();
    int64_t pool_guesses(const TextTurn & turn, int64_t texts);
    // Before a pass over `turns`: the states become those of the texts, draft heads see what ran before, and guess what comes
    // behind each turn's id.
    Status draft_in_pool(std::span<const TextTurn> turns, std::vector<std::vector<int32_t>> & guesses);
    Status settle_in_pool(std::span<TextDraft * const> drafts);
    Status see_in_pool(std::span<const DraftRows> texts, std::vector<std::vector<int32_t>> & found);
    Status see_piece(const TextTurn & turn, int64_t begin); // of a longer turn, from the stream of its pass
    // Before a pass ahead.
    void keep_states(std::span<const TextTurn> turns, std::span<const std::vector<int32_t>> guesses);
    // After a pass: what draft heads see next.
    Status keep_drafts(std::span<const TextTurn> turns, const BatchInputs & inputs);
    BatchShape head_shape(int64_t rows, int64_t texts, DraftInput draft) const;
    bool has_head_room(PooledText & head, int64_t positions);
    Status grow_idle(const BatchShape & shape, uint64_t arena_wanted);
    // Of single positions: `seconds` of all that was done, `of_pass` without draft heads.
    void count_drafts(std::span<const TextTurn> turns, std::span<const std::vector<int32_t>> guesses, double seconds,
                      double of_pass);
    // The head for the rows of which the same is wanted; `there` and `shape` say which.
    struct PoolHead {
        TextWant want;
        struct Row {
            size_t turn;
            int64_t ahead; // by so many rows
        };
        std::vector<Row> rows;
    };
    Status run_pool_head(const PoolHead & head, const BatchShape & shape, const DeviceBatch & there,
                         std::span<const TextTurn> turns);
    StageRunner & pool_runner(size_t group, const BatchShape & shape, TextWant want);
    Status run_group(size_t group, const BatchInputs & inputs, const DeviceBatch & there, const Request & request,
                     const std::function<Status()> & tell, const Results & results);
};

} // namespace gnv
