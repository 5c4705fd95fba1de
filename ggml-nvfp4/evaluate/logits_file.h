// The predictions of a source for every position of some data, kept so that many checkpoints cost one run of the
// source.
//
// It holds, for each position, the log-probabilities of all tokens, logit - ln(sum of exp), rounded to F16, and exactly
// (F64, I32) -ln p of the next token and the most likely token. F16 has 11 significant bits: the probability of a
// likely token is exact to 1e-4 or better, p = 1e-4 to 0.4 %. Perplexities and top tokens are those of a run with the
// source, to the bit; a mean KL divergence differs by a few 1e-6.
//
// The file, little-endian:
//   "GNVLOGIT", u64 bytes of the header, the header: JSON (schema ggml-nvfp4.logits.2: vocabulary, positions,
//       frame_positions, precision, data_sha256, source_fingerprint, tables: offset of the tables, tables_sha256 of all that
//       follows there), then the SHA-256, in 64 hex digits, of all before it
//   frames, one for every frame_positions positions, the last one shorter: u64 bytes, then a zstd frame that holds the low
//       bytes of all its F16 numbers, row after row, then the high bytes
//   tables: f64 [positions], i32 [positions], and of each frame, its u64 included, the SHA-256 in 64 hex digits
// So a hash covers every bit, also those that zstd ignores. The file gets its name when it is complete.
#pragma once

#include "core/thread_pool.h"
#include "formats/file.h"
#include "formats/new_file.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gnv::evaluate {

struct LogitsHeader {
    int64_t vocabulary = 0, positions = 0;
    std::string precision, data_sha256;
    std::string source_fingerprint; // in a header to compare with: empty if unknown, like a vocabulary of 0
};

int64_t logits_frame_positions(int64_t vocabulary);
uint64_t logits_frame_bytes(int64_t vocabulary); // before compression

class LogitsWriter {
  public:
    static Result<std::unique_ptr<LogitsWriter>> create(const std::string & path, const LogitsHeader & header);
    // The next `count` rows [count, V]; normalizers: ln of the sum of exp of each.
    Status append(const float * logits, const std::vector<double> & normalizers, int64_t count, ThreadPool & threads);
    Status finish(const std::vector<double> & nll, const std::vector<int32_t> & top);

  private:
    LogitsWriter(NewFile made, const LogitsHeader & header);
    Status write_frame();
    std::string header_text(uint64_t tables, const std::string & tables_sha256) const;

    NewFile made_;
    const File & file_;
    LogitsHeader header_;
    uint64_t begin_ = 0; // of the frames
    uint64_t end_ = 0;   // of the written bytes
    int64_t frame_positions_ = 0, held_ = 0;
    std::string planes_;  // of the current frame: low bytes [frame_positions, V], high bytes
    std::string digests_; // of the written frames
};

class LogitsReader {
  public:
    // Fails if the file belongs to another model, other data or another precision than `expected`, or is damaged
    // outside its frames, which read() checks.
    static Result<std::unique_ptr<LogitsReader>> open(const std::string & path, const LogitsHeader & expected);
    const LogitsHeader & header() const { return header_; }
    const std::string & tables_sha256() const { return tables_sha256_; }        // which cover the content
    void take_positions(std::vector<double> & nll, std::vector<int32_t> & top); // once
    // F16 [count, V]; positions must be asked for in order.
    Status read(int64_t first, int64_t count, uint16_t * rows);

  private:
    explicit LogitsReader(File file) : file_(std::move(file)) {}
    Status read_header();
    Status read_tables();
    int64_t frames() const { return (header_.positions + frame_positions_ - 1) / frame_positions_; }
    Status load_frame(int64_t frame);

    File file_;
    LogitsHeader header_;
    uint64_t tables_ = 0, size_ = 0;
    std::string tables_sha256_, digests_; // of the frames
    std::vector<double> nll_;
    std::vector<int32_t> top_;
    int64_t frame_positions_ = 0;
    int64_t frame_ = -1; // in memory
    uint64_t next_ = 0;  // the begin of the frame after it
    std::string planes_;
};

} // namespace gnv::evaluate
