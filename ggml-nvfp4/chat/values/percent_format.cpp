// "%-5s|%(name)05.2f" % values
#include "chat/values/number_format.h"
#include "chat/values/python_text.h"
#include "chat/values/unicode_text.h"
#include "core/utf8.h"

#include <cmath>

namespace gnv::chat {

namespace {

class PercentFormatter {
  public:
    PercentFormatter(Workspace & work, std::string_view format, const Value & values)
        : work_(work), format_(format), values_(values) {}

    Result<Value> run() {
        for (at_ = 0; at_ < format_.size(); at_++) {
            if (format_[at_] == '%') {
                at_++;
                GNV_TRY(convert());
            } else {
                out_ += format_[at_];
            }
        }
        const bool is_tuple = values_.is(Kind::tuple);
        const bool unused = is_tuple ? taken_ < values_.sequence->items.size()
                                     : taken_ == 0 && !(values_.is(Kind::dict) || values_.is(Kind::list));
        if (unused) return Status(Code::invalid_argument, "not all arguments are converted during string formatting");
        GNV_TRY(work_.step_bytes(out_.size()));
        return work_.keep_text(std::move(out_));
    }

  private:
    char peek() const { return at_ < format_.size() ? format_[at_] : '\0'; }

    Result<Value> take_value() {
        if (!values_.is(Kind::tuple)) {
            if (taken_++ == 0) return values_;
        } else if (taken_ < values_.sequence->items.size()) {
            return values_.sequence->items[taken_++];
        }
        return Status(Code::invalid_argument, "not enough arguments for the format string");
    }

    // A number, or "*" for the next value.
    Result<int64_t> take_number(int64_t otherwise) {
        if (peek() == '*') {
            at_++;
            GNV_ASSIGN(const Value value, take_value());
            if (!value.is_whole()) return Status(Code::invalid_argument, "* wants an int");
            return value.as_integer();
        }
        int64_t number = otherwise;
        for (bool first = true; peek() >= '0' && peek() <= '9'; at_++, first = false) {
            number = (first ? 0 : number * 10) + (peek() - '0');
            if (number > widest_format) return Status(Code::unsupported, "the width is too large");
        }
        return number;
    }

    Status convert() {
        NumberFormat format;
        Value value;
        bool has_value = false;
        if (peek() == '(') {
            const size_t close = format_.find(')', at_);
            if (close == format_.npos || !values_.is(Kind::dict))
                return Status(Code::invalid_argument, "%(name) needs a dict and a closing )");
            const std::string_view key = format_.substr(at_ + 1, close - at_ - 1);
            const Value * const found = values_.dict->find(key);
            if (!found) return fail(Code::invalid_argument, "there is no '", printable(key, 60), "'");
            value = *found;
            has_value = true;
            taken_++;
            at_ = close + 1;
        }
        for (; peek() && std::string_view("-+ #0").find(peek()) != std::string_view::npos; at_++) {
            if (peek() == '-') format.align = '<';
            if (peek() == '+' || (peek() == ' ' && format.sign != '+')) format.sign = peek();
            if (peek() == '#') format.alternate = true;
            if (peek() == '0' && format.align != '<') {
                format.align = '=';
                format.fill = "0";
            }
        }
        GNV_ASSIGN(format.width, take_number(0));
        if (format.width < 0) format.align = '<', format.width = -format.width;
        if (format.align == '<') format.fill = " ";
        if (peek() == '.') {
            at_++;
            GNV_ASSIGN(format.precision, take_number(0));
        }
        while (peek() && std::string_view("hlL").find(peek()) != std::string_view::npos) at_++;
        format.type = peek();
        if (format.type == '%') {
            out_ += '%';
            return {};
        }
        if (!format.type || std::string_view("diuoxXeEfFgGcrsa").find(format.type) == std::string_view::npos)
            return fail(Code::invalid_argument, "the format character '",
                        printable(format_.substr(std::min(at_, format_.size()), 1)), "' is unknown");
        if (!has_value) {
            GNV_ASSIGN(value, take_value());
        }
        return append(value, format);
    }

    Status append(const Value & value, NumberFormat format) {
        GNV_TRY(work_.room(out_.size()));
        if (std::string_view("rsac").find(format.type) != std::string_view::npos) return append_text(value, format);
        if (value.is_undefined()) return fail_undefined(value);
        if (!value.is_number())
            return fail(Code::invalid_argument, "%", format.type, " needs a number, not ", type_name(value.kind));
        std::string text;
        if (std::string_view("diuoxX").find(format.type) != std::string_view::npos) {
            const bool hex = std::string_view("oxX").find(format.type) != std::string_view::npos;
            if (value.is(Kind::real) && (hex || !(std::abs(value.real) < 0x1p63)))
                return fail(Code::invalid_argument, "%", format.type, " needs an int");
            if (!hex) format.type = 'd';
            GNV_ASSIGN(text,
                       whole_text(work_, value.is(Kind::real) ? int64_t(value.real) : value.as_integer(), format));
        } else {
            GNV_ASSIGN(text, real_text_of(work_, value.as_real(), format));
        }
        out_ += text;
        return {};
    }

    Status append_text(const Value & value, NumberFormat format) {
        std::string text;
        if (format.type == 'c') {
            if (!value.is_string() && !value.is_whole())
                return Status(Code::invalid_argument, "%c needs an int or a character");
            if (value.is_string() && count_code_points(value.text) != 1)
                return Status(Code::invalid_argument, "%c needs one character");
            if (value.is_string()) text = value.text;
            const int64_t code = value.is_string() ? 0 : value.as_integer();
            if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
                return Status(Code::invalid_argument, "%c needs the number of a character");
            if (!value.is_string()) utf8_append(text, char32_t(code));
            format.precision = -1;
        } else if (format.type == 's') {
            GNV_ASSIGN(text, text_of(work_, value));
        } else {
            GNV_ASSIGN(text, repr_of(work_, value));
            if (format.type == 'a') text = ascii_of(text);
        }
        if (format.precision >= 0) text.resize(offset_of_code_point(text, size_t(format.precision)));
        format.fill = " ";
        if (format.align != '<') format.align = '>';
        GNV_ASSIGN(const std::string whole, padded(work_, text, format, '>'));
        out_ += whole;
        return {};
    }

    Workspace & work_;
    const std::string_view format_;
    const Value values_;
    std::string out_;
    size_t at_ = 0, taken_ = 0;
};

} // namespace

Result<Value> percent_format(Workspace & work, std::string_view format, const Value & values) {
    return PercentFormatter(work, format, values).run();
}

} // namespace gnv::chat
