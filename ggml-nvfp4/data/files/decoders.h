// Decoders of compressed streams, piece by piece: zstd and gzip, with several frames or members one after another.
#pragma once

#include "data/files/read_control.h"

#include <memory>
#include <string>
#include <string_view>

namespace gnv {

class StreamDecoder {
  public:
    virtual ~StreamDecoder() = default;
    virtual const char * name() const = 0; // "gzip"
    // Decodes from the front of `input`, takes off what it used, and returns how many bytes it wrote. Code::format says what
    // is damaged, without file, place and name.
    virtual Result<size_t> decode(std::string_view & input, char * out, size_t size) = 0;
    virtual bool holds_back() const = 0; // the output was full: there may be more without more input
    virtual bool in_frame() const = 0;   // what was begun is not complete
    virtual uint64_t memory() const = 0; // that it has allocated
};

// Whether a file's name has this ending, in small or capital letters. `ending` is in small ones.
bool has_ending(std::string_view path, std::string_view ending);
// The ending of a compressed file's name, ".gz" or ".zst"; "" for others.
std::string_view compressed_ending(std::string_view path);

// Null for names of files that are not compressed.
Result<std::unique_ptr<StreamDecoder>> make_decoder(const std::string & path, const ReadControl & control);

} // namespace gnv
