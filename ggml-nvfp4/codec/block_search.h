// Searches for the scale of a block, and what they work on: tiles of 16 columns (a block) of 16 rows, column by column, so that
// rows lie side by side and every processor treats them alike. All arithmetic is F32, each operation rounded, sums in the
// order of columns: every instruction set gives the same bits.
//
// With d = w - v the difference of weights and the values that are stored for them, the error of a row's block is
//   squares   sum over k of d_k^2
//   matrix    sum over i, k of d_i M_ik d_k                     M symmetric: second moments of the inputs
//   factor    sum over k of D_k (d_k + sum over j < k of d_j U_jk + shift_k)^2
// where M = (I + U) D (I + U)^T, U strictly upper triangular. With `factor` the code of column k is the one nearest to
// w_k + sum over j < k of d_j U_jk + shift_k, which minimizes its term; else the one nearest to w_k.
#pragma once

#include "core/instruction_set.h"

#include <cstdint>

namespace gnv {

inline constexpr int search_columns = 16; // columns of a tile: a block of the format
inline constexpr int search_rows = 16;    // rows of a tile

using SearchTile = float[search_columns][search_rows]; // [column][row]

struct BlockMetric {
    enum class Kind : uint8_t { squares, matrix, factor } kind = Kind::squares;
    const float * matrix = nullptr;   // [16][16]: M, or U with anything in and below the diagonal
    const float * diagonal = nullptr; // [16]: D
};

struct BlockSearch {
    const SearchTile * weights = nullptr;
    const SearchTile * shifts = nullptr; // factor: what columns of earlier blocks add; null: zeros
    BlockMetric metric;
    SearchTile * values = nullptr; // receives v
    uint8_t codes[search_columns][search_rows];
    uint8_t scales[search_rows];
    float errors[search_rows]; // in units of the format, comparable between searches of one unit
};

// sums[k][r] += factors[j][r] * panel[j][k] for j = 0 ... count - 1, in this order.
void add_products(InstructionSet set, const float (*factors)[search_rows], const float (*panel)[search_columns],
                  int64_t count, SearchTile & sums);

} // namespace gnv
