// The loops of codec/block_search.h, one namespace per instruction set. The rules of codec/nvfp4_variants.h hold.
#pragma once

#include "codec/block_search.h"

namespace gnv::nvfp4 {

#define GNV_SEARCH_FUNCTIONS(variant)                                                                                  \
    namespace variant {                                                                                                \
    void search_block(BlockSearch & block, float global);                                                              \
    void add_products(const float (*factors)[search_rows], const float (*panel)[search_columns], int64_t count,        \
                      SearchTile & sums);                                                                              \
    }
GNV_SEARCH_FUNCTIONS(portable)
GNV_SEARCH_FUNCTIONS(avx2)
GNV_SEARCH_FUNCTIONS(avx512)
#undef GNV_SEARCH_FUNCTIONS

} // namespace gnv::nvfp4
