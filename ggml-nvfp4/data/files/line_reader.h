// The lines of a text file, compressed or not, one at a time. A line inside one piece of the stream is returned without
// a copy, so that skipping lines costs little more than decompression.
#pragma once

#include "data/files/byte_stream.h"

namespace gnv {

class LineReader {
  public:
    // A line above `limit` bytes is an error at its line number. Of a line beyond the budget of `control` only a part
    // is kept: compare bytes().
    static Result<LineReader> open(const std::string & path, uint64_t limit = max_record_bytes,
                                   const ReadControl & control = {});

    // False at the end. The line has no "\n" or "\r\n", and the first line no byte order mark; it is valid until the
    // next call. A last line without a line end counts.
    Result<bool> next(std::string_view & line);
    uint64_t number() const { return number_; }    // of the line last returned, from 1
    uint64_t bytes() const { return line_bytes_; } // of that line in the file, without its "\n"
    const std::string & path() const { return stream_.path(); }
    const ReadControl & control() const { return stream_.control(); }

  private:
    LineReader(ByteStream stream, uint64_t limit) : stream_(std::move(stream)), limit_(limit) {}
    ByteStream stream_;
    uint64_t limit_;
    std::string_view rest_; // of the current piece
    std::string carry_;     // the start of a line that continues in the next piece
    uint64_t number_ = 0, line_bytes_ = 0;
};

} // namespace gnv
