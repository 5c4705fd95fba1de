// One string column of one row group, row by row.
#pragma once

#include "data/parquet/parquet_page.h"

namespace gnv {

// The hybrid of run lengths and bit-packed groups that stores levels and dictionary positions.
class ParquetHybrid {
  public:
    ParquetHybrid() = default;
    ParquetHybrid(std::string_view bytes, uint32_t bit_width) : bytes_(bytes), width_(bit_width) {}
    bool next(uint32_t & value); // false at the end of the bytes or for damage

  private:
    bool start_run();
    std::string_view bytes_;
    size_t at_ = 0;
    uint32_t width_ = 0; // 0..32 bits; 0: every value is 0 and takes no bytes
    uint64_t left_ = 0;  // values of the current run
    bool packed_ = false;
    uint64_t bit_ = 0;      // packed: of the next value, from the start of bytes_
    uint32_t repeated_ = 0; // otherwise: the value
};

class ParquetColumnReader {
  public:
    ParquetColumnReader(const ParquetFile & file, const ParquetRowGroup & group, uint32_t column);

    Status skip(uint64_t rows);
    Status read(ParquetCell & cell); // the next row

  private:
    Status next_page(uint64_t & skippable);
    Status load_dictionary(const ParquetPage & page);
    Status load_data(const ParquetPage & page);
    Status expand_delta(const ParquetPage & page, uint64_t kept);
    Status peek_entry();
    Status take_value(std::string_view & value);
    Status take_entry(ParquetCell * cell); // null: pass it
    Status take_row(ParquetCell * cell);
    Status pass_rows(uint64_t rows);
    Status with_context(Status status) const;

    Status load(const ParquetPage & page, uint64_t kept, std::string & body);

    const ParquetFile * file_;
    const ParquetColumn * column_;
    MemoryShare share_; // of page_ and dictionary_
    ParquetPages pages_;

    bool has_dictionary_ = false;
    std::string dictionary_;
    std::vector<uint32_t> dictionary_at_; // where each value's length lies in dictionary_

    std::string page_;
    std::string delta_values_;  // of the page in PLAIN form, where they are stored as deltas
    uint64_t page_offset_ = 0;  // for messages
    uint64_t entries_left_ = 0; // of the page
    ParquetHybrid repetitions_, definitions_, positions_;
    bool by_dictionary_ = false;
    size_t plain_at_ = 0; // of the next PLAIN value

    bool has_entry_ = false; // levels of the next entry are known
    uint32_t repetition_ = 0, definition_ = 0;
    bool at_end_ = false;       // after the last page
    uint64_t cell_bytes_ = 0;   // of the current row
    uint64_t longest_cell_ = 0; // within the budget
};

} // namespace gnv
