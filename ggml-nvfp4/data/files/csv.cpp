#include "data/files/csv.h"

#include <set>

namespace gnv {

static constexpr uint64_t memory_of_field = 10; // in bytes of a record, each of which takes many bytes of memory

Result<CsvReader> CsvReader::open(const std::string & path, uint64_t limit, const ReadControl & control,
                                  char separator) {
    GNV_ASSIGN(CharReader chars, CharReader::open(path, control));
    CsvReader reader(std::move(chars), limit, separator);
    std::vector<std::string> names;
    GNV_ASSIGN(const bool found, reader.read_record(names));
    GNV_TRY(reader.check_memory());
    if (!found) return fail(Code::format, path, ": the file is empty; a CSV file starts with a line of field names");
    std::set<std::string_view> seen;
    for (const std::string & name : names)
        if (!seen.insert(name).second)
            return fail(Code::format, path, ":", reader.record_line_, ": the field name \"", printable(name),
                        "\" occurs twice; give one of them another name");
    reader.header_ = std::move(names);
    return reader;
}

// Reads up to the comma or line end that follows the field.
Status CsvReader::read_field(std::string & field, uint64_t & record_bytes) {
    const bool quoted = chars_.peek() == '"';
    if (quoted) chars_.get();
    for (;;) {
        int c = chars_.peek();
        if (c < 0) {
            GNV_TRY(chars_.take_status());
            if (!quoted) return {};
            return fail(
                Code::format, path(), ":", record_line_,
                ": a quote of this record is never closed; close it, and double the quotes inside a quoted field");
        }
        if (!quoted && (c == separator_ || c == '\n')) return {};
        if (!quoted && c == '"')
            return fail(Code::format, chars_.where(),
                        ": a quote inside an unquoted field; quote the field and double the "
                        "quotes in it");
        chars_.get();
        if (quoted && c == '"') {
            c = chars_.peek();
            if (c == '\r') chars_.get(), c = chars_.peek();
            if (c < 0) return chars_.take_status();
            if (c == separator_ || c == '\n') return {};
            if (c != '"')
                return fail(
                    Code::format, chars_.where(),
                    ": text between a closing quote and the next comma; double the quotes inside a quoted field");
            chars_.get();
        } else if (!quoted && c == '\r' && (chars_.peek() == '\n' || chars_.peek() < 0)) {
            continue;
        }
        if (++record_bytes > limit_)
            return fail(Code::format, path(), ":", record_line_, ": the record is longer than ", bytes_text(limit_),
                        split_record);
        if (record_bytes <= longest_kept_) field += char(c);
    }
}

Result<bool> CsvReader::read_record(std::vector<std::string> & fields) {
    if (chars_.skip_blanks([](int c) { return c == '\n' || c == '\r'; }) < 0) {
        GNV_TRY(chars_.take_status());
        return false;
    }
    record_line_ = chars_.line();
    longest_kept_ = chars_.control().longest_record();
    uint64_t record_bytes = 0;
    size_t count = 0;
    for (;;) {
        if (count >= fields.size()) {
            // Empty fields also count, or a line of commas would grow without bound.
            record_bytes += sizeof(std::string);
            if (record_bytes > limit_)
                return fail(Code::format, path(), ":", record_line_, ": the record is longer than ",
                            bytes_text(limit_));
            if (!header_.empty() && count == header_.size())
                return fail(Code::format, path(), ":", record_line_, ": more than the ", count,
                            " fields of the header");
        }
        const bool is_kept = record_bytes + memory_of_field * count <= longest_kept_;
        if (is_kept && count == fields.size()) fields.emplace_back();
        std::string & field = is_kept ? fields[count] : unkept_;
        field.clear();
        GNV_TRY(read_field(field, record_bytes));
        count++;
        if (chars_.get() != separator_) break;
    }
    record_bytes_ = record_bytes + memory_of_field * count;
    if (record_bytes_ > longest_kept_) return true; // without the last fields
    fields.resize(count);
    return true;
}

Status CsvReader::check_memory() const {
    return chars_.control().check_record(concat(path(), ":", record_line_), record_bytes_);
}

Result<bool> CsvReader::next(std::vector<std::string> & fields) {
    GNV_ASSIGN(const bool found, read_record(fields));
    if (found && record_bytes_ <= longest_kept_ && fields.size() != header_.size())
        return fail(Code::format, path(), ":", record_line_, ": ", fields.size(), " fields; the header has ",
                    header_.size());
    return found;
}

} // namespace gnv
