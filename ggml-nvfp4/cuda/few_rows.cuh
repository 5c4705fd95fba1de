// Products of few rows: generation reads every weight for one row, or one of each text, and the time goes into that reading.
// Tensor cores multiply (few_rows_product.cuh), so that reading stays the time of many texts, too.
//
//   weights   each warp has 16 rows of w, or a part of their k: 16 bytes a lane at a time, several of them under way together
//   x         up to 8 rows are made in shared memory by every block: copied, normed, gated or activated, and quantized for W4A4.
//             What costs more than its own launch would (an exponential for each of many numbers) is not made so. More rows
//             are copied so in chunks of 8 where the device holds all blocks at once, or else read where they lie
//   a sum     parts of k in order: a row's bits depend on that row and on the shape of w alone
//
// Only what is said here is computed differently from linear.cu: rounding to BF16 is where graph/ops.h has its [r].
#pragma once

#include "cuda/few_choices.cuh"

namespace gnv::cuda {

// Rows that are made in shared memory.
inline constexpr int most_few_rows = 8;
inline constexpr int most_few_weights = 6;
inline constexpr int most_row_steps = 3;
// Shared memory for rows of x.
inline constexpr int64_t most_row_bytes = 80 << 10;

// How the rows x [rows, k] come about. Kinds other than plain are ops of graph/ops.h; `out` then receives the rows.
struct RowSource {
    enum class Kind : uint8_t { plain, rms_norm, silu_mul, sigmoid_gate };
    Kind kind = Kind::plain;
    const bf16 * x =
        nullptr; // plain, silu_mul: [rows, k]; rms_norm: [rows, stride]; sigmoid_gate: [rows * k / width, width]
    const bf16 * second = nullptr;  // up, or the gates
    const float * weight = nullptr; // of a norm
    bf16 * out = nullptr;
    int64_t width = 0;              // of a gated row
    int64_t stride = 0, column = 0; // of x (rms_norm), of the gates
    float epsilon = 0, offset = 0;  // rms_norm: weight_offset
};

// w [n, k] in BF16 or NVFP4, and what belongs to its product.
struct FewRowsWeight {
    const void * data = nullptr;            // BF16, or codes
    const uint8_t * block_scales = nullptr; // of NVFP4; null: BF16
    const float * global_scales = nullptr;
    int64_t global_scale_rows = 1;
    const float * input_scale = nullptr;
    const float * bias = nullptr;
    bf16 * out = nullptr; // [rows, n]
    int64_t n = 0;
};

// What follows a product, element by element: graph/ops.h's sigmoid_gate with one gate a row, and add.
struct RowStep {
    enum class Kind : uint8_t { gate, add };
    Kind kind = Kind::add;
    const void * operand = nullptr; // gates [rows, stride], or the other summand [rows, n]
    bool in_f32 = false;            // the summand
    int64_t stride = 0, column = 0;
    bf16 * out = nullptr;
};

struct FewRowsLinears {
    int64_t rows = 0, k = 0;
    int count = 0, steps = 0;
    RowSource source;
    bf16 * scratch = nullptr; // few_rows_scratch_bytes(), for more than most_few_rows rows
    FewRowsWeight weights[most_few_weights];
    RowStep step[most_row_steps]; // of the only weight
    // Of a launch that shares its processors with the next one (one_row_shares()).
    size_t bytes_beside = 0; // shared memory of a block of the next launch
    int64_t period = 0,
            needed = 0;        // of so many columns of the first weight the next launch needs the first ones; 0: all
    uint32_t * made = nullptr; // columns that it needs, so far (add_made())
};

// Whether rows of k numbers of this weight can be read so: 16 bytes at a time.
inline bool few_rows_can_read(DType dtype, int64_t k) {
    if (k > 24576) return false;
    return (dtype == DType::bf16 && k % 8 == 0) || (dtype == DType::f4 && k % 32 == 0);
}
uint64_t few_rows_bytes(int64_t rows, int64_t k); // of shared memory
uint64_t few_rows_scratch_bytes(int64_t rows, int64_t k);

// The weights of a call's tensor.
FewRowsWeight few_rows_weight(const Tensor & w, const float * input_scale, const float * bias, void * out);

// Any number of rows; the source is plain if they are more than most_few_rows, or do not fit into most_row_bytes twice.
Status few_rows_linears(const CudaContext & context, const FewRowsLinears & call);
// The products of one row with weights of one kind, and beside them, by a block of its own, a choice of experts: neither reads what
// the other makes.
Status few_rows_linears_beside(const CudaContext & context, const FewRowsLinears & call, const RoutedFew & route);

// Products of experts: slot j < offsets[groups] is a row of x and an expert's w [groups, n, k], or where places [groups] say that
// they lie in w [.., n, k]: an earlier kernel may have brought them there.
struct FewRowsExperts {
    const bf16 * x = nullptr;
    const int32_t *slots = nullptr, *offsets = nullptr, *places = nullptr;
    int64_t count = 0; // slots
    int groups = 0;
    int64_t slots_per_token = 1; // row of x of slot j: slots[j] / slots_per_token; 0: j
    int64_t k = 0;
    FewRowsWeight weight; // [groups, n, k], input_scale [groups], out [count, n]
    // The second of a pair of products, and SiLU(first) * second, as graph/ops.h's silu_mul; without data: none.
    FewRowsWeight second;
    bf16 * activation = nullptr;
    bf16 * scratch = nullptr; // [count, k] for each product with input scales
};
Status few_rows_experts(const CudaContext & context, const FewRowsExperts & call);
// Of a call of grouped_linear.
FewRowsExperts few_rows_experts_of(const KernelCall & call);

// The product with row j of x [count, k] and the sum of each token's rows, as graph/ops.h's expert_combine.
struct FewRowsCombine {
    FewRowsExperts experts; // one product, slots_per_token 0
    int64_t tokens = 0, chosen = 0;
    const float *sum = nullptr, *weights = nullptr; // [tokens, n] or null, [tokens, chosen]
    float * out = nullptr;                          // [tokens, n]
    int steps = 0;
    RowStep step[most_row_steps]; // additions to it
};
inline constexpr int most_combined = 32; // chosen experts
Status few_rows_combine(const CudaContext & context, const FewRowsCombine & call);

} // namespace gnv::cuda
