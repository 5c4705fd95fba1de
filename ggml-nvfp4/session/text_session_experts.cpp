// A session whose device has no room for the experts: what of them lies where (run/host_experts.h).
#include "core/strings.h"
#include "session/text_session_state.h"

#include <algorithm>

namespace gnv {

Result<bool> TextSession::State::keep_experts_in_host(const Budget & host) {
    if (!device().reads_host()) return false;
    GNV_ASSIGN(experts, HostExperts::plan(model(), *variant.weights));
    if (!experts) return false;
    GNV_TRY(cut_groups());
    host_needed = experts->host_bytes() + device_aligned(groups.front().bytes()) + largest_group;
    if (host_needed > host.total()) return false;
    // The device's kernels, asked with the shape of a token.
    experts->set_size({experts->experts(), 1});
    StageRunner planner(device(), stage_options(false));
    const Result<uint64_t> asked = planner.arena_bytes(variant, stages[1], shape_on(1, shape_of(options.segments)));
    if (asked.ok()) return true;
    if (asked.status().code() != Code::unsupported) return copy_of(asked.status());
    host_needed = 0;
    return false;
}

// With long pieces a prompt brings experts less often, and tokens bring them more often: fewer have a place then.
bool TextSession::State::size_experts(bool is_last) {
    const SessionPlace & place = places.front();
    experts->set_size({0, 0});
    const Budget others = with_groups(place, arena_bytes, hidden_bytes, inputs_bytes);
    const uint64_t for_experts = others.left() / 16 * 15; // the rest is for passes with the logits of all positions
    const int64_t texts = std::max(options.segments, std::min<int64_t>(options.pool_texts, 4)); // that go on together
    const int64_t chosen = model().sizes().experts_per_token * (is_last ? options.segments : texts);
    const int64_t least = std::min(experts->experts(), is_last ? chosen : std::max(chosen, experts->experts() / 16));
    device_needed = others.used() + (experts->device_bytes({least, 1}) / 15 + 1) * 16;
    experts->set_size(experts->size_within(for_experts, least));
    return others.fits() && experts->size().places > 0;
}

BatchShape TextSession::State::shape_on(size_t group, const BatchShape & shape) const {
    BatchShape on_group = shape;
    if (experts && experts->has(int32_t(group) - 1)) on_group.expert_places = experts->places_for(shape);
    return on_group;
}

void TextSession::State::give_experts(size_t group, StageCall & call) {
    const int32_t layer = int32_t(group) - 1;
    if (!experts || !experts->has(layer)) return;
    const bool is_cached = call.shape.expert_places > 0;
    call.more_weights = {is_cached ? &experts->in_host(layer) : &experts->bring(layer), 1};
    if (is_cached) call.experts = experts.get();
}

Status TextSession::State::load_to_host(size_t group) {
    if (!is_in_host(group))
        return experts->has(int32_t(group) - 1) ? experts->load(int32_t(group) - 1, *variant.files, *threads)
                                                : Status();
    GNV_ASSIGN(embedding, device().allocate_host(groups[group].bytes()));
    groups[group] = groups[group].at(embedding.get());
    return groups[group].read_all(*variant.weights, *variant.files, *threads, device().trace());
}

std::string TextSession::State::placement() const {
    if (experts)
        return concat("experts (", bytes_text(experts->host_bytes()), ") and the embedding are in host memory; ",
                      experts->size().places, " of ", experts->experts(), " experts of each layer (",
                      bytes_text(experts->device_bytes({experts->size().places, 0})),
                      ") have a place in that of the device, which holds the other weights (", bytes_text(weight_bytes),
                      ")");
    if (stay || host_needed == 0) return {};
    return concat("weights are read for every call; experts would stay in host memory if the budget of that were ",
                  bytes_text(host_needed),
                  device_needed == 0 ? std::string()
                                     : concat(", and that of the memory of ", device().device().name, " ",
                                              device_needed, " bytes (", bytes_text(device_needed), ")"));
}

// Memory that was free when the plan was made may be taken since.
Status TextSession::State::explain_shortage(Status status) const {
    if (status.code() != Code::out_of_memory || aliases()) return status;
    std::string message = status.message();
    for (const SessionPlace & place : places) {
        const Result<uint64_t> available = place.device->free_bytes();
        const uint64_t planned = with_groups(place, arena_bytes, hidden_bytes, inputs_bytes).used();
        if (available.ok())
            message +=
                concat("; the plan takes ", bytes_text(planned), " of the memory of ", place.device->device().label(),
                       ", ", bytes_text(available.value()), " are free now beside what this run has");
    }
    if (experts) message += concat("; it takes ", bytes_text(host_needed), " of host memory");
    return fail(Code::out_of_memory, message,
                ": if another process took memory since the plan was made, run again, or give a smaller budget");
}

} // namespace gnv
