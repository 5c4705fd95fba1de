#include "data/files/json_stream.h"

namespace gnv {

static bool is_blank(int c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static constexpr size_t most_kept_capacity = 1 << 20;

Result<JsonArrayReader> JsonArrayReader::open(const std::string & path, uint64_t limit, const ReadControl & control) {
    GNV_ASSIGN(CharReader chars, CharReader::open(path, control));
    return JsonArrayReader(std::move(chars), limit);
}

int JsonArrayReader::next_visible() { return chars_.skip_blanks(is_blank); }

// The failure of a stream that ended early, or the expected content at this place.
Status JsonArrayReader::expected(const char * what) {
    const int c = chars_.peek();
    if (c < 0) GNV_TRY(chars_.take_status());
    const std::string found = c < 0 ? "the file ends" : concat("found '", printable(std::string(1, char(c))), "'");
    return fail(Code::format, chars_.where(), ": not valid JSON: expected ", what, ", ", found,
                "; mend the file, or copy it again if it was cut; a file of one record a line must be named .jsonl");
}

Status JsonArrayReader::read_value() {
    element_.clear();
    if (element_.capacity() > most_kept_capacity) std::string().swap(element_);
    element_line_ = chars_.line();
    const uint64_t longest_kept = control().longest_record();
    uint64_t & bytes = element_bytes_ = 0;
    uint64_t depth = 0; // of brackets; the parser checks that their kinds match
    bool in_string = false, escaped = false;
    for (;;) {
        const int c = chars_.peek();
        if (c < 0) {
            if (depth == 0 && !in_string && bytes > 0) return chars_.take_status();
            return expected(in_string ? "the end of a string" : depth ? "the end of a record" : "a value");
        }
        if (in_string) {
            if (escaped) {
                escaped = false;
            } else if (c == '\\') {
                escaped = true;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth == 0 && (c == ',' || c == ':' || c == '}' || c == ']' || is_blank(c))) {
            return bytes == 0 ? expected("a value") : Status();
        } else if (c == '}' || c == ']') {
            depth--;
        }
        if (bytes == limit_)
            return fail(Code::format, path(), ":", element_line_, ": the record is longer than ", bytes_text(limit_),
                        split_record);
        chars_.get();
        if (++bytes <= longest_kept) element_ += char(c);
    }
}

Status JsonArrayReader::find_array(bool first_member) {
    for (int c = next_visible(); c != '}'; first_member = false, c = next_visible()) {
        if (!first_member) {
            if (c != ',') return expected("\",\" or \"}\"");
            chars_.get();
            c = next_visible();
        }
        if (c != '"') return expected("the name of a member");
        GNV_TRY(read_value());
        if (next_visible() != ':') return expected("\":\"");
        chars_.get();
        if (next_visible() == '[') {
            if (found_array_)
                return fail(Code::format, chars_.where(), ": a second array, ", printable(element_),
                            ", in this object: which one holds the records is unclear; a file of one record a line "
                            "must be named .jsonl");
            found_array_ = true;
            return {};
        }
        GNV_TRY(read_value());
    }
    if (!found_array_)
        return fail(Code::format, chars_.where(),
                    ": neither an array of records nor an object with one; a file of one "
                    "record a line must be named .jsonl");
    return {};
}

Status JsonArrayReader::finish() {
    if (in_object_) {
        GNV_TRY(find_array(false));
        chars_.get(); // the closing brace
    }
    if (next_visible() >= 0)
        return fail(Code::format, chars_.where(),
                    ": more content after the end of the JSON document; a file of one "
                    "record a line must be named .jsonl");
    place_ = Place::at_end;
    return chars_.take_status();
}

Result<bool> JsonArrayReader::next(std::string_view & element) {
    if (place_ == Place::at_end) return false;
    if (place_ == Place::before) {
        in_object_ = next_visible() == '{';
        if (in_object_) {
            chars_.get();
            GNV_TRY(find_array(true));
        }
        if (next_visible() != '[') return expected("\"[\" or \"{\"");
        chars_.get();
        place_ = Place::in_array;
    }
    int c = next_visible();
    if (c != ']' && !first_element_) {
        if (c != ',') return expected("\",\" or \"]\"");
        chars_.get();
        c = next_visible();
        if (c == ']') return expected("a record");
    }
    if (c == ']') {
        chars_.get();
        GNV_TRY(finish());
        return false;
    }
    first_element_ = false;
    GNV_TRY(read_value());
    element = element_;
    return true;
}

Result<bool> holds_json_lines(const std::string & path, const ReadControl & control) {
    GNV_ASSIGN(CharReader chars, CharReader::open(path, control));
    if (chars.skip_blanks(is_blank) != '{') return false; // damage shows again to the reader
    uint64_t depth = 0, bytes = 0;
    bool in_string = false, has_array = false;
    do {
        const int c = chars.get();
        if (c < 0 || ++bytes > max_record_bytes) return false;
        if (in_string) {
            if (c == '\\') chars.get();
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            has_array = has_array || (c == '[' && depth == 1);
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    } while (depth > 0);
    const int next = chars.skip_blanks(is_blank);
    return next >= 0 ? next == '{' || next == '"' || next == '[' : !has_array;
}

} // namespace gnv
