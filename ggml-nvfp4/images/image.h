// A picture in memory.
#pragma once

#include <cstdint>
#include <vector>

namespace gnv {

struct Image {
    int64_t width = 0, height = 0;
    std::vector<uint8_t> rgb; // [height, width, 3], rows from the top, without gaps
};

} // namespace gnv
