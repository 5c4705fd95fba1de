// CSV after RFC 4180: a header line, fields separated by commas, quotes around fields that hold commas, quotes or line
// ends, a quote inside quotes written twice. TSV has tabs for commas. Lines end with "\n" or "\r\n"; empty lines are skipped, as everybody does.
#pragma once

#include "data/files/byte_stream.h"

#include <vector>

namespace gnv {

class CsvReader {
  public:
    static Result<CsvReader> open(const std::string & path, uint64_t limit = max_record_bytes,
                                  const ReadControl & control = {}, char separator = ',');

    const std::vector<std::string> & header() const { return header_; } // at least one name, all different
    // False at the end. `fields` gets as many as the header has. Errors, with file and line: another number of fields,
    // a quote inside an unquoted field, text after a closing quote, quotes never closed, a record above the limit.
    Result<bool> next(std::vector<std::string> & fields);
    // Code::out_of_memory when the budget of `control` has no room for the record, which next() then left incomplete.
    Status check_memory() const;
    uint64_t line() const { return record_line_; } // where the record last returned starts
    const std::string & path() const { return chars_.path(); }

  private:
    CsvReader(CharReader chars, uint64_t limit, char separator)
        : chars_(std::move(chars)), limit_(limit), separator_(separator) {}
    Result<bool> read_record(std::vector<std::string> & fields);
    Status read_field(std::string & field, uint64_t & record_bytes);
    CharReader chars_;
    uint64_t limit_;
    int separator_;             // comma, or tab
    std::string unkept_;        // a field behind those
    uint64_t record_bytes_ = 0; // of the record, and a few for each field
    uint64_t longest_kept_ = 0; // bytes of the record that the budget has room for
    std::vector<std::string> header_;
    uint64_t record_line_ = 0;
};

} // namespace gnv
