// The content of a file from front to back, decompressed on the way: what lets a 10 GB .zst be read in a few hundred
// kilobytes of memory (plus the compressor's window, at most 128 MiB).
//
// A name that ends in ".zst" is zstd: any number of frames one after the other, skippable frames included. A frame that
// the file cuts short, damaged data and windows above 128 MiB ("zstd --long" beyond 27) are errors that name the file
// and the compressed byte.
#pragma once

#include "data/files/read_control.h"

#include <memory>
#include <string_view>

namespace gnv {

class ByteStream {
  public:
    // Buffers and windows are charged to `control`; a window that it has no room for is Code::out_of_memory.
    static Result<ByteStream> open(const std::string & path, const ReadControl & control = {});
    ByteStream(ByteStream &&) noexcept;
    ByteStream & operator=(ByteStream &&) noexcept;
    ~ByteStream();

    const std::string & path() const;
    const ReadControl & control() const;
    // The next piece; empty only at the end of the content. Valid until the next call.
    Result<std::string_view> next();

  private:
    struct State;
    explicit ByteStream(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// The same content one byte at a time, with line numbers: for formats whose records may span lines.
class CharReader {
  public:
    static Result<CharReader> open(const std::string & path, const ReadControl & control); // skips a byte order mark

    const std::string & path() const { return stream_.path(); }
    const ReadControl & control() const { return stream_.control(); }
    uint64_t line() const { return line_; } // of the byte that peek() shows, from 1
    std::string where() const;              // "path:line"

    // The next byte, or -1 at the end and after a failure of the stream: see status().
    int peek() { return at_ != end_ || refill() ? static_cast<unsigned char>(*at_) : -1; }
    int get() {
        const int c = peek();
        if (c < 0) return c;
        at_++;
        if (c == '\n') line_++;
        return c;
    }
    // Skips bytes for which `is_blank` holds and shows the next one, as peek() does. More than most_blank_bytes are a
    // failure.
    template <class IsBlank>
    int skip_blanks(const IsBlank & is_blank) {
        uint64_t count = 0;
        for (; is_blank(peek()); get())
            if (++count > most_blank_bytes) return fail_with(too_many_blanks(where()));
        return peek();
    }
    // The failure that ended the bytes; success at a proper end. Ask after -1.
    Status take_status() { return std::move(status_); }

  private:
    explicit CharReader(ByteStream stream) : stream_(std::move(stream)) {}
    bool refill();
    int fail_with(Status status); // no more bytes
    ByteStream stream_;
    const char * at_ = nullptr;
    const char * end_ = nullptr;
    uint64_t line_ = 1;
    Status status_;
};

} // namespace gnv
