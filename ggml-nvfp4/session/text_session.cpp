#include "session/text_session.h"

#include "core/clock.h"
#include "exec/host_tensor.h"
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

// Work of one device may wait for that of another.
TextSession::State::~State() {
    (void)synchronize();
    for (SessionPlace & place : places) place.upload.reset();
}

SessionPlace & TextSession::State::place_of(size_t group) {
    for (SessionPlace & place : places)
        if (group < place.end) return place;
    return places.back();
}

Status TextSession::State::synchronize() {
    Status first;
    for (SessionPlace & place : places) {
        Status status = place.device->synchronize();
        if (first.ok()) first = std::move(status);
    }
    return first;
}

Result<std::unique_ptr<TextSession>> TextSession::create(const TextVariant & variant, std::vector<Backend *> devices,
                                                         ThreadPool & threads, const SessionOptions & options) {
    GNV_CHECK(!devices.empty());
    const int64_t most = variant.model->sizes().max_positions;
    if (options.capacity > most)
        return fail(Code::invalid_argument, options.capacity, " positions are wanted, the model has ", most);
    std::unique_ptr<State> state(new State);
    state->variant = variant;
    state->threads = &threads;
    state->options = options;
    for (Backend * const device : devices) {
        SessionPlace & place = state->places.emplace_back();
        place.device = device;
        place.upload = std::make_unique<WeightUpload>(*device);
    }
    GNV_TRY(state->choose_plan());
    if (Status status = state->allocate(); !status.ok()) return state->explain_shortage(std::move(status));
    state->options.on_load = {}; // its captures may end now
    return std::unique_ptr<TextSession>(new TextSession(std::move(state)));
}

TextSession::TextSession(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextSession::~TextSession() = default;

std::vector<SessionShare> TextSession::shares() const {
    std::vector<SessionShare> list;
    const State & state = *state_;
    for (const SessionPlace & place : state.places) {
        const bool embeds = place.first == 0, has_head = place.end == state.groups.size();
        const Budget all = place.aliases()
                               ? place.budget
                               : state.with_groups(place, state.arena_bytes, state.hidden_bytes, state.inputs_bytes);
        list.push_back({place.device->device().label(), int32_t(place.first) - 1 + embeds,
                        int32_t(place.end - place.first) - embeds - has_head, embeds, has_head, place.weight_bytes,
                        all.used(), all.total()});
    }
    return list;
}

int64_t TextSession::vocabulary() const { return state_->model().sizes().vocabulary; }
bool TextSession::weights_stay() const { return state_->stay && !state_->experts; }
int64_t TextSession::cached_experts() const { return state_->experts ? state_->experts->size().places : 0; }
std::string TextSession::placement() const { return state_->placement(); }
int64_t TextSession::past() const { return state_->past; }
int32_t TextSession::next_position() const { return state_->next_position.front(); }
int64_t TextSession::piece() const { return state_->piece; }
uint64_t TextSession::cache_bytes() const {
    uint64_t sum = 0;
    for (const SessionPlace & place : state_->places) sum += place.cache_bytes + place.pool_bytes;
    return sum;
}
uint64_t TextSession::saved_bytes() const {
    double sum = 0;
    for (const WeightGroup & group : state_->groups)
        sum += group.saved_bytes(state_->model().sizes().experts_per_token);
    return uint64_t(sum);
}
uint64_t TextSession::draft_bytes() const { return state_->drafting ? state_->drafting->bytes : 0; }
std::span<const int32_t> TextSession::ahead() const {
    if (!state_->drafting) return {};
    return std::span(state_->drafting->ids).subspan(size_t(state_->drafting->taken));
}
void TextSession::begin_drafting() {
    if (state_->drafting) state_->drafting->counts = {};
}
const DraftCounts & TextSession::draft_counts() const {
    static constexpr DraftCounts none;
    return state_->drafting ? state_->drafting->counts : none;
}

void TextSession::reset() {
    state_->states.reset();
    if (state_->drafting) {
        state_->drafting->forget();
        state_->drafting->past = 0;
    }
    state_->past = 0;
    std::fill(state_->next_position.begin(), state_->next_position.end(), 0);
}

// Where the sequence does not say its positions, texts go on from where they are.
void TextSession::State::set_positions(const TextSequence & sequence, BatchInputs & batch) const {
    if (!sequence.positions.empty()) return;
    const auto total = size_t(batch.shape.positions);
    for (size_t s = 0; s < next_position.size(); s++)
        for (size_t axis = 0; axis < 3; axis++)
            for (auto t = size_t(batch.segments[s]); t < size_t(batch.segments[s + 1]); t++)
                batch.positions[axis * total + t] += next_position[s];
}

void TextSession::State::go_on(const BatchInputs & batch, int64_t length) {
    const auto total = size_t(batch.shape.positions);
    for (size_t s = 0; s < next_position.size(); s++)
        for (size_t axis = 0; axis < 3; axis++)
            for (auto t = size_t(batch.segments[s]); t < size_t(batch.segments[s + 1]); t++)
                next_position[s] = std::max(next_position[s], batch.positions[axis * total + t] + 1);
    past += length;
}

// Brings the weights of a group to their device. While a device works with them, those of the next group are read;
// after the last group the first follows. On the CPU they are read on demand.
Status TextSession::State::bring(size_t g, const std::function<Status()> & tell) {
    const auto memory = [&](size_t group) { return weights[stay ? group : 0].get(); };
    const auto start = [&](size_t group) -> Status {
        for (SessionPlace & place : places) GNV_TRY(place.upload->expect(*stream));
        next = group;
        return stream->start({{groups[group], variant.weights, variant.files}}, aliases() ? memory(group) : nullptr);
    };
    if (next != g) GNV_TRY(start(g));
    next.reset();
    GNV_TRY(stream->wait(tell));
    GNV_TRY(stream->finish());
    groups[g] = place_of(g).upload->finish(*stream, memory(g)).front();
    const size_t following = (g + 1) % groups.size();
    return stay && following == 0 ? Status() : start(following);
}

void TextSession::State::follow_hidden(size_t g, const BatchShape & shape) {
    if (g == 0 || g != place_of(g).first) return;
    SessionPlace &to = place_of(g), &from = place_of(g - 1);
    const std::unique_ptr<Fence> made = from.device->fence(Queue::compute);
    to.device->wait(Queue::compute, *made);
    to.device->copy_from(*from.device, to.hidden.get(), from.hidden.get(), hidden_bytes_of(shape));
}

Result<std::vector<DeviceBatch>> TextSession::State::upload_inputs(const BatchInputs & batch,
                                                                   const AllowedIds & allowed_ids) {
    std::vector<DeviceBatch> list;
    for (SessionPlace & place : places) {
        GNV_ASSIGN(DeviceBatch there, place.inputs.upload(*place.device, batch, *threads));
        list.push_back(there);
    }
    list.back().allowed = allowed_ids.place();
    return list;
}

Status TextSession::State::run_group(size_t g, const BatchInputs & batch, const DeviceBatch & there,
                                     const Request & request, const std::function<Status()> & tell,
                                     const Results & results) {
    if (!stay) GNV_TRY(bring(g, tell));
    follow_hidden(g, batch.shape);
    SessionPlace & place = place_of(g);
    Backend & here = *place.device;
    BatchShape shape = batch.shape;
    if (!read_given(stages[g])) shape.given_rows = shape.given_columns = 0; // one graph, with or without pictures
    shape = shape_on(g, shape);
    StageCall call{variant, stages[g], groups[g], shape, there};
    give_experts(g, call);
    call.fields[hidden_field] = place.hidden.get();
    call.states = &states;
    if (request.on_tap)
        call.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
            const bool wanted =
                request.taps.empty() || std::find(request.taps.begin(), request.taps.end(), tap) != request.taps.end();
            if (!wanted) return {};
            if (aliases()) return request.on_tap(tap, tensor);
            GNV_ASSIGN(const HostTensor host, download_tensor(here, tensor));
            return request.on_tap(tap, host.tensor);
        };
    const bool is_last = g + 1 == groups.size();
    if (is_last) {
        call.on_logits = [&](const Tensor & tensor) -> Status {
            GNV_ASSIGN(HostTensor host, download_tensor(here, tensor));
            *results.logits = std::move(host.memory);
            return {};
        };
        call.on_largest = [&](const Tensor & ids, const Tensor & logits) -> Status {
            GNV_ASSIGN(const std::vector<LargestLogit> found, chosen_rows.download(here, ids, logits));
            results.largest->insert(results.largest->end(), found.begin(), found.end());
            return {};
        };
        call.on_top = [&](const Tensor & ids, const Tensor & logits, const Tensor & all) {
            return take_logits(here, ids, logits, all, {{{results.some, results.is_enough}}});
        };
    }
    if (drafting && shape.as_steps) call.kept_rows = &drafting->kept;
    if (results.draw && is_last) return draw_runner->run(call, place.arena.get(), arena_bytes);
    if (results.some && is_last) return top_runner->run(call, place.arena.get(), arena_bytes);
    StageRunner & largest = shape.as_steps ? *drafting->largest_of_all : *largest_runner;
    StageRunner & runner = results.largest && is_last ? largest : *place.runners[request.all_logits];
    return runner.run(call, place.arena.get(), arena_bytes);
}

Status take_logits(Backend & device, const Tensor & ids, const Tensor & logits, const Tensor & all,
                   std::span<const LogitRow> rows) {
    const auto width = size_t(ids.shape.last()), most = width - 1;
    std::vector<int32_t> found(rows.size() * width);
    std::vector<float> numbers(rows.size() * most);
    device.download(found.data(), ids.data, found.size() * sizeof(int32_t));
    device.download(numbers.data(), logits.data, numbers.size() * sizeof(float));
    GNV_TRY(device.synchronize());
    for (size_t r = 0; r < rows.size(); r++) {
        SomeLogits & some = *rows[r].some;
        const int32_t * const first = found.data() + r * width + 1;
        const auto count = size_t(first[-1]);
        if (count > 0 && count <= most) {
            some.ids.assign(first, first + count);
            some.logits.assign(numbers.data() + r * most, numbers.data() + r * most + count);
            if ((*rows[r].is_enough)(some)) continue;
        }
        Tensor row = all;
        row.shape = {1, all.shape.last()};
        row.data = all.as<uint8_t>() + r * tensor_bytes(all.dtype, row.shape);
        GNV_ASSIGN(HostTensor host, download_tensor(device, row));
        some.ids.clear();
        some.logits = std::move(host.memory);
    }
    return {};
}

Status AllowedIds::set(Backend & device, bool aliases, std::span<const uint8_t> given) {
    ids.assign(given.begin(), given.end());
    any = std::find_if(ids.begin(), ids.end(), [](uint8_t is) { return is != 0; }) != ids.end();
    if (aliases) return {};
    if (!copy) {
        GNV_ASSIGN(copy, device.allocate(ids.size()));
    }
    device.upload(copy.get(), ids.data(), ids.size());
    return device.synchronize();
}

Status TextSession::allow(std::span<const uint8_t> ids) {
    GNV_CHECK(int64_t(ids.size()) == vocabulary());
    return state_->allowed.set(*state_->last().device, state_->aliases(), ids);
}

Result<std::vector<float>> TextSession::run(const TextSequence & sequence, const Request & request) {
    std::vector<float> logits;
    GNV_TRY(run(sequence, request, {&logits}));
    return logits;
}

Result<std::vector<LargestLogit>> TextSession::run_to_largest(const TextSequence & sequence, const Request & request) {
    GNV_CHECK(!request.all_logits && !state_->allowed.ids.empty());
    std::vector<LargestLogit> largest;
    GNV_TRY(run(sequence, request, {nullptr, &largest}));
    return largest;
}

Result<SomeLogits> TextSession::run_to_pick(const TextSequence & sequence, const Request & request,
                                            const IsEnough & is_enough) {
    SomeLogits some;
    if (state_->aliases() || request.drafts >= 0) { // they are here, or those of a pass ahead are kept
        GNV_TRY(run(sequence, request, {&some.logits}));
        return some;
    }
    GNV_CHECK(!request.all_logits && !state_->allowed.ids.empty() && state_->options.segments == 1);
    GNV_TRY(run(sequence, request, {nullptr, nullptr, &some, &is_enough}));
    return some;
}

Result<LargestLogit> TextSession::run_to_draw(const TextSequence & sequence, const Request & request,
                                              const Draw & draw) {
    GNV_CHECK(!request.all_logits && !state_->allowed.ids.empty() && state_->options.segments == 1 &&
              request.drafts < 0);
    std::vector<LargestLogit> drawn;
    GNV_TRY(run(sequence, request, {nullptr, &drawn, nullptr, nullptr, &draw}));
    return drawn.front();
}

Status TextSession::run(const TextSequence & sequence, const Request & request, const Results & results) {
    State & state = *state_;
    GNV_TRY(check_sequence(sequence, 0, state.model().sizes(), state.past));
    BatchInputs inputs = make_batch(&sequence, 1);
    const StateExtents & extents = state.states.extents();
    if (inputs.shape.segments != extents.texts)
        return fail(Code::invalid_argument, "the session runs ", extents.texts, " texts, ", inputs.shape.segments,
                    " are given");
    const int64_t length = inputs.shape.positions / inputs.shape.segments;
    if (state.past + length > extents.capacity)
        return fail(Code::invalid_argument, "the caches hold ", extents.capacity, " positions, ", state.past + length,
                    " are needed");
    Drafting * const drafting = state.drafting ? &*state.drafting : nullptr;
    const bool follows = drafting && request.drafts >= 0;
    const bool is_token = follows && length == 1 && sequence.given.empty() && sequence.positions.empty() &&
                          !request.all_logits && !request.on_tap;
    if (is_token && state.take_ahead(sequence.ids.front(), results)) {
        const bool go_on = !request.on_progress || request.on_progress(1, 1);
        return go_on ? Status() : Status(Code::cancelled, "stopped on request");
    }
    const auto start = Clock::now();
    TextSequence whole; // with guesses, which are not known yet
    if (is_token) {
        const int64_t most = std::min({request.drafts, most_drafts, extents.capacity - state.past - 1});
        const int64_t guesses = state.guesses_for(most);
        if (guesses > 0) whole.ids.assign(size_t(guesses) + 1, sequence.ids.front());
    }
    const bool is_ahead = !whole.ids.empty();
    if (is_ahead) {
        inputs = make_batch(&whole, 1);
        inputs.shape.as_steps = true;
    }
    inputs.shape.cached = true;
    inputs.shape.capacity = extents.capacity;
    inputs.shape.cache = state.options.cache;
    inputs.past.assign(size_t(inputs.shape.segments), int32_t(state.past));
    state.set_positions(sequence, inputs);
    if (results.draw) inputs.draws = {*results.draw};
    if (drafting) GNV_TRY(state.catch_up(inputs, follows && inputs.ids.front() >= 0, results.logits != nullptr));
    if (is_ahead) {
        GNV_TRY(state.run_ahead(inputs, request, results));
        if (drafting->is_timed) drafting->counts.draft_seconds += seconds_since(start);
        return {};
    }
    if (is_token) GNV_TRY(state.synchronize()); // the draft head is no part of the time of a token
    const auto pass = Clock::now();
    GNV_TRY(state.run_groups(inputs, request, results));
    state.go_on(inputs, length);
    if (follows && inputs.shape.given_rows == 0) state.remember(inputs, length);
    if (is_token && state.is_measure(1)) {
        drafting->counts.timed_plain++;
        drafting->counts.plain_seconds += seconds_since(pass);
    }
    return {};
}

Status TextSession::State::run_groups(const BatchInputs & batch, const Request & request, const Results & results,
                                      const DeviceBatch * given) {
    std::vector<DeviceBatch> there;
    if (given) {
        there = {*given};
    } else {
        GNV_TRY(synchronize()); // before memory is replaced
        GNV_TRY(make_room(batch.shape, request.all_logits));
        GNV_ASSIGN(there, upload_inputs(batch, allowed));
    }
    const auto count = int64_t(groups.size()), positions = batch.shape.positions;
    const int64_t length = positions / batch.shape.segments;
    int64_t done = 0; // groups
    const auto tell = [&]() -> Status {
        const bool go_on = !request.on_progress || request.on_progress(done * positions, count * positions);
        return go_on ? Status() : Status(Code::cancelled, "stopped on request");
    };
    // Work for a device is queued at most one group ahead, so that a stop takes effect soon.
    const bool waits = !aliases() && request.on_progress && length > piece;
    for (; done < count; done++) {
        GNV_TRY(tell());
        const SessionPlace & place = place_of(size_t(done));
        GNV_TRY(run_group(size_t(done), batch, there[size_t(&place - places.data())], request, tell, results));
        if (waits) GNV_TRY(place.device->synchronize());
    }
    return tell();
}

} // namespace gnv
