// From measured second moments of a unit's inputs to what a search needs of them: the matrix of codec/moment_blend.h, finite and
// positive definite, with its factors.
//
//   H = (I + U) D (I + U)^T                    U strictly upper triangular, in F64
//
// With d = w - v the loss d^T H d is then a sum over columns, sum of D_k (d_k + sum over j < k of d_j U_jk)^2, whose terms GPTQ
// makes small one after another (QuIP, arXiv 2307.13304, theorem 6).
#pragma once

#include "codec/block_search.h"
#include "quant/quantizers/quantizer.h"

#include <vector>

namespace gnv {

// What is shared by the rows of a unit. Columns are in the order of visits, block by block: block p is columns
// [16 order[p], 16 order[p] + 16) of the weight.
struct MomentState {
    int64_t columns = 0;
    std::vector<int32_t> order;
    std::vector<float> local; // [blocks][16][16]: H within each block; empty: nothing usable was measured
    // Of the positions that were held back: as they are, full [blocks][columns][16], or [blocks][16][16]; empty: there are none.
    std::vector<float> held;
    bool held_is_full = false;
    // Full second moments only; else empty.
    std::vector<float> full;     // [blocks][columns][16]: H, columns of each block
    std::vector<float> upper;    // U: block p is [16 p + 16][16], one after another
    std::vector<float> diagonal; // [columns]: D
    std::vector<float> local_upper, local_diagonal,
        local_inverse; // of each block alone: [blocks][16][16], [blocks][16]

    int64_t blocks() const { return columns / search_columns; }
    const float * upper_of(int64_t block) const { // [16 block + 16][16]
        return upper.data() + (block * (block + 1) / 2) * search_columns * search_columns;
    }
};

// Kinds of second moments, and what of them is where in UnitInputs.
struct MomentKinds {
    const Statistic *fitted, *held, *weights;
    bool is_full;
};

// Never fails for what was measured: matrices that are not finite count as not measured, and a factorization that does not
// succeed is tried again with ten times the damping, three times; then `full` stays empty.
MomentState make_moment_state(const UnitInputs & inputs, const MomentKinds & kinds);

// H = (I + U) D (I + U)^T of a symmetric matrix [n][n], in place: then row j holds U_ij for i < j, and D_j on the diagonal.
// False where it is not positive definite; the matrix holds anything then.
bool factor_upper(std::vector<double> & matrix, int64_t n);

} // namespace gnv
