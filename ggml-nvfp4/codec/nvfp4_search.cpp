#include "codec/nvfp4_search.h"

#include "codec/nvfp4.h"
#include "codec/nvfp4_search_variants.h"

namespace gnv {

namespace {

struct Kernels {
    void (*search_block)(BlockSearch & block, float global);
    void (*add_products)(const float (*factors)[search_rows], const float (*panel)[search_columns], int64_t count,
                         SearchTile & sums);
};

constexpr Kernels kernels[] = {
    {nvfp4::portable::search_block, nvfp4::portable::add_products},
#ifdef __x86_64__
    {nvfp4::avx2::search_block, nvfp4::avx2::add_products},
    {nvfp4::avx512::search_block, nvfp4::avx512::add_products},
#endif
};

} // namespace

void add_products(InstructionSet set, const float (*factors)[search_rows], const float (*panel)[search_columns],
                  int64_t count, SearchTile & sums) {
    kernels[size_t(set)].add_products(factors, panel, count, sums);
}

namespace nvfp4 {

void search_block(InstructionSet set, BlockSearch & block, float global) {
    kernels[size_t(set)].search_block(block, global);
}

namespace {

// Bytes of codes and scales of rows [row, row + rows), columns [column, column + 16).
template <class Take>
void for_block(const PackedRows & packed, int64_t row, int64_t rows, int64_t column, const Take & take) {
    constexpr auto layout = Layout::row_major;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < block_size; k += 2) {
            bool high_nibble;
            take(r, k,
                 packed.data[0][code_offset(layout, packed.rows, packed.columns, row + r, column + k, high_nibble)],
                 packed.data[1][scale_offset(layout, packed.rows, packed.columns, row + r, column / block_size)]);
        }
}

} // namespace

void store_block(const BlockSearch & block, const PackedRows & out, int64_t row, int64_t rows, int64_t column) {
    for_block(out, row, rows, column, [&](int64_t r, int64_t k, uint8_t & codes, uint8_t & scale) {
        codes = uint8_t(block.codes[k][r] | block.codes[k + 1][r] << 4);
        scale = block.scales[r];
    });
}

void load_block(BlockSearch & block, const PackedRows & packed, int64_t row, int64_t rows, int64_t column) {
    for_block(packed, row, rows, column, [&](int64_t r, int64_t k, uint8_t codes, uint8_t scale) {
        block.codes[k][r] = codes & 15;
        block.codes[k + 1][r] = codes >> 4;
        block.scales[r] = scale;
    });
}

} // namespace nvfp4

} // namespace gnv
