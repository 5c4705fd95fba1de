// The part of Parquet that text data sets need: string columns (BYTE_ARRAY), flat, in a list (a chat's messages) or in a
// list inside a list (parts of a message), read row by row.
//
//   "PAR1" | row group 0: column chunk, column chunk, ... | row group 1 | ... | footer (Thrift) | its length u32 | "PAR1"
//   column chunk = [dictionary page] data page, data page, ...
//   data page    = header (Thrift) | repetition levels | definition levels | values
//
// Read: data pages of version 1 and 2; values PLAIN, in dictionaries, DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY; without
// compression, and all compressions but LZO. Checksums of pages are checked.
// Anything else is Code::unsupported, with the column, what it uses and how to rewrite the file. Columns that nobody asks
// for may be of any type and encoding. Memory: the footer, one page and one dictionary a column, charged to a ReadControl,
// whatever the file's size; a row is at most max_record_bytes. Pages of rows that are skipped are not even decompressed.
#pragma once

#include "core/status.h"
#include "data/files/read_control.h"
#include "formats/file.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gnv {

inline constexpr uint64_t max_parquet_footer_bytes = 64 << 20;
inline constexpr uint64_t max_parquet_page_bytes = 1 << 30;     // decompressed
inline constexpr uint64_t max_parquet_rows = uint64_t(1) << 31; // a few bytes can stand for any number of nulls
inline constexpr size_t max_parquet_name_bytes = 4096;          // of a column with all that it lies in

enum class ParquetType : uint8_t {
    boolean,
    int32,
    int64,
    int96,
    float32,
    float64,
    byte_array,
    fixed_byte_array,
    count_
};
enum class ParquetCodec : uint8_t { none, snappy, gzip, lzo, brotli, lz4, zstd, lz4_raw, count_ };

// A leaf of the schema. Levels as in Dremel: an entry's definition level says how many optional and repeated fields on
// the way to the leaf are there, its repetition level at which of the repeated ones a new element begins (0: a new
// row).
struct ParquetColumn {
    std::vector<std::string> path; // {"messages", "list", "element", "content"}
    ParquetType type = ParquetType::byte_array;
    uint32_t max_definition = 0;
    uint32_t max_repetition = 0;
    uint32_t outer_definition = 0;   // from this definition level on, an entry is an element of the outermost list
    uint32_t element_definition = 0; // the same of the innermost list
    std::vector<size_t> repeated;    // positions in `path` of the repeated fields

    std::string name() const; // "messages.list.element.content"
    std::string form() const; // "INT64 in lists inside lists"
    bool is_readable_text() const { return type == ParquetType::byte_array && max_repetition <= 2; }
};

struct ParquetChunk {
    uint64_t offset = 0, bytes = 0; // of its pages, inside the file
    uint64_t entries = 0;           // values, nulls included
    ParquetCodec codec = ParquetCodec::none;
    bool is_padded = false; // `bytes` may be too many: the pages end with the entries
};

struct ParquetRowGroup {
    uint64_t rows = 0;
    std::vector<ParquetChunk> chunks; // one for each column
};

struct ParquetFile {
    File file;
    ReadControl control;
    MemoryShare footer; // of the columns and row groups
    std::vector<ParquetColumn> columns;
    std::vector<ParquetRowGroup> row_groups;
    uint64_t rows = 0; // of all row groups

    // Reads and checks the footer: every chunk lies inside the file, every row group has every column.
    static Result<ParquetFile> open(const std::string & path, const ReadControl & control = {});
};

// The content of one column for one row: one entry for a flat column, one for each element of a list.
struct ParquetCell {
    std::vector<std::optional<std::string>> entries; // null entries have no value; an empty or null list has no entries
    std::vector<uint32_t> ends; // of lists inside a list: for each inner list the number of entries up to its end
};

class ParquetColumnReader;

class ParquetRows {
  public:
    // `columns`: positions in file.columns, all of which must be readable text.
    static Result<ParquetRows> open(ParquetFile file, std::vector<uint32_t> columns);
    ParquetRows(ParquetRows &&) noexcept;
    ParquetRows & operator=(ParquetRows &&) noexcept;
    ~ParquetRows();

    const ParquetFile & file() const { return *file_; }
    bool next();                                   // moves to the next row without reading; false after the last
    uint64_t row() const { return row_ - 1; }      // the current row, from 0
    Status read(std::vector<ParquetCell> & cells); // the current row, one cell for each of `columns`; once a row

  private:
    explicit ParquetRows(ParquetFile file);
    std::unique_ptr<const ParquetFile> file_; // readers point into it
    std::vector<uint32_t> columns_;
    uint64_t row_ = 0;                         // one after the current row
    size_t group_ = 0;                         // the row group of the current row
    uint64_t group_begin_ = 0;                 // its first row
    uint64_t consumed_ = 0;                    // rows of the group that the readers have passed
    std::vector<ParquetColumnReader> readers_; // empty until a row of the group is read
};

} // namespace gnv
