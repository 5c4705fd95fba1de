// Where the bits of a compact BF16 weight (cpu/compact_bf16.h) lie. For loops of any instruction set: C headers alone, and
// no function that files share.
//
// A BF16 number has a lower byte, its last bit of exponent and its mantissa, and an upper byte, of which a weight has few.
// Two rows lie together, so that one stream of memory feeds two sums. Of 64 columns they take 192 bytes: the lower bytes
// of one row, those of the other, then a byte for each column with the places of both upper bytes in a table: of the
// first row in the lower four bits. Columns with an upper byte that the table lacks are listed whole, for both rows.
#pragma once

#include <stdint.h>

namespace gnv {

inline constexpr int64_t compact_columns = 64, compact_group_bytes = 3 * compact_columns;

// Columns that do not lie in codes.
struct CompactWhole {
    uint32_t group = 0; // the columns from compact_columns * group on
    uint16_t numbers[2][compact_columns] = {};
};

struct CompactBf16 {
    const uint8_t * groups; // of rows from `row` on
    int64_t k;              // divisible by compact_columns
    const uint8_t * table;  // [16]
    // By two rows, and one behind the last: where their columns in `whole` start, which are in ascending order.
    const uint32_t * first;
    const CompactWhole * whole;
};
static inline const uint8_t * compact_groups(const CompactBf16 & weight, int64_t two_rows) {
    return weight.groups + two_rows * 3 * weight.k;
}

// Bytes that a product with the whole weight reads, `first` as above.
static inline uint64_t compact_bytes(int64_t rows, int64_t k, const uint32_t * first) {
    const int64_t pairs = rows / 2, listed = first[pairs];
    return 16 + uint64_t(pairs * 3 * k + (pairs + 1) * int64_t(sizeof *first)) +
           uint64_t(listed * (int64_t(sizeof(CompactWhole)) - compact_group_bytes));
}

// The byte of a column: sixteen columns make a vector of words, as unpacking lower and upper bytes in parts of sixteen
// gives it, and shifting each word up or clearing its lower half.
static constexpr int compact_place(int column) {
    const int vector = column / 16, lane = column % 16;
    return lane / 4 * 16 + vector / 2 * 8 + lane % 4 * 2 + vector % 2;
}

} // namespace gnv
