// The compressions of Parquet pages.
#pragma once

#include "data/parquet/parquet.h"

#include <string>
#include <string_view>

namespace gnv {

// Appends what `stored` stands for to `out`: exactly `content_bytes`, which the caller has charged to its budget. Code::format
// where the data is damaged or of another size, Code::unsupported where nothing reads the codec (LZO).
Status decompress_page(ParquetCodec codec, std::string_view stored, uint64_t content_bytes, std::string & out);

} // namespace gnv
