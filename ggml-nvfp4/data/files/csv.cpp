#include "data/files/csv.h"

#include <set>

namespace gnv {

Result<CsvReader> CsvReader::open(const std::string & path, uint64_t limit) {
    GNV_ASSIGN(CharReader chars, CharReader::open(path));
    CsvReader reader(std::move(chars), limit);
    std::vector<std::string> names;
    GNV_ASSIGN(const bool found, reader.read_record(names));
    if (!found) return fail(Code::format, path, ": the file is empty; a CSV file starts with a line of field names");
    std::set<std::string_view> seen;
    for (const std::string & name : names)
        if (!seen.insert(name).second)
            return fail(Code::format, path, ":", reader.record_line_, ": the field name \"", printable(name),
                        "\" occurs twice");
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
            return fail(Code::format, path(), ":", record_line_, ": a quote of this record is never closed");
        }
        if (!quoted && (c == ',' || c == '\n')) return {};
        if (!quoted && c == '"')
            return fail(Code::format, chars_.where(),
                        ": a quote inside an unquoted field; quote the field and double the "
                        "quotes in it");
        chars_.get();
        if (quoted && c == '"') {
            c = chars_.peek();
            if (c == '\r') chars_.get(), c = chars_.peek();
            if (c < 0) return chars_.take_status();
            if (c == ',' || c == '\n') return {};
            if (c != '"')
                return fail(Code::format, chars_.where(), ": text between a closing quote and the next comma");
            chars_.get();
        } else if (!quoted && c == '\r' && (chars_.peek() == '\n' || chars_.peek() < 0)) {
            continue;
        }
        if (++record_bytes > limit_)
            return fail(Code::format, path(), ":", record_line_, ": the record is longer than ", bytes_text(limit_));
        field += char(c);
    }
}

Result<bool> CsvReader::read_record(std::vector<std::string> & fields) {
    while (chars_.peek() == '\n' || chars_.peek() == '\r') chars_.get();
    if (chars_.peek() < 0) {
        GNV_TRY(chars_.take_status());
        return false;
    }
    record_line_ = chars_.line();
    uint64_t record_bytes = 0;
    size_t count = 0;
    for (;;) {
        if (count == fields.size()) {
            // Empty fields count too, or a line of commas would grow without bound.
            record_bytes += sizeof(std::string);
            if (!header_.empty() && count == header_.size())
                return fail(Code::format, path(), ":", record_line_, ": more than the ", count,
                            " fields of the header");
            fields.emplace_back();
        }
        fields[count].clear();
        GNV_TRY(read_field(fields[count++], record_bytes));
        if (chars_.get() != ',') break;
    }
    fields.resize(count);
    return true;
}

Result<bool> CsvReader::next(std::vector<std::string> & fields) {
    GNV_ASSIGN(const bool found, read_record(fields));
    if (found && fields.size() != header_.size())
        return fail(Code::format, path(), ":", record_line_, ": ", fields.size(), " fields; the header has ",
                    header_.size());
    return found;
}

} // namespace gnv
