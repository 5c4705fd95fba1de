#pragma once

#include <atomic>
#include <cstdint>

namespace gnv {

// A number that nothing else in this process has had, above 0: tells an object from another one that took its place.
inline uint64_t next_serial() {
    static std::atomic<uint64_t> last = 0;
    return ++last;
}

} // namespace gnv
