#include "tokenizer/text_stream.h"

#include "core/utf8.h"

#include <algorithm>
#include <cstdint>

namespace gnv {

// Bytes at the end that begin a character which more bytes may complete.
static size_t unfinished(std::string_view text) {
    for (size_t back = 1; back <= std::min<size_t>(3, text.size()); back++) {
        const auto byte = uint8_t(text[text.size() - back]);
        if ((byte & 0xc0) == 0x80) continue; // inside a character
        const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
        return length > back ? back : 0;
    }
    return 0;
}

std::string TextStream::push(std::string_view bytes) {
    pending_ += bytes;
    const size_t ready = pending_.size() - unfinished(pending_);
    std::string out = utf8_lossy(std::string_view(pending_).substr(0, ready));
    pending_.erase(0, ready);
    return out;
}

std::string TextStream::finish() {
    std::string out = utf8_lossy(pending_);
    pending_.clear();
    return out;
}

} // namespace gnv
