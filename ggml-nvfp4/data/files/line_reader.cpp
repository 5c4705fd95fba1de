#include "data/files/line_reader.h"

#include <cstring>

namespace gnv {

static constexpr size_t most_kept_capacity = 1 << 20;

Result<LineReader> LineReader::open(const std::string & path, uint64_t limit, const ReadControl & control) {
    GNV_ASSIGN(ByteStream stream, ByteStream::open(path, control));
    return LineReader(std::move(stream), limit);
}

Result<bool> LineReader::next(std::string_view & line) {
    carry_.clear();
    if (carry_.capacity() > most_kept_capacity) std::string().swap(carry_);
    uint64_t & bytes = line_bytes_ = 0; // so far
    for (bool complete = false; !complete;) {
        if (rest_.empty()) {
            GNV_ASSIGN(rest_, stream_.next());
            if (rest_.empty() && bytes == 0) return false;
            complete = rest_.empty(); // the last line has no line end
        }
        const void * const end = rest_.empty() ? nullptr : memchr(rest_.data(), '\n', rest_.size());
        const size_t length = end ? size_t(static_cast<const char *>(end) - rest_.data()) : rest_.size();
        bytes += length;
        if (bytes > limit_)
            return fail(Code::format, path(), ":", number_ + 1, ": the line is longer than ", bytes_text(limit_),
                        "; this reader expects one record a line");
        line = rest_.substr(0, length);
        rest_.remove_prefix(length + (end ? 1 : 0));
        complete = complete || end;
        if (complete && bytes == length) break;
        if (carry_.size() + length < bytes || bytes > control().longest_record()) continue; // not kept
        carry_ += line;
        line = carry_;
    }
    if (ends_with(line, "\r")) line.remove_suffix(1);
    if (++number_ == 1 && starts_with(line, "\xef\xbb\xbf")) line.remove_prefix(3);
    return true;
}

} // namespace gnv
