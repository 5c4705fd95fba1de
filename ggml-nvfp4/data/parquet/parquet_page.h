// The pages of one column chunk, in file order.
#pragma once

#include "data/parquet/parquet.h"

namespace gnv {

enum class ParquetEncoding : uint8_t {
    plain = 0,
    plain_dictionary = 2,
    rle = 3,
    bit_packed = 4,
    delta_binary_packed = 5,
    delta_length_byte_array = 6,
    delta_byte_array = 7,
    rle_dictionary = 8,
    byte_stream_split = 9
};
// "DELTA_BYTE_ARRAY"; "encoding 17" for numbers without a name
std::string encoding_text(int64_t encoding);

struct ParquetPage {
    enum class Kind : uint8_t { data_v1 = 0, index = 1, dictionary = 2, data_v2 = 3, other };
    Kind kind = Kind::other;
    uint64_t entries = 0;                                        // data: values and nulls; dictionary: its values
    int64_t encoding = 0;                                        // of the values
    int64_t definition_encoding = int64_t(ParquetEncoding::rle); // version 1
    int64_t repetition_encoding = int64_t(ParquetEncoding::rle);
    uint64_t definition_bytes = 0, repetition_bytes = 0; // version 2: in front of the values, never compressed
    bool values_compressed = true;
    uint64_t offset = 0;         // of the body, in the file
    uint64_t stored_bytes = 0;   // of the body
    uint64_t content_bytes = 0;  // of the body, decompressed
    std::optional<uint32_t> crc; // of the body as it is stored
};

class ParquetPages {
  public:
    ParquetPages(const ParquetFile & file, const ParquetChunk & chunk)
        : file_(&file), chunk_(&chunk), at_(chunk.offset) {}

    // The header of the next page; false at the end of the chunk.
    Result<bool> next(ParquetPage & page);
    // The body of a page that next() returned, decompressed.
    Status load(const ParquetPage & page, std::string & body) const;

  private:
    Status parse_header(const std::string & bytes, ParquetPage & page, bool & complete);
    const ParquetFile * file_;
    const ParquetChunk * chunk_;
    uint64_t at_;          // in the file
    uint64_t entries_ = 0; // of the pages so far
};

} // namespace gnv
