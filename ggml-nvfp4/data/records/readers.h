// The formats behind open_records().
#pragma once

#include "data/records/record_reader.h"
#include "formats/json.h"

namespace gnv {

using OpenedRecords = Result<std::unique_ptr<RecordReader>>;
OpenedRecords open_json_lines(const std::string & path, const std::vector<std::string> & wanted,
                              const ReadControl & control);
OpenedRecords open_json_array(const std::string & path, const std::vector<std::string> & wanted,
                              const ReadControl & control);
OpenedRecords open_csv_records(const std::string & path, const std::vector<std::string> & wanted,
                               const ReadControl & control);
OpenedRecords open_tsv_records(const std::string & path, const std::vector<std::string> & wanted,
                               const ReadControl & control);
OpenedRecords open_text_document(const std::string & path, const std::vector<std::string> & wanted,
                                 const ReadControl & control);
OpenedRecords open_parquet_records(const std::string & path, const std::vector<std::string> & wanted,
                                   const ReadControl & control);
OpenedRecords open_arrow_records(const std::string & path, const std::vector<std::string> & wanted,
                                 const ReadControl & control);

// The fields of one JSON object. `where` names the row in messages.
Result<RowFault> parse_json_record(std::string_view text, const std::string & where, const ReadControl & control,
                                   Record & out);
// The messages of a JSON list, and its parts if some are pictures. RecordField::Kind::other: it holds something else.
Status parse_json_messages(const std::string & json, const std::string & where, const ReadControl & control,
                           RecordField & field);

} // namespace gnv
