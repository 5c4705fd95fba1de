// The delta encodings of strings in Parquet pages:
//
//   DELTA_BINARY_PACKED      block size | miniblocks a block | count | first value | blocks: least delta, widths, deltas
//   DELTA_LENGTH_BYTE_ARRAY  lengths, in that form | all bytes
//   DELTA_BYTE_ARRAY         lengths of prefixes shared with the value before, in that form | suffixes, as the form above
#pragma once

#include "data/parquet/parquet_page.h"

#include <string>
#include <string_view>

namespace gnv {

// The values of a page in PLAIN form (length u32, bytes), not more than `limit` bytes of it.
Result<std::string> plain_of_delta(std::string_view values, ParquetEncoding encoding, uint64_t limit);

} // namespace gnv
