#include "formats/json_writer.h"

#include "core/utf8.h"

#include <cmath>
#include <cstdio>

namespace gnv {

static void append_quoted(std::string & out, std::string_view text) {
    out += '"';
    for (const char c : text) {
        static constexpr std::string_view special = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
        const size_t at = special.find(c);
        if (at != std::string_view::npos) {
            out += '\\';
            out += letters[at];
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char escaped[8];
            snprintf(escaped, sizeof escaped, "\\u%04x", unsigned(c));
            out += escaped;
        } else {
            out += c;
        }
    }
    out += '"';
}

std::string json_quote(std::string_view text) {
    std::string out;
    if (utf8_valid_prefix(text) == text.size()) {
        append_quoted(out, text);
    } else {
        append_quoted(out, utf8_lossy(text));
    }
    return out;
}

void JsonWriter::break_line() {
    if (form_ == Form::compact) return;
    out_ += '\n';
    out_.append(2 * depth_, ' ');
}

void JsonWriter::separate() {
    if (after_key_) {
        after_key_ = false;
        return;
    }
    if (!empty_) out_ += ',';
    if (depth_ > 0) break_line();
}

JsonWriter & JsonWriter::begin(char bracket) {
    separate();
    out_ += bracket;
    depth_++;
    empty_ = true;
    return *this;
}

JsonWriter & JsonWriter::end(char bracket) {
    GNV_CHECK(depth_ > 0 && !after_key_);
    depth_--;
    if (!empty_) break_line();
    out_ += bracket;
    empty_ = false;
    return *this;
}

JsonWriter & JsonWriter::raw(std::string_view text) {
    separate();
    out_ += text;
    empty_ = false;
    return *this;
}

JsonWriter & JsonWriter::key(std::string_view name) {
    raw(json_quote(name));
    out_ += form_ == Form::compact ? ":" : ": ";
    after_key_ = true;
    return *this;
}

JsonWriter & JsonWriter::value(std::string_view text) { return raw(json_quote(text)); }

JsonWriter & JsonWriter::value(double number) {
    if (!std::isfinite(number)) return value(nullptr);
    std::string text = concat(number);
    if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0"; // a real number stays one
    return raw(text);
}

JsonWriter & JsonWriter::value(const JsonValue & parsed) {
    Status status; // of a getter of the value's own type, which cannot fail
    if (parsed.is_object()) {
        begin_object();
        status = parsed.for_each_member([&](std::string_view name, const JsonValue & item) -> Status {
            member(name, item);
            return {};
        });
        end_object();
    } else if (parsed.is_array()) {
        begin_array();
        status = parsed.for_each_element([&](size_t, const JsonValue & item) -> Status {
            value(item);
            return {};
        });
        end_array();
    } else if (parsed.type() == JsonType::real) {
        value(parsed.as_double().value());
    } else {
        raw(parsed.text());
    }
    GNV_CHECK(status.ok());
    return *this;
}

} // namespace gnv
