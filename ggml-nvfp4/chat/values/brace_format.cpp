// "{} {0:>8} {name!r}".format(...)
#include "chat/values/number_format.h"
#include "chat/values/python_text.h"
#include "chat/values/unicode_text.h"
#include "core/utf8.h"

#include <charconv>

namespace gnv::chat {

namespace {

constexpr std::string_view alignments = "<>^=";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

Result<int64_t> take_digits(std::string_view & spec) {
    int64_t number = 0;
    for (; !spec.empty() && is_digit(spec[0]); spec.remove_prefix(1)) {
        number = number * 10 + (spec[0] - '0');
        if (number > widest_format) return Status(Code::unsupported, "the width is too large");
    }
    return number;
}

// [[fill]align][sign][#][0][width][grouping][.precision][type]
Result<NumberFormat> read_spec(std::string_view spec) {
    NumberFormat format;
    const std::string_view whole = spec;
    const auto skip = [&](char c) {
        const bool found = !spec.empty() && spec[0] == c;
        if (found) spec.remove_prefix(1);
        return found;
    };
    const size_t fill_bytes = spec.empty() ? 0 : bytes_of_code_point(spec, 0);
    if (spec.size() > fill_bytes && alignments.find(spec[fill_bytes]) != alignments.npos) {
        format.fill = spec.substr(0, fill_bytes);
        format.align = spec[fill_bytes];
        spec.remove_prefix(fill_bytes + 1);
    } else if (!spec.empty() && alignments.find(spec[0]) != alignments.npos) {
        format.align = spec[0];
        spec.remove_prefix(1);
    }
    for (const char sign : {'+', '-', ' '})
        if (skip(sign)) format.sign = sign;
    format.alternate = skip('#');
    if (skip('0') && !format.align) {
        format.fill = "0";
        format.align = '=';
    }
    GNV_ASSIGN(format.width, take_digits(spec));
    for (const char grouping : {',', '_'})
        if (skip(grouping)) format.grouping = grouping;
    if (skip('.')) {
        if (spec.empty() || !is_digit(spec[0])) return Status(Code::invalid_argument, "the precision is missing");
        GNV_ASSIGN(format.precision, take_digits(spec));
    }
    if (!spec.empty()) {
        format.type = spec[0];
        spec.remove_prefix(1);
    }
    if (!spec.empty()) return fail(Code::invalid_argument, "the format \"", printable(whole, 60), "\" is unknown");
    return format;
}

Result<std::string> format_text(Workspace & work, std::string_view text, const NumberFormat & format) {
    if ((format.type && format.type != 's') || format.align == '=' || format.sign != '-' || format.grouping)
        return Status(Code::invalid_argument, "the format is not one of strings");
    if (format.precision >= 0) text = text.substr(0, offset_of_code_point(text, size_t(format.precision)));
    return padded(work, text, format, '<');
}

Result<std::string> format_value(Workspace & work, const Value & value, std::string_view spec) {
    if (spec.empty()) {
        GNV_ASSIGN(const std::string_view text, text_of(work, value));
        return std::string(text);
    }
    GNV_ASSIGN(NumberFormat format, read_spec(spec));
    const auto is_one_of = [&](std::string_view types) { return format.type && types.find(format.type) != types.npos; };
    if (value.is_string()) return format_text(work, value.text, format);
    if (value.is_number() && (is_one_of("eEfFgG%") || (value.is(Kind::real) && (!format.type || format.type == 'n')))) {
        if (format.type == 'n') format.type = 'g';
        if (!format.type && format.precision < 0) return padded(work, real_text(value.real), format, '>');
        return real_text_of(work, value.as_real(), format);
    }
    if (value.is_whole() && format.precision < 0 && (!format.type || is_one_of("dnxXob"))) {
        if (value.is(Kind::boolean) && !format.type && format.width == 0)
            return std::string(value.flag ? "True" : "False");
        return whole_text(work, value.as_integer(), format);
    }
    if (value.is_whole() && format.type == 'c' && value.as_integer() >= 0 && value.as_integer() < 0xd800) {
        std::string text;
        utf8_append(text, char32_t(value.as_integer()));
        return padded(work, text, format, '<');
    }
    return fail(Code::invalid_argument, "the format \"", printable(spec, 60), "\" does not suit a ",
                type_name(value.kind));
}

class BraceFormatter {
  public:
    BraceFormatter(Workspace & work, std::span<const Value> values, std::span<const NamedValue> named)
        : work_(work), values_(values), named_(named) {}

    Result<std::string> run(std::string_view format, int depth = 0) {
        std::string out;
        for (size_t at = 0; at < format.size(); at++) {
            const char c = format[at];
            if (c != '{' && c != '}') {
                out += c;
                continue;
            }
            if (at + 1 < format.size() && format[at + 1] == c) {
                out += format[at++];
                continue;
            }
            const size_t end = c == '{' ? find_end(format, at) : format.npos;
            if (end == format.npos || depth > 1)
                return Status(Code::invalid_argument, "a single '{' or '}' in the format string");
            GNV_ASSIGN(const std::string text, replace_field(format.substr(at + 1, end - at - 1), depth));
            GNV_TRY(work_.room(out.size() + text.size()));
            out += text;
            at = end;
        }
        return out;
    }

  private:
    static size_t find_end(std::string_view format, size_t begin) {
        int open = 0;
        for (size_t at = begin; at < format.size(); at++) {
            open += (format[at] == '{') - (format[at] == '}');
            if (open == 0) return at;
        }
        return format.npos;
    }

    // field[!conversion][:spec]
    Result<std::string> replace_field(std::string_view field, int depth) {
        const size_t name_end = std::min(field.find_first_of("!:"), field.size());
        GNV_ASSIGN(Value value, find_value(field.substr(0, name_end)));
        std::string_view rest = field.substr(name_end);
        if (rest.starts_with("!")) {
            if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':') ||
                std::string_view("rsa").find(rest[1]) == rest.npos)
                return Status(Code::invalid_argument, "the conversion after '!' is unknown");
            std::string text;
            if (rest[1] == 's') {
                GNV_ASSIGN(text, text_of(work_, value));
            } else {
                GNV_ASSIGN(text, repr_of(work_, value));
                if (rest[1] == 'a') text = ascii_of(text);
            }
            value = work_.keep_text(std::move(text));
            rest.remove_prefix(2);
        }
        if (rest.starts_with(":")) rest.remove_prefix(1);
        GNV_ASSIGN(const std::string spec, run(rest, depth + 1));
        return format_value(work_, value, spec);
    }

    Result<Value> find_value(std::string_view field) {
        const size_t first_end = std::min(field.find_first_of(".["), field.size());
        const std::string_view first = field.substr(0, first_end);
        Value value;
        if (first.empty() && !field.empty()) return Status(Code::invalid_argument, "a field has no name");
        if (first.empty() || is_digit(first[0])) {
            size_t index = next_;
            if (!first.empty()) std::from_chars(first.data(), first.data() + first.size(), index);
            next_ += first.empty();
            if (first.empty() ? by_number_ : next_ > 0)
                return Status(Code::invalid_argument, "numbered and automatic fields cannot be mixed");
            by_number_ = by_number_ || !first.empty();
            if (index >= values_.size()) return fail(Code::invalid_argument, "there is no argument ", index);
            value = values_[index];
        } else {
            const NamedValue * found = nullptr;
            for (const NamedValue & named : named_)
                if (named.first == first) found = &named;
            if (!found) return fail(Code::invalid_argument, "there is no argument '", printable(first, 60), "'");
            value = found->second;
        }
        return follow(value, field.substr(first_end));
    }

    // "[key]" and "[0]"; members are not reached from formats, as in Jinja's sandbox for methods.
    Result<Value> follow(Value value, std::string_view path) {
        while (!path.empty()) {
            const size_t close = path.find(']');
            if (path[0] != '[' || close == path.npos)
                return Status(Code::unsupported, "members in a field of a format string are not supported");
            const std::string_view key = path.substr(1, close - 1);
            path.remove_prefix(close + 1);
            int64_t index = 0;
            const auto parsed = std::from_chars(key.data(), key.data() + key.size(), index);
            const Value * found = nullptr;
            if (value.is(Kind::dict)) found = value.dict->find(key);
            if ((value.is(Kind::list) || value.is(Kind::tuple)) && parsed.ec == std::errc() && index >= 0 &&
                size_t(index) < value.sequence->items.size())
                found = &value.sequence->items[size_t(index)];
            if (!found) return fail(Code::invalid_argument, "there is no item '", printable(key, 60), "'");
            value = *found;
        }
        return value;
    }

    Workspace & work_;
    std::span<const Value> values_;
    std::span<const NamedValue> named_;
    size_t next_ = 0;
    bool by_number_ = false;
};

} // namespace

Result<Value> brace_format(Workspace & work, std::string_view format, std::span<const Value> values,
                           std::span<const NamedValue> named) {
    BraceFormatter formatter(work, values, named);
    GNV_ASSIGN(std::string text, formatter.run(format));
    GNV_TRY(work.step_bytes(text.size()));
    return work.keep_text(std::move(text));
}

} // namespace gnv::chat
