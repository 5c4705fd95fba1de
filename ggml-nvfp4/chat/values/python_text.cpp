#include "chat/values/python_text.h"

#include "chat/values/unicode_text.h"
#include "core/utf8.h"

#include <charconv>
#include <cmath>

namespace gnv::chat {

std::string real_text(double real) {
    if (std::isnan(real)) return "nan";
    if (std::isinf(real)) return real < 0 ? "-inf" : "inf";
    char buffer[32];
    const auto written = std::to_chars(buffer, buffer + sizeof buffer, std::abs(real), std::chars_format::scientific);
    const std::string_view shortest(buffer, size_t(written.ptr - buffer)); // d[.ddd]e[+-]dd
    const size_t e = shortest.find('e');
    const int exponent = std::atoi(std::string(shortest.substr(e + 1)).c_str());
    std::string digits(shortest.substr(0, e));
    std::erase(digits, '.');
    const std::string sign = std::signbit(real) ? "-" : "";
    const int count = int(digits.size());
    if (exponent < -4 || exponent >= 16) {
        const std::string fraction = count > 1 ? "." + digits.substr(1) : "";
        const std::string power = std::to_string(std::abs(exponent));
        return concat(sign, digits[0], fraction, exponent < 0 ? "e-" : "e+", power.size() < 2 ? "0" : "", power);
    }
    if (exponent < 0) return concat(sign, "0.", std::string(size_t(-exponent - 1), '0'), digits);
    if (count <= exponent + 1) return concat(sign, digits, std::string(size_t(exponent + 1 - count), '0'), ".0");
    return concat(sign, digits.substr(0, size_t(exponent) + 1), ".", digits.substr(size_t(exponent) + 1));
}

namespace {

// \xNN, \uNNNN or \UNNNNNNNN
void append_escape(std::string & out, char32_t c) {
    char text[24];
    snprintf(text, sizeof text, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", unsigned(c));
    out += text;
}

void append_string_repr(std::string & out, std::string_view text) {
    const bool has_single = text.find('\'') != text.npos, has_double = text.find('"') != text.npos;
    const char quote = has_single && !has_double ? '"' : '\'';
    out += quote;
    for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
        const char32_t c = utf8_decode(text, at, bytes);
        if (c == char32_t(quote) || c == '\\') {
            out += '\\';
            out += char(c);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
        } else if (is_printable(c)) {
            out += text.substr(at, bytes);
        } else {
            append_escape(out, c);
        }
    }
    out += quote;
}

class ReprWriter {
  public:
    explicit ReprWriter(Workspace & work) : work_(work) {}

    Status write(const Value & value, uint32_t depth = 0) {
        GNV_TRY(work_.step());
        GNV_TRY(work_.room(out.size()));
        if (depth > work_.limits().depth / 3)
            return Status(Code::unsupported, "values are nested too deeply to be written");
        switch (value.kind) {
        case Kind::undefined: out += "Undefined"; return {};
        case Kind::string: append_string_repr(out, value.text); return {};
        case Kind::list: return write_items("[", value.sequence->items, "]", depth);
        case Kind::tuple:
            return write_items("(", value.sequence->items, value.sequence->items.size() == 1 ? ",)" : ")", depth);
        case Kind::view: out += value.sequence->view_name; return write_items("([", value.sequence->items, "])", depth);
        case Kind::dict: return write_dict(*value.dict, depth);
        case Kind::name_space:
            out += "<Namespace ";
            GNV_TRY(write_dict(*value.dict, depth));
            out += '>';
            return {};
        default: out += plain_text(value); return {};
        }
    }

    static std::string plain_text(const Value & value) {
        switch (value.kind) {
        case Kind::none: return "None";
        case Kind::boolean: return value.flag ? "True" : "False";
        case Kind::integer: return std::to_string(value.integer);
        case Kind::real: return real_text(value.real);
        case Kind::range: {
            const Sequence & range = *value.sequence;
            return concat("range(", range.start, ", ", range.stop, range.step == 1 ? "" : concat(", ", range.step),
                          ")");
        }
        case Kind::function: return concat("<function ", value.function->function->name, ">");
        case Kind::macro: return concat("<Macro ", value.macro->name, ">");
        default: return concat("<", type_name(value.kind), ">");
        }
    }

    std::string out;

  private:
    Status write_items(std::string_view open, const std::vector<Value> & items, std::string_view close,
                       uint32_t depth) {
        out += open;
        for (size_t i = 0; i < items.size(); i++) {
            if (i) out += ", ";
            GNV_TRY(write(items[i], depth + 1));
        }
        out += close;
        return {};
    }
    Status write_dict(const Dict & dict, uint32_t depth) {
        out += '{';
        for (size_t i = 0; i < dict.entries.size(); i++) {
            if (i) out += ", ";
            GNV_TRY(write(dict.entries[i].key, depth + 1));
            out += ": ";
            GNV_TRY(write(dict.entries[i].value, depth + 1));
        }
        out += '}';
        return {};
    }
    Workspace & work_;
};

} // namespace

std::string ascii_of(std::string_view text) {
    std::string out;
    for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
        const char32_t c = utf8_decode(text, at, bytes);
        if (c < 0x80) {
            out += char(c);
        } else {
            append_escape(out, c);
        }
    }
    return out;
}

Result<std::string> repr_of(Workspace & work, const Value & value) {
    ReprWriter writer(work);
    GNV_TRY(writer.write(value));
    return std::move(writer.out);
}

Result<std::string_view> text_of(Workspace & work, const Value & value) {
    if (value.is_string()) return value.text;
    if (value.is_undefined()) return std::string_view();
    GNV_ASSIGN(std::string text, repr_of(work, value));
    return work.keep(std::move(text));
}

} // namespace gnv::chat
