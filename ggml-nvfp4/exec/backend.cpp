#include "exec/backend.h"

#include <algorithm>

namespace gnv {

void Backend::copy_from(Backend & other, void * to, const void * from, size_t bytes, Queue queue) {
    constexpr size_t piece = 16 << 20;
    std::vector<uint8_t> staging(std::min(bytes, piece));
    for (size_t at = 0; at < bytes; at += piece) { // failures stay with the backends
        const size_t size = std::min(piece, bytes - at);
        other.download(staging.data(), static_cast<const uint8_t *>(from) + at, size);
        (void)other.synchronize();
        upload(static_cast<uint8_t *>(to) + at, staging.data(), size, queue);
        (void)synchronize(queue);
    }
}

} // namespace gnv
