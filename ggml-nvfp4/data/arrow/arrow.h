// The part of Arrow's IPC formats that text data sets need: strings, and lists and structures of them, row by row, from what
// `datasets` keeps in its caches and save_to_disk() writes (streams) and Feather files of version 2 (the file format).
//
//   stream  = message: schema | [message: dictionary] | message: record batch | ... | end
//   message = FFFFFFFF | length of the metadata u32 | metadata (FlatBuffer) | body: buffers, each at the place that it says
//   file    = "ARROW1" 0 0 | stream | footer | its length u32 | "ARROW1"
//
// Read: utf8, large_utf8, utf8_view and binary alike, dictionaries of them, lists of all kinds, structures; buffers plain, LZ4 or
// Zstd. Columns that nothing asks for may be of any type. Memory: the metadata of a message, one row, and of a batch with
// compressed buffers those of the columns that are read, charged to a ReadControl. Plain buffers are never in memory as a
// whole. A row is at most max_record_bytes. Batches of rows that are skipped are not read.
#pragma once

#include "core/status.h"
#include "data/files/read_control.h"
#include "formats/file.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace gnv {

inline constexpr uint64_t max_arrow_metadata_bytes = 64 << 20; // of one message
inline constexpr uint64_t max_arrow_buffer_bytes = 1 << 30;    // decompressed
inline constexpr uint64_t max_arrow_rows = uint64_t(1) << 31;  // a few bytes can stand for any number of nulls

struct ArrowField {
    enum class Kind : uint8_t { other, text, list, structure };
    std::string name;
    Kind kind = Kind::other; // other: this reader only knows how to pass it
    uint8_t buffers = 2;     // in a batch, beside those that the batch counts
    uint8_t place_bytes = 4; // of a string's or list's offset; of a dictionary's position
    bool by_view = false;    // strings: 16 bytes each, which say where a long one lies; lists: offsets and sizes
    bool has_counted_buffers = false;
    bool places_signed = true;
    uint64_t fixed_length = 0; // of a list without offsets
    bool is_fixed = false;
    std::shared_ptr<const ArrowField> dictionary; // the field of its values; null: values stand in place
    int64_t dictionary_id = 0;
    std::vector<ArrowField> children;
};

// A value of a row. `items`: the elements of a list; of a structure those children that are not `other`.
struct ArrowValue {
    const ArrowField * field = nullptr;
    bool is_null = false;
    std::string text;
    std::vector<ArrowValue> items;
};

struct ArrowBuffer {
    uint64_t offset = 0, bytes = 0;            // in the file
    bool is_plain = false;                     // although others of its batch are compressed
    std::unique_ptr<std::string> content = {}; // of a compressed buffer, once it is read
};

// The values of one field in one batch.
struct ArrowArray {
    const ArrowField * field = nullptr;
    uint64_t length = 0, nulls = 0;
    std::vector<ArrowBuffer> buffers;
    std::vector<ArrowArray> children;
};

enum class ArrowCodec : uint8_t { none, lz4, zstd };

struct ArrowBatch {
    uint64_t rows = 0;
    ArrowCodec codec = ArrowCodec::none;
    std::vector<ArrowArray> arrays; // one for each field
};

class ArrowRows {
  public:
    static Result<ArrowRows> open(const std::string & path, const ReadControl & control = {});

    const std::string & path() const { return file_.path(); }
    const std::vector<ArrowField> & fields() const { return *fields_; }
    const ReadControl & control() const { return control_; }
    Result<bool> next();                      // moves to the next row without reading it; false after the last
    uint64_t row() const { return row_ - 1; } // the current row, from 0
    // One field of the current row. Fields of kind `other` are no values to read.
    Status read(size_t field, ArrowValue & value);

  private:
    struct Message;
    using Dictionary = std::vector<ArrowBatch>; // later ones continue it

    ArrowRows(File file, const ReadControl & control) : file_(std::move(file)), control_(control) {}
    Status find_messages();
    Result<bool> next_message(Message & message);
    Status read_schema(Message & message);
    Status read_dictionary(Message & message);
    Result<bool> next_batch();
    Status damage(uint64_t at, const std::string & problem) const;
    Status locate(Status status, const Message & message) const;

    Status decompress(ArrowBuffer & buffer, ArrowCodec codec);
    Status fetch(ArrowBuffer & buffer, ArrowCodec codec, uint64_t at, void * out, uint64_t bytes);
    Status fetch_number(ArrowBuffer & buffer, ArrowCodec codec, uint64_t index, unsigned bytes, uint64_t & value);
    Status is_valid(ArrowArray & array, ArrowCodec codec, uint64_t index, bool & valid);
    Status read_text(ArrowArray & array, ArrowCodec codec, uint64_t index, std::string & text);
    Status take_text(ArrowBuffer & buffer, ArrowCodec codec, uint64_t at, uint64_t bytes, std::string & text);
    Status read_by_dictionary(ArrowArray & array, ArrowCodec codec, uint64_t index, ArrowValue & value);
    Status read_list(ArrowArray & array, ArrowCodec codec, uint64_t index, ArrowValue & value);
    Status read_value(ArrowArray & array, ArrowCodec codec, uint64_t index, ArrowValue & value);
    Status count(uint64_t bytes); // of the current row

    File file_;
    ReadControl control_;
    MemoryShare schema_, metadata_, contents_; // contents_: decompressed buffers of the batch
    MemoryShare dictionary_contents_;
    uint64_t at_ = 0, end_ = 0; // of the messages that are left
    int64_t version_ = 0;
    std::shared_ptr<const std::vector<ArrowField>> fields_; // arrays point to them
    std::map<int64_t, std::shared_ptr<const ArrowField>> dictionary_fields_;
    std::map<int64_t, Dictionary> dictionaries_;
    ArrowBatch batch_;
    bool reads_dictionary_ = false;
    uint64_t row_ = 0;         // one after the current row
    uint64_t batch_begin_ = 0; // its first row
    uint64_t row_bytes_ = 0, counted_row_ = 0;
    uint64_t longest_row_ = 0; // within the budget
};

} // namespace gnv
