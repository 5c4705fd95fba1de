// The rows of a data set's files, one at a time: moving on is cheap, a row is parsed only when somebody reads it. That is
// what lets a sample be drawn from a file at the speed at which the file can be decompressed.
//
//   .jsonl .ndjson   one JSON object a line; blank lines are no rows
//   .json            an array of objects or texts, an object with one array, or what .jsonl has
//   .csv .tsv        RFC 4180 with a header line, commas or tabs between fields
//   .txt             one document a file, in the field "text"
//   .parquet         string columns, and a list of {role, content} as messages
//   (all but .parquet also with ".gz" or ".zst" after it)
//
// Errors, with file and line or row: what makes the rest of a file doubtful (a damaged or cut compressed stream, text that
// is not JSON where it is not a line of its own, CSV with another number of fields, damaged pages, records above 64 MiB), and files
// that go on without data (100 MB of blanks). What spoils one row only is a RowFault.
#pragma once

#include "core/status.h"
#include "data/files/read_control.h"
#include "data/record.h"

#include <memory>

namespace gnv {

class RecordReader {
  public:
    virtual ~RecordReader() = default;
    // Moves to the next row; false at the end.
    virtual Result<bool> next() = 0;
    // The fields of the current row; at most once a row. `out` is complete only when there is no fault.
    virtual Result<RowFault> read(Record & out) = 0;
    virtual std::string where() const = 0; // "train.jsonl:17": the current row, for people
};

// `wanted`: names of the fields whose content may be needed (Parquet reads no others; their names are still listed).
// Memory and stops are `control`'s: Code::out_of_memory names a record, page or window that its budget has no room for.
Result<std::unique_ptr<RecordReader>> open_records(const std::string & path, const std::vector<std::string> & wanted,
                                                   const ReadControl & control = {});

// The data files that `path` stands for: itself, or, for a folder, every file below it with one of the endings above,
// sorted by path, without hidden ones. Fails on other endings, on folders without data, and on too many folders, as links
// that lead to each other make them. `share` is charged with the list.
Result<std::vector<std::string>> list_data_files(const std::string & path, const ReadControl & control,
                                                 MemoryShare & share);

} // namespace gnv
