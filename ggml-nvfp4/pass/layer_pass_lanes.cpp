// The work of the lanes of a pass with loaded weights.
#include "core/side_by_side.h"
#include "pass/layer_pass_state.h"

#include <algorithm>
#include <utility>

namespace gnv {

// The pages of memory that the head will fill are touched for the first time while a device computes the blocks before,
// a share for each batch: the host waits then anyway.
void LayerPass::State::touch_results(const PassHooks & hooks) {
    if (hooks.logits_to.empty() || all_on_host()) return;
    constexpr size_t page = 4096 / sizeof(float);
    const int64_t before_head = progress.positions_total - plan.store.positions;
    const double share = std::min(1.0, double(progress.positions) / double(std::max<int64_t>(1, before_head)));
    const auto end = size_t(share * double(hooks.logits_to.size()));
    for (; touched < end; touched += page) hooks.logits_to[touched] = 0;
}

// positions: of one variant
Status LayerPass::State::advance(int64_t positions, const PassHooks & hooks) {
    const std::lock_guard<std::recursive_mutex> lock(hook_mutex);
    progress.positions += positions;
    cost_done += double(positions) * costs[progress.group];
    progress.share = progress.positions == progress.positions_total ? 1 : cost_done / std::max(cost_total, 1.0);
    if (!is_head(plan.groups[progress.group])) touch_results(hooks);
    if (!hooks.progress || hooks.progress(progress)) return {};
    stop = 0;
    return Status(Code::cancelled, "stopped on request");
}

// After a failure later lanes stop and earlier ones finish, so the result is the failure of the first lane, at whatever
// time it occurs.
Status LayerPass::State::on_lanes(const std::function<Status(size_t lane)> & work) {
    stop = lanes.size();
    return run_side_by_side(lanes.size(), [&](size_t i) {
        Status done = guard_exceptions([&] { return work(i); });
        if (!done.ok() && i < stop) stop = i + 1;
        return done;
    });
}

Status LayerPass::State::run_load(const Load & load, const PassHooks & hooks) {
    if (takes_turns()) return run_in_turns(load, hooks);
    return on_lanes([&](size_t lane) { return run_lane(lane, load, hooks); });
}

// Each lane goes on with the totals of the lane before it: every sum gets its terms in the order of positions, as in one
// lane, and has its bits.
Status LayerPass::State::run_in_turns(const Load & load, const PassHooks & hooks) {
    stop = lanes.size();
    for (const size_t v : load.variants) {
        const Load part = {load.group, {v}, load.last};
        for (size_t i = 0; i < lanes.size(); i++) GNV_TRY(run_lane(i, part, hooks));
        if (observes(v)) GNV_TRY(share_totals(v, plan.groups[load.group], hooks));
    }
    return {};
}

// The last lane has the totals of all.
Status LayerPass::State::share_totals(size_t v, const PassGroup & group, const PassHooks & hooks) {
    const StatisticWindow & all = lanes.back().lane->window();
    for (size_t i = 0; i + 1 < lanes.size(); i++) {
        lanes[i].lane->window().take_over(all);
        GNV_TRY(lanes[i].lane->device().synchronize());
    }
    if (!hooks.on_statistics) return {};
    for (Work & work : lanes) GNV_TRY(hooks.on_statistics(v, group, work.lane->window()));
    return {};
}

// --- Batches ------------------------------------------------------------------------------------------------------------------

// The message for a NaN or Inf, with its place in the caller's sequences.
Status LayerPass::State::explain(const Status & failure, const PassGroup & group, const PassBatch & batch,
                                 const BadInput & bad) const {
    if (bad.position < 0 || bad.input < 0 || failure.code() != Code::bad_value) return copy_of(failure);
    size_t sequence = batch.first;
    int64_t position = bad.position;
    while (position >= (*sequences)[sequence].length()) position -= (*sequences)[sequence++].length();
    return fail(Code::bad_value, "layer ", layer_of(group), ", ", model().names().inputs[size_t(bad.input)].name,
                ", sample ", sequence, ", position ", position, ": ", failure.message(),
                "; the model or its weights do not work with this text");
}

// Called when this lane's batches of a group are done for a variant.
Status LayerPass::State::take_statistics(size_t i, size_t v, const PassGroup & group, const PassHooks & hooks) {
    if (!observes(v)) return {};
    StatisticWindow & window = lanes[i].lane->window();
    const std::lock_guard<std::recursive_mutex> lock(hook_mutex);
    GNV_TRY(window.take(statistics[v], takes_turns() && i + 1 < lanes.size()));
    return hooks.on_statistics && !takes_turns() ? hooks.on_statistics(v, group, window) : Status();
}

// Waits for the last batch if it is watched, and checks it for NaN or Inf. If it has one, the batch runs again and the
// host finds the place.
Status LayerPass::State::check_watched(Work & work, const PassGroup & group) {
    if (!work.watched.batch) return {};
    const PassBatch & batch = *std::exchange(work.watched.batch, nullptr);
    const size_t v = work.watched.variant;
    Lane & lane = *work.lane;
    GNV_TRY(lane.device().synchronize());
    const int32_t first_bad = lane.window().first_bad();
    if (first_bad < 0) return {};
    const BatchInputs inputs = make_batch(sequences->data() + batch.first, batch.count, read_given(group.stages));
    GNV_ASSIGN(const DeviceBatch there, upload(lane, inputs));
    BadInput bad;
    StageCall call{lane.variant(v), group.stages, lane.weights().front(), inputs.shape, there};
    call.fields = lane.rows().reopen();
    call.statistics = &lane.window();
    call.bad_input = &bad;
    call.looks_for_bad_input = true;
    const Status status = work.runner->run(call, lane.arena(), plan.arena_bytes);
    if (!status.ok()) return explain(status, group, batch, bad);
    return fail(Code::bad_value, "layer ", layer_of(group), ", ", model().names().inputs[size_t(first_bad)].name,
                ": NaN or Inf, which was not there when the batch was computed again: is the memory of ",
                lane.device().device().label(), " in order?");
}

Result<DeviceBatch> LayerPass::State::upload(Lane & lane, const BatchInputs & inputs) {
    std::unique_lock<std::mutex> lock(given_mutex, std::defer_lock);
    if (!inputs.given.empty()) lock.lock();
    return lane.upload(inputs, *threads);
}

// The host prepares a batch while the device computes the last one, and waits for that only if it is watched.
Status LayerPass::State::run_batch(Work & work, size_t v, const PassGroup & group, size_t b, const PassHooks & hooks) {
    const PassBatch & batch = plan.batches[b];
    Lane & lane = *work.lane;
    const FieldUse use = field_use(group.stages, model());
    const BatchInputs inputs = make_batch(sequences->data() + batch.first, batch.count, read_given(group.stages));
    GNV_ASSIGN(const DeviceBatch there, upload(lane, inputs));
    GNV_TRY(check_watched(work, group));
    BadInput bad;
    StageCall call{lane.variant(v), group.stages, lane.weights().front(), inputs.shape, there};
    GNV_ASSIGN(call.fields, lane.rows().open(v, batch.begin - work.share.begin, batch.positions, use));
    if (b + 1 < work.share.first + work.share.count) {
        const PassBatch & next = plan.batches[b + 1];
        lane.rows().prepare(v, next.begin - work.share.begin, next.positions, use);
    }
    call.statistics = &lane.window();
    call.bad_input = &bad;
    if (hooks.on_tap)
        call.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
            if (hooks.wants_tap && !hooks.wants_tap(tap)) return {};
            HostTensor copy;
            GNV_ASSIGN(const Tensor shown, lane.show(tensor, copy));
            const std::lock_guard<std::recursive_mutex> lock(hook_mutex);
            return hooks.on_tap(v, batch, tap, shown);
        };
    const Status status = work.runner->run(call, lane.arena(), plan.arena_bytes);
    if (!status.ok()) return explain(status, group, batch, bad);
    GNV_TRY(lane.rows().close(v));
    if (observes(v) && !lane.aliases()) {
        lane.window().watch();
        work.watched = {v, &batch};
    }
    return advance(batch.positions, hooks);
}

// All batches of one lane. The first lane starts to read the next weights, at the latest beside its last batch.
Status LayerPass::State::run_lane(size_t i, const Load & load, const PassHooks & hooks) {
    const PassGroup & group = plan.groups[load.group];
    Work & work = lanes[i];
    Lane & lane = *work.lane;
    size_t left = load.variants.size() * work.share.count;
    for (const size_t v : load.variants) {
        if (observes(v)) lane.window().open(requested, model(), group.stages);
        if (observes(v) && takes_turns() && i > 0) lane.window().take_over(lanes[i - 1].lane->window());
        for (size_t b = work.share.first; b < work.share.first + work.share.count; b++) {
            if (stop <= i) return {};
            GNV_TRY(run_batch(work, v, group, b, hooks));
            if (i == 0 && stream->buffers() > 1) GNV_TRY(start_next(hooks, left == 1));
            lane.send_weights(*stream, left--); // after the rows of the next batch
        }
        GNV_TRY(lane.device().synchronize());
        lane.send_weights(*stream, left + 1); // if they have been read by now
        GNV_TRY(check_watched(work, group));
        GNV_TRY(take_statistics(i, v, group, hooks));
    }
    return {};
}

// --- Head ---------------------------------------------------------------------------------------------------------------------

Status LayerPass::State::compute_logits(Work & work, size_t v, const PassGroup & group, int64_t first, int64_t count,
                                        const std::function<Status(const Tensor & logits)> & take) {
    Lane & lane = *work.lane;
    size_t part = 0; // in the load's groups: variants in running order, the last first
    for (size_t other = variants.size(); --other > v;) part += variants[other].weights != variants[other - 1].weights;
    BatchShape shape;
    shape.positions = count;
    shape.segments = 1;
    const DeviceBatch none; // the head needs no inputs
    StageCall call{lane.variant(v), group.stages, lane.weights()[part], shape, none};
    GNV_ASSIGN(call.fields, lane.rows().open(v, first - work.share.begin, count, field_use(group.stages, model())));
    call.on_logits = take;
    // In host memory the logits of a variant stay in its part of the arena.
    uint8_t * const arena = static_cast<uint8_t *>(lane.arena()) + (lane.aliases() ? v * plan.head_arena_bytes : 0);
    return work.runner->run(call, arena, plan.head_arena_bytes);
}

// Logits of the only variant to memory of the caller: the device computes a piece while the host writes the one before.
Status LayerPass::State::write_logits(Work & work, const PassGroup & group, const PassHooks & hooks) {
    const TextModelSizes & sizes = model().sizes();
    Lane & lane = *work.lane;
    const int64_t end = work.share.begin + work.share.positions, half = plan.head_positions / sizes.head_rows / 2;
    const bool alternates = !lane.aliases() && half > 0; // between two places
    const int64_t each = alternates ? half * sizes.head_rows : plan.head_positions;
    struct Piece {
        int64_t first = 0, count = 0; // 0: none
        Lane::FetchedLogits logits;
    };
    const auto write = [&](const Piece & piece) -> Status {
        if (piece.count == 0) return {};
        float * const to = hooks.logits_to.data() + piece.first / sizes.head_rows * sizes.vocabulary;
        GNV_TRY(lane.write_logits(piece.logits, to, *threads));
        return advance(piece.count, hooks);
    };
    Piece last;
    size_t place = 0;
    for (int64_t first = work.share.begin; first < end; first += each) {
        Piece piece{first, std::min(each, end - first), {}};
        GNV_TRY(compute_logits(work, 0, group, first, piece.count, [&](const Tensor & logits) -> Status {
            piece.logits = lane.fetch_logits(logits, place);
            return {};
        }));
        if (alternates) {
            std::swap(piece, last);
            place = 1 - place;
        }
        GNV_TRY(write(piece));
    }
    return write(last);
}

// The outer loop runs over positions, the inner over variants, so that memory holds the logits of a few positions. Lane
// by lane, because hooks get positions in order.
Status LayerPass::State::run_head(const PassGroup & group, const PassHooks & hooks) {
    const TextModelSizes & sizes = model().sizes();
    GNV_CHECK(hooks.logits_to.empty() ||
              (variants.size() == 1 && !hooks.on_logits &&
               int64_t(hooks.logits_to.size()) == plan.store.positions / sizes.head_rows * sizes.vocabulary));
    for (Work & work : lanes) {
        if (!hooks.logits_to.empty()) {
            GNV_TRY(write_logits(work, group, hooks));
            continue;
        }
        const int64_t end = work.share.begin + work.share.positions;
        for (int64_t first = work.share.begin; first < end; first += plan.head_positions) {
            const int64_t count = std::min(plan.head_positions, end - first);
            std::vector<Tensor> side_by_side(variants.size());
            for (size_t v = 0; v < variants.size(); v++)
                GNV_TRY(compute_logits(work, v, group, first, count, [&](const Tensor & logits) -> Status {
                    GNV_ASSIGN(side_by_side[v], work.lane->show_logits(logits, v, *threads));
                    return {};
                }));
            if (hooks.on_logits) GNV_TRY(hooks.on_logits(first, side_by_side));
            GNV_TRY(advance(count * int64_t(variants.size()), hooks));
        }
    }
    return {};
}

} // namespace gnv
