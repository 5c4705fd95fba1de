#include "graph/op_rules.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <cmath>

namespace gnv {

namespace {

constexpr uint32_t bit(int i) { return uint32_t(1) << i; }

// --- Checks of inputs ------------------------------------------------------------------------------------------------

bool is(const Value & value, DType dtype, const Shape & shape) { return value.dtype == dtype && value.shape == shape; }
bool is_f32(const Value & value) { return value.dtype == DType::f32 && value.shape.rank >= 1; }
// Activations are F32 on the CPU and BF16 on other devices; sums that go on are F32 everywhere.
bool is_activation(const Value & value) {
    return (value.dtype == DType::f32 || value.dtype == DType::bf16) && value.shape.rank >= 1;
}
bool is_matrix(const Value & value) { return is_activation(value) && value.shape.rank == 2; }
bool is_like(const Value & value, const Value & other) {
    return value.dtype == other.dtype && value.shape == other.shape;
}
OutputSpec fixed(DType dtype, Shape shape) { return {shape, false, dtype}; }
bool is_mask(const Value & value, int64_t rows) { return is(value, DType::u8, {rows}); }
bool is_segments(const Value & value) {
    return value.dtype == DType::i32 && value.shape.rank == 1 && value.shape[0] >= 2;
}
bool is_linear_weight(const Value & value, int rank) {
    const bool type = value.dtype == DType::f32 || value.dtype == DType::bf16 || value.dtype == DType::f4;
    return type && value.shape.rank == rank &&
           (value.dtype != DType::f4 || value.shape.last() % nvfp4::block_size == 0);
}

Shape with_last(Shape shape, int64_t last) {
    shape.dims[shape.rank - 1] = last;
    return shape;
}

double elements(const Value & value) { return double(value.shape.elements()); }

// --- Rows ------------------------------------------------------------------------------------------------------------

const char * check_embedding(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (in[0].dtype != DType::i32 || in[0].shape.rank != 1) return "ids must be i32 [T]";
    if (in[1].shape.rank != 2 || (in[1].dtype != DType::bf16 && in[1].dtype != DType::f32))
        return "the table must be BF16 or F32 [V, H]";
    if (in.has(2) && (!is_matrix(in[2]) || in[2].shape[1] != in[1].shape[1])) return "given rows must be [G, H]";
    out[0].shape = {in[0].shape[0], in[1].shape[1]};
    return nullptr;
}
// Rows of the table, not all of it.
double bytes_embedding(const OpParams &, const RuleInputs &, double made) { return 2 * made; }
constexpr OpRule embedding_rule = {.inputs = 3, .optional = bit(2), .check = check_embedding, .bytes = bytes_embedding};

const char * check_grid_embedding(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_f32(in[0]) || in[0].shape.rank != 2) return "the table must be F32 [side * side, H]";
    const auto side = int64_t(std::llround(std::sqrt(double(in[0].shape[0]))));
    if (side < 1 || side * side != in[0].shape[0]) return "the table's rows are no square number";
    if (in[1].dtype != DType::i32 || in[1].shape.rank != 2 || in[1].shape[0] != 3)
        return "positions must be i32 [3, T]";
    if (!is(in[2], DType::i32, {2, in[1].shape[1]})) return "extents must be i32 [2, T]";
    out[0].shape = {in[1].shape[1], in[0].shape[1]};
    return nullptr;
}
double flops_grid_embedding(const OpParams &, const RuleInputs & in) {
    return 8 * double(in[1].shape[1]) * double(in[0].shape[1]);
}
constexpr OpRule grid_embedding_rule = {.inputs = 3, .check = check_grid_embedding, .flops = flops_grid_embedding};

const char * check_columns(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const ColumnsParams & columns = std::get<ColumnsParams>(params);
    if (!is_activation(in[0])) return "x must be numbers";
    if (columns.first < 0 || columns.count < 1 || columns.first + columns.count > in[0].shape.last())
        return "columns that the row does not have";
    out[0].shape = with_last(in[0].shape, columns.count);
    return nullptr;
}
double bytes_columns(const OpParams &, const RuleInputs &, double made) { return 2 * made; }
constexpr OpRule columns_rule = {.inputs = 1, .check = check_columns, .bytes = bytes_columns};

const char * check_mask_rows(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_matrix(in[0]) || !is_mask(in[1], in[0].shape[0])) return "x must be [T, H], the mask u8 [T]";
    out[0].shape = in[0].shape;
    return nullptr;
}
constexpr OpRule mask_rows_rule = {.inputs = 2, .check = check_mask_rows};

const char * check_rms_norm(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_activation(in[0]) || !is_f32(in[1]) || in[1].shape.rank != 1)
        return "x must be numbers, the weight F32 [D]";
    if (in[1].shape[0] > in[0].shape.last()) return "rows are shorter than the weight";
    out[0].shape = with_last(in[0].shape, in[1].shape[0]);
    return nullptr;
}
double bytes_rms_norm(const OpParams &, const RuleInputs & in, double made) { // the first columns of x, not all of them
    return 2 * made + double(tensor_bytes(in[1].dtype, in[1].shape));
}
constexpr OpRule rms_norm_rule = {.inputs = 2, .check = check_rms_norm, .bytes = bytes_rms_norm};

const char * check_gated_rms_norm(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_activation(in[0]) || !is(in[1], DType::f32, {in[0].shape.last()}))
        return "o must be [.., D], the weight F32 [D]";
    if (in[2].dtype != in[0].dtype || in[2].shape.elements() != in[0].shape.elements())
        return "z must have as many elements as o";
    out[0].shape = in[0].shape;
    return nullptr;
}
constexpr OpRule gated_rms_norm_rule = {.inputs = 3, .check = check_gated_rms_norm};

const char * check_layer_norm(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_activation(in[0])) return "x must be numbers";
    const Shape row = {in[0].shape.last()};
    if (!is(in[1], DType::f32, row) || !is(in[2], DType::f32, row)) return "weight and bias must be F32 [D]";
    out[0].shape = in[0].shape;
    return nullptr;
}
constexpr OpRule layer_norm_rule = {.inputs = 3, .check = check_layer_norm};

const char * check_gelu(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_activation(in[0])) return "x must be numbers";
    out[0].shape = in[0].shape;
    return nullptr;
}
constexpr OpRule gelu_rule = {.inputs = 1, .check = check_gelu};

const char * check_same(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_activation(in[0]) || !is_activation(in[1]) || !(in[0].shape == in[1].shape))
        return "both inputs must be numbers of one shape";
    out[0].shape = in[0].shape;
    return nullptr;
}
constexpr OpRule add_rule = {.inputs = 2, .check = check_same};

const char * check_sigmoid_gate(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const int64_t column = std::get<SigmoidGateParams>(params).column;
    if (!is_activation(in[0]) || in[1].dtype != in[0].dtype || in[0].shape.rows() != in[1].shape.rows())
        return "row counts or dtypes differ";
    const int64_t width = in[1].shape.last() - column;
    if (column < 0 || (width != in[0].shape.last() && width != 1)) return "the gate's columns do not fit";
    out[0].shape = in[0].shape;
    return nullptr;
}
double bytes_sigmoid_gate(const OpParams & params, const RuleInputs & in,
                          double made) { // the columns of g that are used
    const int64_t width = in[0].shape.last();
    const bool one = in[1].shape.last() == std::get<SigmoidGateParams>(params).column + 1;
    return 2 * made + (one ? made / double(width) : made);
}
constexpr OpRule sigmoid_gate_rule = {.inputs = 2, .check = check_sigmoid_gate, .bytes = bytes_sigmoid_gate};

const char * check_rope(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const RopeParams & rope = std::get<RopeParams>(params);
    if (!is_matrix(in[0]) || !is(in[1], DType::i32, {3, in[0].shape[0]}))
        return "x must be [T, S], positions i32 [3, T]";
    const int64_t left = in[0].shape[1] - rope.column;
    if (rope.head <= 0 || (rope.heads == 0 && left % rope.head != 0)) return "the head size does not divide the row";
    if (rope.column < 0 || left < 1 || rope.heads < 0 || rope.heads * rope.head > left)
        return "columns that the row does not have";
    if (rope.rotary < 2 || rope.rotary % (rope.axial ? 4 : 2) != 0 || rope.rotary > rope.head)
        return "rotary must be even, of two axes a multiple of 4, and at most a head";
    out[0].shape = {in[0].shape[0], rope.heads > 0 ? rope.heads * rope.head : left};
    return nullptr;
}
double bytes_rope(const OpParams &, const RuleInputs & in, double made) { // the columns that are used
    return 2 * made + double(tensor_bytes(in[1].dtype, in[1].shape));
}
constexpr OpRule rope_rule = {.inputs = 2, .check = check_rope, .bytes = bytes_rope};

// --- Linear ----------------------------------------------------------------------------------------------------------

const char * check_linear(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_activation(in[0]) || !is_linear_weight(in[1], 2))
        return "x must be numbers, the weight BF16, F32 or NVFP4 [N, K]";
    if (in[0].shape.last() != in[1].shape[1]) return "x and the weight have different K";
    if (in.has(2) && (!is(in[2], DType::f32, {1}) || in[1].shape[1] % nvfp4::block_size != 0))
        return "an input scale must be F32 [1], with a K that 16 divides";
    if (in.has(3) && !is(in[3], DType::f32, {in[1].shape[0]})) return "the bias must be F32 [N]";
    out[0].shape = with_last(in[0].shape, in[1].shape[0]);
    return nullptr;
}
double flops_linear(const OpParams &, const RuleInputs & in) { return 2 * elements(in[0]) * double(in[1].shape[0]); }

const char * check_grouped_linear(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const GroupedLinearParams & grouped = std::get<GroupedLinearParams>(params);
    if (!is_matrix(in[0]) || !is_linear_weight(in[1], 3)) return "x must be [R, K], the weight [G, N, K]";
    if (in[0].shape[1] != in[1].shape[2]) return "x and the weight have different K";
    const int64_t groups = in.has(5) ? in[5].shape.elements() : in[1].shape[0];
    if (in[2].dtype != DType::i32 || in[2].shape.rank != 1 || !is(in[3], DType::i32, {groups + 1}))
        return "slots must be i32 [n], offsets i32 [G + 1]";
    if (in.has(5) && !is(in[5], DType::i32, {groups})) return "places must be i32 [G]";
    if (in.has(4) && (!is(in[4], DType::f32, {groups}) || in[1].shape[2] % nvfp4::block_size != 0))
        return "input scales must be F32 [G], with a K that 16 divides";
    if (grouped.slots_per_token < 1) return "slots per token must be positive";
    out[0].shape = {in[2].shape[0], in[1].shape[1]};
    return nullptr;
}
constexpr OpRule linear_rule = {.inputs = 4, .optional = bit(2) | bit(3), .check = check_linear, .flops = flops_linear};
double flops_grouped_linear(const OpParams &, const RuleInputs & in) { // if every slot is in use
    return 2 * double(in[2].shape[0]) * double(in[1].shape[1]) * double(in[1].shape[2]);
}
constexpr OpRule grouped_linear_rule = {.inputs = 6,
                                        .optional = bit(4) | bit(5),
                                        .caches = bit(1),
                                        .check = check_grouped_linear,
                                        .flops = flops_grouped_linear};

// --- Token mixers ----------------------------------------------------------------------------------------------------

const char * check_attention(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const int64_t head = std::get<AttentionParams>(params).head;
    if (!is_matrix(in[0]) || !is_matrix(in[1]) || !is_like(in[2], in[1]) || in[0].dtype != in[1].dtype ||
        in[0].shape[0] != in[1].shape[0])
        return "q must be [T, Hq * D], k and v [T, Hkv * D]";
    if (head <= 0 || in[0].shape[1] % head != 0 || in[1].shape[1] % head != 0) return "the head size does not divide";
    if (in[0].shape[1] % in[1].shape[1] != 0) return "query heads are no multiple of key heads";
    if (!is_segments(in[3])) return "segments must be i32 [S + 1]";
    if (in.has(4) && !is_mask(in[4], in[0].shape[0])) return "the key mask must be u8 [T]";
    if (in.has(5) != in.has(6) || in.has(5) != in.has(7)) return "a cache is keys, values and past together";
    if (in.has(5) && !std::get<AttentionParams>(params).causal) return "a cache is for causal attention";
    if (in.has(5)) {
        const int64_t segments = in[3].shape[0] - 1;
        const bool coded = in[5].dtype == DType::f8_e4m3;
        if (in[5].shape.rank != 3 || (!in.has(8) && in[5].shape[0] != segments) || in[5].shape[2] != in[1].shape[1] ||
            (!coded && in[5].dtype != in[1].dtype) || !is_like(in[6], in[5]) || !is(in[7], DType::i32, {segments}))
            return "the cache must be [S, capacity, Hkv * D] twice, in the dtype of k and v or E4M3, past i32 [S]";
        const Shape scales = {in[5].shape[0], in[5].shape[1], in[1].shape[1] / head};
        if (in.has(9) != coded || in.has(10) != coded)
            return "scales are those of a cache in E4M3, of keys and of values";
        if (coded && (!is(in[9], DType::f8_e8m0, scales) || !is_like(in[10], in[9])))
            return "scales must be E8M0 [S, capacity, Hkv]";
        if (in.has(8) && (in[8].dtype != DType::i32 || in[8].shape.rank != 2 || in[8].shape[0] != segments))
            return "pages must be i32 [S, P]";
    }
    if (!in.has(5) && (in.has(8) || in.has(9) || in.has(10))) return "pages and scales are those of a cache";
    out[0].shape = in[0].shape;
    return nullptr;
}
double flops_attention(const OpParams & params, const RuleInputs & in) { // of segments of one length
    const double share = std::get<AttentionParams>(params).causal ? 0.5 : 1;
    return 4 * share * elements(in[0]) * double(in[0].shape[0]) / double(std::max<int64_t>(1, in[3].shape[0] - 1));
}
constexpr OpRule attention_rule = {.inputs = 11,
                                   .optional = bit(4) | bit(5) | bit(6) | bit(7) | bit(8) | bit(9) | bit(10),
                                   .states = bit(5) | bit(6) | bit(9) | bit(10),
                                   .check = check_attention,
                                   .flops = flops_attention};

// A state with an entry for each segment, or with slots i32 [S] in input `slots` for any number of texts.
bool is_state_of_segments(const RuleInputs & in, int state, int slots, int64_t segments, Shape entry) {
    if (in.has(slots) && !is(in[slots], DType::i32, {segments})) return false;
    Shape shape = {in.has(slots) && in[state].shape.rank > 0 ? in[state].shape[0] : segments};
    for (int i = 0; i < entry.rank; i++) shape.dims[shape.rank++] = entry[i];
    return is(in[state], DType::f32, shape);
}

const char * check_causal_conv(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_matrix(in[0]) || !is_f32(in[1]) || in[1].shape[0] != in[0].shape[1] || in[1].shape.rank < 2)
        return "u must be [T, C], the weight [C, taps]";
    if (!is_segments(in[2])) return "segments must be i32 [S + 1]";
    if (in.has(4) && !in.has(3)) return "slots are those of a history";
    if (in.has(3) && !is_state_of_segments(in, 3, 4, in[2].shape[0] - 1, {in[1].shape.last() - 1, in[0].shape[1]}))
        return "history must be F32 [S, taps - 1, C], or [N, taps - 1, C] with slots i32 [S]";
    out[0].shape = in[0].shape;
    return nullptr;
}
double flops_causal_conv(const OpParams &, const RuleInputs & in) {
    return 2 * elements(in[0]) * double(in[1].shape.last());
}
constexpr OpRule causal_conv_rule = {
    .inputs = 5, .optional = bit(3) | bit(4), .states = bit(3), .check = check_causal_conv, .flops = flops_causal_conv};

const char * check_gated_delta_net(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const GatedDeltaNetParams & p = std::get<GatedDeltaNetParams>(params);
    if (p.key_heads <= 0 || p.value_heads <= 0 || p.value_heads % p.key_heads != 0)
        return "value heads are no multiple of key heads";
    const int64_t values = p.value_heads * p.value_head;
    if (!is_matrix(in[0]) || in[0].shape[1] != 2 * p.key_heads * p.key_head + values)
        return "qkv must be [T, 2 * Hk * Dk + Hv * Dv]";
    const Shape gates = {in[0].shape[0], p.value_heads};
    if (!is(in[1], in[0].dtype, gates) || !is(in[2], in[0].dtype, gates)) return "a and b must be [T, Hv]";
    if (!is(in[3], DType::f32, {p.value_heads}) || !is(in[4], DType::f32, {p.value_heads}))
        return "a_log and dt_bias must be [Hv]";
    if (!is_segments(in[5])) return "segments must be i32 [S + 1]";
    if (in.has(7) && !in.has(6)) return "slots are those of a memory";
    if (in.has(6) && !is_state_of_segments(in, 6, 7, in[5].shape[0] - 1, {p.value_heads, p.key_head, p.value_head}))
        return "memory must be F32 [S, Hv, Dk, Dv], or [N, Hv, Dk, Dv] with slots i32 [S]";
    out[0].shape = {in[0].shape[0], values};
    return nullptr;
}
double flops_gated_delta_net(const OpParams & params, const RuleInputs & in) { // of the recurrent form
    const GatedDeltaNetParams & p = std::get<GatedDeltaNetParams>(params);
    return 7 * double(in[0].shape[0]) * double(p.value_heads * p.key_head * p.value_head);
}
constexpr OpRule gated_delta_net_rule = {.inputs = 8,
                                         .optional = bit(6) | bit(7),
                                         .states = bit(6),
                                         .check = check_gated_delta_net,
                                         .flops = flops_gated_delta_net};

// --- Experts ---------------------------------------------------------------------------------------------------------

const char * check_router(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const int64_t chosen = std::get<RouterParams>(params).experts_per_token;
    if (!is_matrix(in[0])) return "logits must be [T, E]";
    if (chosen < 1 || chosen > in[0].shape[1]) return "more experts per token than experts";
    out[0] = fixed(DType::f32, {in[0].shape[0], chosen});
    out[1] = fixed(DType::i32, {in[0].shape[0], chosen});
    return nullptr;
}
constexpr OpRule router_rule = {.inputs = 1, .outputs = 2, .check = check_router};

const char * check_expert_order(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const ExpertOrderParams & order = std::get<ExpertOrderParams>(params);
    if (in[0].dtype != DType::i32 || in[0].shape.rank != 2) return "indices must be i32 [T, k]";
    if (order.first < 0 || order.count < 1) return "an empty range of experts";
    out[0] = fixed(DType::i32, {in[0].shape[0] * std::min(in[0].shape[1], order.count)});
    out[1] = fixed(DType::i32, {order.count + 1});
    return nullptr;
}
constexpr OpRule expert_order_rule = {.inputs = 1, .outputs = 2, .check = check_expert_order};

const char * check_expert_fetch(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (in[0].dtype != DType::i32 || in[0].shape.rank != 1) return "offsets must be i32 [E + 1]";
    const int64_t experts = in[0].shape[0] - 1, places = in[2].shape[0];
    for (const int i : {1, 3, 5}) {
        if (in.has(i) != in.has(i + 1)) return "each stack has a cache";
        if (!in.has(i)) continue;
        if (!is_linear_weight(in[i], 3) || !is_linear_weight(in[i + 1], 3) || in[i].shape[0] != experts ||
            in[i + 1].shape[0] != places || in[i].dtype != in[i + 1].dtype || in[i].shape[1] != in[i + 1].shape[1] ||
            in[i].shape[2] != in[i + 1].shape[2])
            return "stacks must be [E, N, K], their caches [C, N, K] of the same dtype";
    }
    if (!is(in[7], DType::i32, {experts + places})) return "the table must be i32 [E + C]";
    out[0] = fixed(DType::i32, {experts});
    return nullptr;
}
// What comes is known to the device alone; this is what is looked up.
double flops_expert_fetch(const OpParams &, const RuleInputs &) { return 0; }
double bytes_expert_fetch(const OpParams &, const RuleInputs & in, double made) {
    return made + 2 * double(tensor_bytes(in[7].dtype, in[7].shape));
}
constexpr OpRule expert_fetch_rule = {.inputs = 8,
                                      .optional = bit(3) | bit(4) | bit(5) | bit(6),
                                      .states = bit(2) | bit(4) | bit(6) | bit(7),
                                      .check = check_expert_fetch,
                                      .flops = flops_expert_fetch,
                                      .bytes = bytes_expert_fetch};

const char * check_expert_gather(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const ExpertGatherParams & gather = std::get<ExpertGatherParams>(params);
    if (!is_matrix(in[0]) || gather.count < 1 || in[0].shape[1] % gather.count != 0) return "x must be [T, count * I]";
    if (in[1].dtype != DType::i32 || in[1].shape.rank != 1 || in[2].dtype != DType::i32 || in[2].shape.rank != 1)
        return "slots must be i32 [n], offsets i32 [G + 1]";
    if (gather.first < 0 || gather.first + gather.count > in[2].shape[0] - 1) return "experts that have no offsets";
    if (gather.slots_per_token < 1 || in[1].shape[0] > in[0].shape[0] * gather.slots_per_token)
        return "more slots than tokens have";
    out[0] = fixed(in[0].dtype, {in[1].shape[0], in[0].shape[1] / gather.count});
    if (in.has(3) && !is(in[3], out[0].dtype, out[0].shape)) return "into must be [n, I], of the dtype of x";
    return nullptr;
}
// The experts' part of all slots on average, if every slot is in use.
double gathered_share(const OpParams & params, const RuleInputs & in) {
    return double(std::get<ExpertGatherParams>(params).count) / double(in[2].shape[0] - 1);
}
double flops_expert_gather(const OpParams & params, const RuleInputs & in) {
    return gathered_share(params, in) * double(in[1].shape[0]) * double(in[0].shape[1]) /
           double(std::get<ExpertGatherParams>(params).count);
}
double bytes_expert_gather(const OpParams & params, const RuleInputs & in, double made) { // in place
    return 2 * gathered_share(params, in) * made;
}
constexpr OpRule expert_gather_rule = {.inputs = 4,
                                       .optional = bit(3),
                                       .in_place = 3,
                                       .check = check_expert_gather,
                                       .flops = flops_expert_gather,
                                       .bytes = bytes_expert_gather};

const char * check_expert_combine(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_matrix(in[1]) || !is(in[2], DType::i32, {in[1].shape[0]})) return "y must be [n, H], slots i32 [n]";
    if (in[3].dtype != DType::i32 || in[3].shape.rank != 1) return "offsets must be i32 [G + 1]";
    if (!is_f32(in[4]) || in[4].shape.rank != 2) return "weights must be F32 [T, k]";
    out[0] = fixed(DType::f32, {in[4].shape[0], in[1].shape[1]});
    if (in.has(0) && !is(in[0], DType::f32, out[0].shape)) return "the sum must be [T, H]";
    return nullptr;
}
constexpr OpRule expert_combine_rule = {.inputs = 5, .optional = bit(0), .check = check_expert_combine};

// --- Statistics ------------------------------------------------------------------------------------------------------

// Groups of columns of x, or of rows between offsets.
const char * check_groups(const Value & x, int64_t groups, const Value * offsets) {
    if (offsets) return is(*offsets, DType::i32, {groups + 1}) ? nullptr : "offsets must be i32 [G + 1]";
    return x.shape.last() % groups == 0 ? nullptr : "groups do not divide a row";
}

const char * check_silu_mul(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const int64_t groups = std::get<SiluMulParams>(params).groups;
    if (groups < 0 || in.has(2) != (groups > 0) || (in.has(3) && groups == 0)) return "maxima go with groups";
    if (groups > 0) {
        if (!is_activation(in[0])) return "gate must be numbers";
        if (!is(in[2], DType::f32, {groups})) return "the maxima must be F32 [G]";
        if (const char * const wrong = check_groups(in[0], groups, in.has(3) ? &in[3] : nullptr)) return wrong;
    }
    return check_same(params, in, out);
}
constexpr OpRule silu_mul_rule = {.inputs = 4, .optional = bit(2) | bit(3), .states = bit(2), .check = check_silu_mul};

const char * check_observe_some(const ObserveParams & observe, const RuleInputs & in) {
    const bool routed = in.has(3);
    if (routed != in.has(4) || routed != in.has(2)) return "offsets, slots and weights come together";
    if (!in.has(5) || in[5].dtype != DType::i32 || in[5].shape.rank != 2 || in[5].shape[0] != 3)
        return "positions must be i32 [3, T]";
    const int64_t T = in[5].shape[1], width = in[0].shape.last();
    if (in.has(6) && !is_mask(in[6], T)) return "the mask must be u8 [T]";
    if (routed) {
        if (in[2].dtype != DType::i32 || in[2].shape.elements() != observe.groups + 1)
            return "offsets must be i32 [G + 1]";
        if (in[3].dtype != DType::i32 || in[4].dtype != DType::f32 ||
            in[4].shape.elements() != T * observe.slots_per_token)
            return "slots must be i32 [n], weights f32 [T, k]";
        const bool own = observe.row == GroupedLinearParams::Row::own;
        if (in[0].shape.rows() != (own ? in[3].shape.elements() : T))
            return "x must have a row for each slot, or position";
    } else if (observe.groups != 1 || in[0].shape.rows() != T) {
        return "x must be [T, K] of one group";
    }
    const Statistic & statistic = *observe.statistic;
    return is(in[1], statistic.dtype, statistic.total_shape(observe.groups, width))
               ? nullptr
               : "the total must have the statistic's dtype and shape, of G groups";
}

const char * check_observe(const OpParams & params, const RuleInputs & in, OutputSpec *) {
    const ObserveParams & observe = std::get<ObserveParams>(params);
    const int64_t groups = observe.groups;
    if (!is_activation(in[0]) || groups < 1) return "x must be numbers, groups positive";
    if (observe.statistic->rows != Statistic::Rows::all) return check_observe_some(observe, in);
    for (size_t i = 3; i < 7; i++)
        if (in.has(i)) return "slots, weights, positions and mask are for statistics of some rows";
    if (const char * const wrong = check_groups(in[0], groups, in.has(2) ? &in[2] : nullptr)) return wrong;
    const Statistic & statistic = *observe.statistic;
    if (!statistic.add) return "observe does not make this statistic";
    const int64_t width = in.has(2) ? in[0].shape.last() : in[0].shape.last() / groups;
    if (&statistic == &Statistic::second_moments_16 && width % 16 != 0) return "16 does not divide K";
    return is(in[1], statistic.dtype, statistic.total_shape(groups, width))
               ? nullptr
               : "the total must have the statistic's dtype and shape, of G groups";
}
constexpr OpRule observe_rule = {.inputs = 7,
                                 .optional = bit(2) | bit(3) | bit(4) | bit(5) | bit(6),
                                 .states = bit(1),
                                 .outputs = 0,
                                 .check = check_observe};

const char * check_count_experts(const OpParams &, const RuleInputs & in, OutputSpec *) {
    if (in[0].dtype != DType::i32 || in[0].shape.rank != 2) return "indices must be i32 [T, k]";
    if (in.has(1) && !is_mask(in[1], in[0].shape[0])) return "the mask must be u8 [T]";
    if (in[2].dtype != DType::i64 || in[2].shape.rank != 1) return "counts must be i64 [E]";
    return nullptr;
}
constexpr OpRule count_experts_rule = {
    .inputs = 3, .optional = bit(1), .states = bit(2), .outputs = 0, .check = check_count_experts};

// --- Choices ---------------------------------------------------------------------------------------------------------

const char * check_largest(const OpParams &, const RuleInputs & in, OutputSpec * out) {
    if (!is_activation(in[0])) return "x must be numbers";
    if (in.has(1) && !is_mask(in[1], in[0].shape.last())) return "allowed must be u8 [V]";
    if (in[0].shape.last() > INT32_MAX) return "a row has too many columns";
    out[0] = fixed(DType::i32, {in[0].shape.rows()});
    out[1] = fixed(DType::f32, {in[0].shape.rows()});
    return nullptr;
}
constexpr OpRule largest_rule = {.inputs = 2, .optional = bit(1), .outputs = 2, .check = check_largest};

const char * check_top(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    const auto & top = std::get<TopParams>(params);
    if (const char * problem = check_largest(params, in, out)) return problem;
    if (top.wanted < 1 || top.most < top.wanted) return "wanted must be positive, and most no smaller";
    out[0] = fixed(DType::i32, {in[0].shape.rows(), 1 + top.most});
    out[1] = fixed(DType::f32, {in[0].shape.rows(), top.most});
    return nullptr;
}
constexpr OpRule top_rule = {.inputs = 2, .optional = bit(1), .outputs = 2, .check = check_top};

const char * check_draw(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    if (!is(in[2], DType::i32, {in[0].shape.rows(), 4})) return "draws must be i32 [R, 4]";
    return check_largest(params, in, out);
}
constexpr OpRule draw_rule = {.inputs = 3, .optional = bit(1), .outputs = 2, .check = check_draw};

const char * check_expert_inputs(const OpParams & params, const RuleInputs & in, OutputSpec * out) {
    if (!is_matrix(in[0]) || in[1].dtype != DType::bf16 || in[1].shape.rank != 3 || !is_like(in[2], in[1]))
        return "x must be [T, K], gate and up BF16 [G, I, K]";
    if (in[0].shape[1] != in[1].shape[2]) return "x and the weights have different K";
    if (in[3].dtype != DType::i32 || in[3].shape.rank != 1 || !is(in[4], DType::i32, {in[1].shape[0] + 1}))
        return "slots must be i32 [n], offsets i32 [G + 1]";
    if (!is(in[5], DType::f32, {in[1].shape[0]})) return "the maxima must be F32 [G]";
    if (std::get<ExpertInputsParams>(params).slots_per_token < 1) return "slots per token must be positive";
    out[0] = fixed(in[0].dtype, {in[3].shape[0], in[1].shape[1]});
    return nullptr;
}
double flops_expert_inputs(const OpParams &, const RuleInputs & in) { // of both products, for all pairs
    return 4 * double(in[0].shape[0]) * elements(in[1]);
}
constexpr OpRule expert_inputs_rule = {
    .inputs = 6, .states = bit(5), .check = check_expert_inputs, .flops = flops_expert_inputs};

// --- The table -------------------------------------------------------------------------------------------------------

#define GNV_OP_RULE(op, Params) {#op, &op##_rule},
constexpr struct {
    const char * name;
    const OpRule * rule;
} rules[] = {GNV_OPS(GNV_OP_RULE)};
#undef GNV_OP_RULE

} // namespace

const OpRule & op_rule(Op op) { return *rules[size_t(op)].rule; }
const char * op_name(Op op) { return rules[size_t(op)].name; }

} // namespace gnv
