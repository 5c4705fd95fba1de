#include "data/files/line_reader.h"

#include <cstring>

namespace gnv {

Result<LineReader> LineReader::open(const std::string & path, uint64_t limit) {
    GNV_ASSIGN(ByteStream stream, ByteStream::open(path));
    return LineReader(std::move(stream), limit);
}

Result<bool> LineReader::next(std::string_view & line) {
    carry_.clear();
    for (bool complete = false; !complete;) {
        if (rest_.empty()) {
            GNV_ASSIGN(rest_, stream_.next());
            if (rest_.empty() && carry_.empty()) return false;
            complete = rest_.empty(); // the last line has no line end
        }
        const void * const end = rest_.empty() ? nullptr : memchr(rest_.data(), '\n', rest_.size());
        const size_t length = end ? size_t(static_cast<const char *>(end) - rest_.data()) : rest_.size();
        if (carry_.size() + length > limit_)
            return fail(Code::format, path(), ":", number_ + 1, ": the line is longer than ", bytes_text(limit_),
                        "; this reader expects one record a line");
        line = rest_.substr(0, length);
        rest_.remove_prefix(length + (end ? 1 : 0));
        complete = complete || end;
        if (!complete || !carry_.empty()) {
            carry_ += line;
            line = carry_;
        }
    }
    if (ends_with(line, "\r")) line.remove_suffix(1);
    if (++number_ == 1 && starts_with(line, "\xef\xbb\xbf")) line.remove_prefix(3);
    return true;
}

} // namespace gnv
