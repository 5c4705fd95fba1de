// Zstandard for whole buffers.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace gnv {

// The content of all frames of `data`, one after another. `name` is for messages, usually the file's path; `limit`
// bounds the content, for any size that the frames announce.
Result<std::string> zstd_decompress_all(std::string_view data, uint64_t limit, const std::string & name);

// One frame; the same version of the library gives the same bytes.
Result<std::string> zstd_compress(std::string_view content, int level, const std::string & name);

} // namespace gnv
