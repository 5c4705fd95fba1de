// Reads the rows of data files and makes sequences of them: the part of build_calibration_set() for files.
#pragma once

#include "data/calibration_set.h"
#include "data/row_sampler.h"

namespace gnv {

class CalibrationBuilder {
  public:
    // Keeps references: all arguments must outlive the builder.
    CalibrationBuilder(const CalibrationOptions & options, const Tokenizer & tokenizer, ThreadPool & threads,
                       const ReadControl & control)
        : options_(options), tokenizer_(tokenizer), threads_(threads), control_(control), encoder_share_(control),
          list_share_(control), rows_share_(control), sequences_share_(control) {}

    // Chooses rows that take `budget` samples (with packing: tokens) from the next source and appends their sequences.
    Status add_source(const CalibSource & source, uint64_t budget);
    CalibrationSet take_set() { return std::move(set_); } // sequences, sources, truncated and warnings are filled in

  private:
    Status sample_file(const CalibSource & source, RecordReader & reader, RowSampler & sampler);
    Status take_row(const CalibSource & source, RecordReader & reader, uint64_t key, RowSampler & sampler);
    Result<RowFault> make_text(Record & record, const CalibSource & source, SampledRow & row, std::string & why,
                               std::vector<UnwrittenField> & unwritten) const;
    Result<RowFault> load_pictures(const std::vector<RecordPicture> & pictures, SampledRow & row,
                                   std::string & why) const;
    RowFault cut_at_pictures(SampledRow & row, std::string & why) const;
    uint64_t count_chunks(const SampledRow & row, size_t & end) const;
    Status hold(SampledRow row, uint64_t weight, RowSampler & sampler);
    Status take_encoder();
    Status encode(SampledRow & row, Encoder & encoder) const;
    Status encode_or_remember(SampledRow & row, Encoder & encoder) const;
    Status encode_held(RowSampler & sampler);
    Status encode_in_lanes(const std::vector<SampledRow *> & rows, uint64_t lanes) const;
    Status too_many_rows(const RowSampler & sampler) const;
    uint64_t memory_of_all() const;
    void expect_rows() const;
    uint64_t most_text_bytes() const;
    uint64_t longest_document() const;
    uint64_t fewest_text_bytes() const;
    uint64_t memory_of(const SampledRow & row) const;
    Status left_out(RowFault fault, const std::string & where, const std::string & why = {});
    void count_unwritten(const std::vector<UnwrittenField> & fields, const std::string & where);
    void warn_of_unwritten(const CalibSource & source);
    void append_padded(SampledRow & row);
    void append_chunks(SampledRow & row);
    void append_packed(SampledRow & row);

    const CalibrationOptions & options_;
    const Tokenizer & tokenizer_;
    ThreadPool & threads_;
    const ReadControl & control_;
    MemoryShare encoder_share_, list_share_, rows_share_, sequences_share_;
    std::unique_ptr<Encoder> encoder_; // of the reading thread
    CalibrationSet set_;
    uint64_t text_bytes_ = 0; // at least those of the held rows that are not encoded
    uint64_t unusable_in_a_row_ = 0;
    uint64_t most_sequences_ = 0; // of this source and those before it
};

} // namespace gnv
