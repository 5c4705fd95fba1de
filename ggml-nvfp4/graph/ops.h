// The list of ops and their contracts: definitions that the kernels in cpu/ and cuda/ fulfil and tests prove.
//
// Shapes: T positions of a batch, R rows in general, H hidden size, S segments. A segment is an independent piece of
// text: positions segments[s] <= t < segments[s + 1] of the batch; nothing flows from one to another. Activations are
// F32 on the CPU (other devices may store them as BF16), weights are BF16, F32 or, for the linears, NVFP4.
//
// Arithmetic: Precision::f32 computes everything in F32. Precision::bf16 rounds values to BF16 wherever [r] stands
// below, which is where a BF16 run of the Transformers implementation rounds. A sum over an index runs in the order of
// the index, one fused multiply-add after another, starting from zero, unless said otherwise: a row's result depends on
// that row only, for any batch, number of threads and processor.
//
// sigmoid(x) is 1 / (1 + exp(-x)), SiLU x * sigmoid(x); exp is within 1.1 units in the last place, and 0 where the
// result would be below 2^-126.
//
// "state" inputs are read and written in place. "optional" inputs may be absent (no_value). Outputs and
// inputs have separate memory, with two exceptions: the output of add may be one of its inputs, that of
// expert_gather may be `into`.
#pragma once

#include "core/tensor.h"
#include "graph/screening.h"
#include "graph/statistic.h"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace gnv {

enum class Precision : uint8_t { f32, bf16 };
constexpr const char * precision_name(Precision precision) { return precision == Precision::bf16 ? "bf16" : "fp32"; }

// --- Rows ------------------------------------------------------------------------------------------------------------

// ids i32 [T], table [V, H], optional given [G, H] -> [T, H]: rows of the table; an id below 0 means row -1 - id of
// `given` [r]. Ids must be in range: the batch's maker has checked them.
struct EmbeddingParams {};

// table [side * side, H], positions i32 [3, T] (time, row, column), extents i32 [2, T] (rows and columns of the grid
// that each position lies in) -> [T, H]. The table's grid is stretched over the position's, corner on corner, and
// interpolated: with y = row * (side - 1) / max(rows - 1, 1), i = floor(y), d = y - i, the same in x with j, e, and
// neighbours i + 1, j + 1 that end at side - 1,
//   [r] (1 - d)(1 - e) t[i, j] + (1 - d) e t[i, j + 1] + d (1 - e) t[i + 1, j] + d e t[i + 1, j + 1]
// in this order, all in F32.
struct GridEmbeddingParams {};

// x [.., S] -> [.., D]: columns [first, first + count) of each row [r].
struct ColumnsParams {
    int64_t first = 0, count = 0; // count: D
};

// x [T, H], mask u8 [T] -> [T, H]: rows whose mask is 0 become zeros.
struct MaskRowsParams {};

// x [.., S], w [D], D <= S -> [.., D]: the first D columns of each row,
//   y = [r] x * (1 / sqrt(mean(x^2) + epsilon)) * (weight_offset + w)
// The sum of squares runs in 16 partial sums (column c goes to c mod 16), added pairwise: i with i + 8, + 4, + 2, + 1.
struct RmsNormParams {
    float epsilon = 1e-6f;
    float weight_offset = 1; // 1 for the zero-centred weights of this family
};

// o [.., D], w [D], z [.., D] -> [.., D]: n = [r] o * (1 / sqrt(mean(o^2) + epsilon)), summed as in rms_norm;
// n = [r] n * w; y = [r] n * act(z)
struct GatedRmsNormParams {
    float epsilon = 1e-6f;
    bool sigmoid = false; // act: sigmoid instead of SiLU
};

// x [.., D], w [D], b [D] -> [.., D]: with c = x - mean(x), y = [r] c * (1 / sqrt(mean(c^2) + epsilon)) * w + b, the
// last product and sum fused. Both sums run as that of rms_norm.
struct LayerNormParams {
    float epsilon = 1e-6f;
};

// x -> the same shape. With `tanh` the common approximation of GELU: [r] x * sigmoid(2 u), where u is
// sqrt(2 / pi) * (x + 0.044715 x^3); else GELU itself: [r] x * (1 + erf(x / sqrt(2))) / 2, rounded to F32 once.
struct GeluParams {
    bool tanh = false;
};

// a, b of one shape -> the same: [r] a + b
struct AddParams {};

// gate, up of one shape -> the same: [r] ([r] gate * sigmoid(gate)) * up
// With groups the op also observes its result: maxima f32 [G] (state) and optional offsets i32 [G + 1] are those of
// ObserveParams with Statistic::maximum; NaN and Inf are treated alike. Without groups both are absent.
struct SiluMulParams {
    int64_t groups = 0; // G
};

// x [.., D], g [.., C] with as many rows -> [.., D]: [r] x * ([r] sigmoid(gate)), where gate is columns
// [column, column + D) of g, or the single column `column` for all D when C == column + 1.
struct SigmoidGateParams {
    int64_t column = 0;
};

// x [T, S], positions i32 [3, T] (time, height, width) -> [T, heads * D]: columns [column, column + heads * D) of x. Of
// each head the dims i and i + rotary / 2, i < rotary / 2, turn by the angle positions[axis(i)][t] * theta^(-2 i /
// rotary); axis(i) is 1 where i % 3 == 1 and i < 3 * section[1], 2 where i % 3 == 2 and i < 3 * section[2], else 0. As
// in the reference the frequency is 1 / theta^(2 i / rotary) with both the power and the quotient rounded to F32, and
// the angle is an F32 product; sine and cosine are rounded to F32 [r]. Then y = [r] ([r] x * cos) + ([r] rotated x *
// sin). Other dims pass unchanged.
// With `axial`, as vision towers have it, the first half of the pairs turns with the height and the other with the
// width, each from the fastest frequency on: pair i by positions[i < rotary / 4 ? 1 : 2][t] * theta^(-4 (i mod (rotary /
// 4)) / rotary). Sine and cosine stay in F32, and nothing but the result is rounded.
//
// YaRN (Transformers' _compute_yarn_parameters): with ramp(i) = (i - low) / (high - low) within 0..1 the frequency of pair i
// is f / factor * ramp(i) + f * (1 - ramp(i)), where f is the one above, in F32 steps; sine and cosine are multiplied by
// attention_factor before they are rounded.
struct Yarn {
    double factor = 1, low = 0, high = 1;
    double attention_factor = 1;
    bool operator==(const Yarn &) const = default;
};
struct RopeParams {
    int64_t head = 0; // D
    int64_t rotary = 0;
    double theta = 0;
    int64_t section[3] = {};
    bool axial = false;
    int64_t column = 0, heads = 0; // heads 0: all that the row has from `column` on
    Yarn yarn = {};                // as it is: none
};

// --- Linear ----------------------------------------------------------------------------------------------------------

// x [.., K], w [N, K], optional input_scale f32 [1], optional bias f32 [N] -> [.., N]:
//   y = [r] (sum over k of x[k] * w[n, k]) + bias[n]
// (devices other than the CPU may round the sum, too).
// With input_scale Gx the product is that of W4A4 hardware: each block of 16 columns of x gets the scale
// s = E4M3(Gx * max|x| / 6), saturating, and codes E2M1(x * Gx / s) rounded to nearest even (zeros when
// s is 0); the sum is over code * s products (NVFP4 weights: code * block scale; other weights as they
// are), and y = sum / (Gw * Gx).
// With few_rows the sum over k runs in 16 partial sums, added as in rms_norm (of NVFP4 weights each is one of sums over
// half a block: cpu/few_rows_loops_table.h): a weight is then read as it lies, and few rows of x take the time of
// reading it. Which of both sums a row gets is part of the graph, not of the number of rows.
struct LinearParams {
    bool few_rows = false; // devices other than the CPU may ignore it
};

// The experts of one range, each on the rows that were routed to it: x [R, K], w [G, N, K], slots i32 [n],
// offsets i32 [G + 1], optional input_scales f32 [G] -> y [n, N]; y[j] = linear(x[row(j)], w[g]) for
// offsets[g] <= j < offsets[g + 1]. Rows from offsets[G] on are left as they are: fewer than n slots may be in use.
// With places i32 [G] (of expert_fetch), the last input, w is a cache [C, N, K]: the weight of g is w[places[g]]. Global scales
// are by g in both cases.
struct GroupedLinearParams {
    enum class Row : uint8_t {
        token, // row(j) = slots[j] / slots_per_token
        own,   // row(j) = j
    };
    Row row = Row::token;
    int64_t slots_per_token = 1;
    bool few_rows = false; // as in LinearParams
};

// --- Token mixers ----------------------------------------------------------------------------------------------------

// Rows of a page of a cache that texts share: a multiple of the tiles of keys of all kernels, 48 and 64.
inline constexpr int64_t cache_page = 192;

// q [T, Hq * D], k and v [T, Hkv * D], segments i32 [S + 1], optional key_mask u8 [T] -> [T, Hq * D]: attention within
// each segment, query head h with key head h / (Hq / Hkv): softmax(q . k * scale) in F32, probabilities [r], weighted
// sum of v [r]. Keys whose mask is 0 get no weight. Causal: a query sees the keys up to its own position; else all keys
// of its segment, and there is no cache.
// With a cache: cache_k, cache_v [S, capacity, Hkv * D] (state, in the dtype of k and v) and past i32 [S]: the new keys
// and values of segment s are stored from row past[s] on, and every query also sees the rows before.
// With pages i32 [S, P] segments share a cache [N, page, Hkv * D]: row r of segment s is row r mod page of page
// pages[s, r / page]. Segments may share pages that none of them writes to.
// A cache of E4M3 codes has scales E8M0 [S, capacity, Hkv] of keys and of values (states, the last inputs; with pages
// [N, page, Hkv]), one for each row and head: byte e means 2^(e - 127), and a number is code * scale. The scale is the smallest
// from 2^-100 on with which the head's largest magnitude is at most 448 codes; numbers / scale are rounded to nearest even. A
// head with NaN or Inf has e = 255 and is NaN. Queries see what is stored, also of the new rows: the result is that of a cache
// of activations with these numbers.
struct AttentionParams {
    int64_t head = 0; // D
    float scale = 0;
    bool causal = true;
    bool one_position = false; // with a cache, and masks of single positions: each has the bits of a segment of its own
};

// u [T, C], w [C, taps] ([C, 1, taps] on disk), segments, optional history f32 [S, taps - 1, C] (state) -> [T, C]:
//   y[t, c] = [r] silu([r] sum over j of w[c, j] * u[t - taps + 1 + j, c])
// Rows before a segment come from its history, the newest last, or are zeros; afterwards history holds
// the last rows of u. With slots i32 [S], the last input, history is [N, taps - 1, C], and segment s has that of slots[s].
struct CausalConvParams {
    bool one_position = false; // every segment has one: devices may save launches
};

// qkv [T, 2 * Hk * Dk + Hv * Dv] (q | k | v), a and b [T, Hv], a_log [Hv], dt_bias [Hv], segments, optional
// memory f32 [S, Hv, Dk, Dv] (state; zeros when absent) -> [T, Hv * Dv]. Value head h uses key head h / (Hv / Hk).
//   q = q / sqrt(sum q^2 + 1e-6) / sqrt(Dk); k = k / sqrt(sum k^2 + 1e-6); beta = [r] sigmoid(b)
//   g = -exp(a_log) * softplus(a + dt_bias), with softplus(x) = x above 20
//   M <- exp(g) M;  M <- M + k (beta (v - M^T k))^T;  o = [r] M^T q
// In F32 throughout. The recurrent form takes one position at a time and is the definition; the chunked form
// takes 64 at once. Form::automatic uses the chunked form for every segment of more than one position (devices
// other than the CPU may use either). Chunks count from the segment's first position: a prefill split at
// multiples of 64 gives the same bits. With slots i32 [S], the last input, memory is [N, Hv, Dk, Dv], as in causal_conv.
struct GatedDeltaNetParams {
    enum class Form : uint8_t { automatic, recurrent, chunked };
    int64_t key_heads = 0, value_heads = 0; // Hk, Hv
    int64_t key_head = 0, value_head = 0;   // Dk, Dv
    Form form = Form::automatic;
    bool one_position = false; // as in CausalConvParams
};

// --- Experts ---------------------------------------------------------------------------------------------------------

// logits [T, E] -> weights f32 [T, k] [r], indices i32 [T, k]: softmax over E, exp(logit - maximum) / sum with the
// sum in 16 partial sums like that of rms_norm; the k largest in descending order (of equal ones the lower index
// first), divided by their sum in that order.
struct RouterParams {
    int64_t experts_per_token = 0; // k
};

// indices i32 [T, k] -> slots i32 [T * min(k, count)], offsets i32 [count + 1]: the slots t * k + j that chose expert
// first + g, for g in [0, count), sorted by g and then by slot; those of g are offsets[g] <= i < offsets[g + 1].
struct ExpertOrderParams {
    int64_t first = 0, count = 0;
};

// Brings the experts that are chosen to a cache of C places. offsets i32 [E + 1] (of expert_order); up to three stacks w [E, N, K]
// in memory that the device reads, each followed by its cache [C, N, K] (state) of the same dtype; table i32 [E + C] (state; zeros
// at first) -> places i32 [E]: where an expert is, -1: not in the cache. Expert g is chosen if offsets[g] < offsets[g + 1]; at
// most C are.
// The table has a count for each expert, and for each place 1 + the expert that it holds, 0: none. A chosen expert that has no
// place gets, in the order of experts, an empty one, else that of the expert with the smallest count among those that are not
// chosen; of equal ones the first place. Its codes and block scales are copied, its global scales are not. Then each count c
// becomes c - c / 64, and 1024 more if its expert is chosen: about how often in the last 64 calls.
struct ExpertFetchParams {};

// x [T, count * I], slots i32 [n] and offsets i32 [G + 1] (of expert_order), optional into [n, I] -> [n, I]: of rows
// that some experts have for every token, those that were chosen. Experts are numbered as in offsets: for g in [first,
// first + count) and offsets[g] <= j < offsets[g + 1], y[j] is columns [(g - first) * I, (g - first + 1) * I) of row
// slots[j] / slots_per_token of x. All other rows are those of `into`; undefined without it.
struct ExpertGatherParams {
    int64_t first = 0, count = 0;
    int64_t slots_per_token = 1;
};

// x [T, K], gate and up BF16 [G, I, K], slots i32 [n] and offsets i32 [G + 1] (of expert_order), maxima f32 [G] (state) -> [n, I]:
// the inputs of down projections of experts that see every token, without memory for all of them. With u and v of x[t], each
// [r] a row of a linear without input scale, y[t, g] is silu_mul of u = x[t] . gate[g] and v = x[t] . up[g]; maxima observes all
// y[t, g] as ObserveParams does, NaN and Inf included; row j of the result is y[slots[j] / slots_per_token, g] for offsets[g] <= j <
// offsets[g + 1], and other rows are undefined. Sums over k have one order for all pairs. Screening changes no bit.
struct ExpertInputsParams {
    int64_t slots_per_token = 1;
    Screening screening = Screening::off;
};

// optional sum [T, H], y [n, H], slots, offsets (of expert_order), weights f32 [T, k] -> [T, H]: sum (or zeros) plus,
// in the order of experts, weights[slot] * y[slot's row]; rounded after each multiply-add to F32 only.
struct ExpertCombineParams {};

// --- Statistics ------------------------------------------------------------------------------------------------------

// x [.., G * K] and total (state) [G, ...], optional offsets i32 [G + 1] (and slots, weights, positions, mask): adds to `total`, row after row, as the
// statistic defines (graph/statistic.h). With offsets x is [n, K], and its rows offsets[g] <= j < offsets[g + 1] belong
// to group g. Fails on NaN and Inf, and says in which row; totals are of no use then. A device with a queue does not
// fail: a maximum or sum that it leaves is not finite, a count is in the last bin.
// Statistics of some rows (Statistic::rows) need positions i32 [3, T], whose first row is the position in the text, and take
// x [T, K] of one group, or with offsets, slots i32 [n] and weights f32 [T, k] (of expert_order, router) rows row(j) of x, as in
// grouped_linear, times weights[slots[j]], rounded to F32. Optional mask u8 [T]. NaN and Inf are not looked for.
struct ObserveParams {
    const Statistic * statistic = &Statistic::maximum;
    int64_t groups = 1; // G
    GroupedLinearParams::Row row = GroupedLinearParams::Row::own;
    int64_t slots_per_token = 1;
};

// indices i32 [T, k], optional mask u8 [T], counts i64 [E] (state): counts the choices of each expert, pads aside.
struct CountExpertsParams {};

// --- Choices ---------------------------------------------------------------------------------------------------------

// x [.., V], optional allowed u8 [V] -> i32 [R], f32 [R], for the R rows of x: the column of the row's largest number among
// those that are allowed (not 0), of equal ones the first, and the number. NaN is larger than all numbers. Column -1 where
// none is allowed.
struct LargestParams {};

// x [.., V], optional allowed u8 [V] -> i32 [R, 1 + most], f32 [R, most], for the R rows of x: allowed columns with the largest
// numbers of the row, and these numbers, in any order. At least `wanted` of them, or all that are allowed; a number that is left
// out is smaller than each that is there. NaN is larger than all numbers. How many more than `wanted` there are is up to the
// device. The first of a row of i32 is how many: if they are more than `most`, they are not there.
struct TopParams {
    int64_t wanted = 1, most = 1;
};

// x [.., V], optional allowed u8 [V], draws i32 [R, 4] -> i32 [R], f32 [R], as `largest`, but of the numbers that a draw makes of
// the row's, with noise of their columns in F64: core/noise.h, whose Draw is a row of draws. The number is that of x.
struct DrawParams {};

// ---------------------------------------------------------------------------------------------------------------------

// Every op with its parameters. The enumeration, OpParams, the names and rules (graph/op_rules.cpp) and the kernel
// tables of all devices (cpu/kernels.cpp, cuda/kernels.cu) are made from this list: docs/add-op.md.
#define GNV_OPS(X)                                                                                                     \
    X(embedding, EmbeddingParams)                                                                                      \
    X(grid_embedding, GridEmbeddingParams)                                                                             \
    X(columns, ColumnsParams)                                                                                          \
    X(mask_rows, MaskRowsParams)                                                                                       \
    X(rms_norm, RmsNormParams)                                                                                         \
    X(gated_rms_norm, GatedRmsNormParams)                                                                              \
    X(layer_norm, LayerNormParams)                                                                                     \
    X(gelu, GeluParams)                                                                                                \
    X(add, AddParams)                                                                                                  \
    X(silu_mul, SiluMulParams)                                                                                         \
    X(sigmoid_gate, SigmoidGateParams)                                                                                 \
    X(rope, RopeParams)                                                                                                \
    X(linear, LinearParams)                                                                                            \
    X(grouped_linear, GroupedLinearParams)                                                                             \
    X(attention, AttentionParams)                                                                                      \
    X(causal_conv, CausalConvParams)                                                                                   \
    X(gated_delta_net, GatedDeltaNetParams)                                                                            \
    X(router, RouterParams)                                                                                            \
    X(expert_order, ExpertOrderParams)                                                                                 \
    X(expert_fetch, ExpertFetchParams)                                                                                 \
    X(expert_gather, ExpertGatherParams)                                                                               \
    X(expert_combine, ExpertCombineParams)                                                                             \
    X(observe, ObserveParams)                                                                                          \
    X(count_experts, CountExpertsParams)                                                                               \
    X(largest, LargestParams)                                                                                          \
    X(top, TopParams)                                                                                                  \
    X(draw, DrawParams)                                                                                                \
    X(expert_inputs, ExpertInputsParams)

#define GNV_OP_NAME(op, Params) op,
enum class Op : uint8_t { GNV_OPS(GNV_OP_NAME) count_ };
#undef GNV_OP_NAME

// The parameters of one op; an op's number is the position of its parameters.
template <class Unused, class... Params>
struct OpParamsOf {
    using Variant = std::variant<Params...>;
};
#define GNV_OP_PARAMS(op, Params) , Params
using OpParams = OpParamsOf<void GNV_OPS(GNV_OP_PARAMS)>::Variant;
#undef GNV_OP_PARAMS
inline Op op_of(const OpParams & params) { return Op(params.index()); }

} // namespace gnv
