// The content of a file from front to back, decompressed on the way: what lets a 10 GB .zst be read in a few hundred
// kilobytes of memory (plus the compressor's window, at most 128 MiB).
//
// A name that ends in ".zst" is zstd: any number of frames one after the other, skippable frames included. A frame that
// the file cuts short, damaged data and windows above 128 MiB ("zstd --long" beyond 27) are errors that name the file and
// the compressed byte.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace gnv {

// The longest line, CSV record, JSON record or text document that a reader accepts. Readers hold one at a time.
inline constexpr uint64_t max_record_bytes = 64 << 20;

class ByteStream {
  public:
    static Result<ByteStream> open(const std::string & path);
    ByteStream(ByteStream &&) noexcept;
    ByteStream & operator=(ByteStream &&) noexcept;
    ~ByteStream();

    const std::string & path() const;
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
    static Result<CharReader> open(const std::string & path); // skips a UTF-8 byte order mark

    const std::string & path() const { return stream_.path(); }
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
    // The failure that ended the bytes; success at a proper end. Ask after -1.
    Status take_status() { return std::move(status_); }

  private:
    explicit CharReader(ByteStream stream) : stream_(std::move(stream)) {}
    bool refill();
    ByteStream stream_;
    const char * at_ = nullptr;
    const char * end_ = nullptr;
    uint64_t line_ = 1;
    Status status_;
};

} // namespace gnv
