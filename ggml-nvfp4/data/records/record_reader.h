// The rows of a data set's files, one at a time. Skipping a row is cheap: only rows that are read are parsed, so that a
// sample is drawn from a file at the speed of its decompression.
//
//   .jsonl .ndjson   one JSON object a line; blank lines are no rows
//   .json            an array of objects or texts, an object with one array, or what .jsonl has
//   .csv .tsv        RFC 4180 with a header line, commas or tabs between fields
//   .txt             one document a file, in the field "text"
//   .parquet         string columns, and a list of {role, content} as messages
//   .arrow .feather  the same, in Arrow's streams and files: what `datasets` writes
//   (all but .parquet, .arrow and .feather also with ".gz" or ".zst" after it)
//
// Errors, with file and line or row: what makes the rest of a file doubtful (a damaged or cut compressed stream, text that
// is not JSON where it is not a line of its own, CSV with another number of fields, damaged pages, records above 64 MiB), and files
// that go on without data (100 MB of blanks). What spoils one row only is a RowFault.
#pragma once

#include "core/status.h"
#include "data/files/read_control.h"
#include "data/records/record.h"

#include <memory>

namespace gnv {

class RecordReader {
  public:
    virtual ~RecordReader() = default;
    // Moves to the next row; false at the end.
    virtual Result<bool> next() = 0;
    // The fields of the current row; at most once for a row. `out` is complete only without a fault.
    virtual Result<RowFault> read(Record & out) = 0;
    virtual std::string where() const = 0; // "train.jsonl:17": the current row, for people
};

// `wanted`: names of the fields whose content may be needed (Parquet reads no others; their names are still listed).
// `control` bounds memory and stops: Code::out_of_memory names a record, page or window beyond its budget.
Result<std::unique_ptr<RecordReader>> open_records(const std::string & path, const std::vector<std::string> & wanted,
                                                   const ReadControl & control = {});

// The data files of `path`: itself, or, for a folder, every file below it with one of the endings above, sorted by
// path, without hidden ones; of a folder that save_to_disk() wrote, those that its state.json names; without the results of map() that `datasets` keeps
// beside its data. Fails on other endings, on folders without data, and on too many folders (links that lead
// to each other). The list is charged to `share`.
Result<std::vector<std::string>> list_data_files(const std::string & path, const ReadControl & control,
                                                 MemoryShare & share);

} // namespace gnv
