// Reads the rows of data files and makes sequences of them: the part of build_calibration_set() that is about files.
#pragma once

#include "data/calibration_set.h"
#include "data/row_sampler.h"

namespace gnv {

class CalibrationBuilder {
  public:
    // Keeps references: all three must outlive the builder.
    CalibrationBuilder(const CalibrationOptions & options, const Tokenizer & tokenizer, ThreadPool & threads)
        : options_(options), tokenizer_(tokenizer), threads_(threads), encoders_(size_t(threads.size())) {}

    // Chooses rows that take `budget` samples (with packing: tokens) from the next source and appends their sequences.
    Status add_source(const CalibSource & source, uint64_t budget);
    CalibrationSet take_set() { return std::move(set_); } // sequences, sources, truncated and warnings are filled in

  private:
    Status sample_file(const CalibSource & source, RecordReader & reader, RowSampler & sampler);
    Status take_row(const CalibSource & source, RecordReader & reader, uint64_t key, RowSampler & sampler);
    Status encode(SampledRow & row, int thread);
    Status encode_held(RowSampler & sampler);
    void append_padded(SampledRow & row);
    void append_packed(const SampledRow & row);

    const CalibrationOptions & options_;
    const Tokenizer & tokenizer_;
    ThreadPool & threads_;
    std::vector<std::unique_ptr<Encoder>> encoders_; // one for each thread, made when first needed
    CalibrationSet set_;
    uint64_t text_bytes_ = 0; // at least those of the rows held and not encoded
};

} // namespace gnv
