// The base of the classes that write a family's graphs: it adds the ops of one block and binds weights, inputs of the
// batch, taps and statistics. T: positions of a batch.
#pragma once

#include "model/text_model.h"

#include <span>
#include <string>
#include <vector>

namespace gnv {

class BlockWriter {
  public:
    BlockWriter(const ModelNames & names, StageBuilder & builder, const Stage & stage)
        : b_(builder), g_(builder.graph), part_(stage.part), layer_(stage.layer), names_(names) {}

    ValueId tapped(ValueId value, int32_t site) {
        g_.tap(value, tap(site));
        return value;
    }
    ValueId add(ValueId a, ValueId b, int32_t site) { return g_.add(AddParams{}, {a, b}, name(site)); }
    ValueId rms_norm(ValueId x, Role role, int32_t site, const RmsNormParams & params) {
        return tapped(g_.add(params, {x, weight({role, layer_})}, name(site)), site);
    }

    // Takes the requested statistics of x [.., groups * K], which holds groups [first_group, first_group + groups) of
    // an input of Linears; offsets: see ObserveParams.
    void observe(ValueId x, int32_t input, int32_t first_group = 0, int32_t groups = 1, ValueId offsets = no_value);
    // The same of rows that a router chose: the slots of a stage's experts, with their weights f32 [T, k].
    struct Routed {
        ValueId slots, offsets, weights;
        GroupedLinearParams::Row row; // of x
        int64_t slots_per_token;
    };
    void observe_routed(ValueId x, int32_t input, const Stage & stage, const Routed & routed);
    // SiLU(gate) * up, observed.
    ValueId activation(ValueId gate, ValueId up, const char * what, int32_t input, int32_t first_group = 0,
                       int32_t groups = 1, ValueId offsets = no_value);
    // expert_inputs of a stage's experts, where the device joins it and nothing but the maximum is asked of `input`; else no_value.
    ValueId joined_inputs(ValueId x, const Stage & stage, ValueId slots, ValueId offsets, int64_t slots_per_token,
                          int32_t input);
    // Counts the positions that chose each expert, on request.
    void count_experts(ValueId indices, int32_t input, int32_t experts);

  protected:
    std::string where(const char * what) const { return concat("layer ", layer_, " ", what); }
    std::string name(int32_t site) const { return tap_name(names_, tap(site)); }

    // The part of a reference is ignored: it is this block's.
    ValueId weight(WeightRef ref) {
        ref.part = part_;
        return weight_of_part(ref);
    }
    ValueId input_scale(WeightRef ref) {
        ref.part = part_;
        return input_scale_of_part(ref);
    }
    ValueId weight_of_part(const WeightRef & ref);
    ValueId input_scale_of_part(const WeightRef & ref);
    ValueId linear(ValueId x, Role role, int32_t site) {
        const WeightRef ref = {role, layer_};
        return tapped(g_.add(LinearParams{b_.batch.has_few_rows()}, {x, weight(ref), input_scale(ref)}, name(site)),
                      site);
    }
    ValueId linear_with_bias(ValueId x, Role role, Role bias, int32_t site) {
        const WeightRef ref = {role, layer_};
        return tapped(g_.add(LinearParams{}, {x, weight(ref), input_scale(ref), weight({bias, layer_})}, name(site)),
                      site);
    }
    // Of a stage's experts, whose weights are in memory, or after fetch_experts() of their roles in a cache.
    ValueId grouped_linear(ValueId x, Role role, const Stage & stage, ValueId slots, ValueId offsets,
                           GroupedLinearParams params);
    // Brings the chosen ones to the caches, if the batch has such; three roles at most.
    void fetch_experts(const Stage & stage, ValueId offsets, std::span<const Role> roles);
    ValueId state(int32_t index, const char * state_name, Shape shape, DType dtype = DType::f32) {
        if (!b_.batch.cached) return no_value;
        const ValueId value = g_.state(state_name, dtype, shape);
        b_.bound_states.push_back({layer_, index, value});
        return value;
    }

    // Rows for a replay: `made` in a pass that keeps them; in a replay those of that pass, and `made` is no value.
    ValueId kept_rows(int32_t index, ValueId made, const char * rows_name, int64_t columns) {
        if (made == no_value) made = g_.input(rows_name, g_.activation_dtype(), {b_.batch.positions, columns});
        b_.bound_rows.push_back({layer_, index, made});
        return made;
    }

    ValueId ids() { return batch_input(b_.ids, "ids", DType::i32, {b_.batch.positions}); }
    ValueId positions() { return batch_input(b_.positions, "positions", DType::i32, {3, b_.batch.positions}); }
    ValueId segments() { return batch_input(b_.segments, "segments", DType::i32, {b_.batch.segments + 1}); }
    ValueId mask() {
        return b_.batch.masked ? batch_input(b_.mask, "mask", DType::u8, {b_.batch.positions}) : no_value;
    }
    ValueId past() {
        return b_.batch.cached ? batch_input(b_.past, "past", DType::i32, {b_.batch.segments}) : no_value;
    }
    ValueId last_positions() {
        const int64_t asked = b_.batch.asked < 0 ? b_.batch.segments : b_.batch.asked;
        return batch_input(b_.last_positions, "last positions", DType::i32, {asked});
    }
    // Where texts share states: those of each segment.
    ValueId slots() {
        return b_.batch.slots > 0 ? batch_input(b_.slots, "slots", DType::i32, {b_.batch.segments}) : no_value;
    }
    ValueId pages() {
        if (b_.batch.pages == 0) return no_value;
        return batch_input(b_.pages, "pages", DType::i32, {b_.batch.segments, b_.batch.capacity / cache_page});
    }
    // Entries of a state, and the shape of a cache whose rows have `columns`.
    int64_t state_entries() const { return b_.batch.slots > 0 ? b_.batch.slots : b_.batch.segments; }
    Shape cache_shape(int64_t columns) const {
        if (b_.batch.pages > 0) return {b_.batch.pages, cache_page, columns};
        return {b_.batch.segments, b_.batch.capacity, columns};
    }
    ValueId given() {
        if (b_.batch.given_rows == 0) return no_value;
        return batch_input(b_.given, "given rows", g_.activation_dtype(),
                           {b_.batch.given_rows, b_.batch.given_columns});
    }
    ValueId pairs() { return batch_input(b_.pairs, "pairs", DType::i32, {2 * b_.batch.positions}); }
    ValueId extents() { return batch_input(b_.extents, "extents", DType::i32, {2, b_.batch.positions}); }

    StageBuilder & b_;
    Graph & g_;
    const Part part_;
    const int32_t layer_;

  private:
    Tap tap(int32_t site) const { return {names_.sites[size_t(site)].in_block ? layer_ : -1, site, int32_t(part_)}; }
    ValueId batch_input(ValueId & value, const char * input_name, DType dtype, Shape shape) {
        if (value == no_value) value = g_.input(input_name, dtype, shape);
        return value;
    }
    std::vector<const Statistic *> asked(int32_t input) const;
    ValueId total(const Statistic & statistic, int32_t input, int32_t first_group, int32_t groups, int64_t width);

    const ModelNames & names_;
    struct Cached {
        Role role;
        ValueId weight;
    };
    std::vector<Cached> cached_; // experts
    ValueId places_ = no_value;  // of them
};

} // namespace gnv
