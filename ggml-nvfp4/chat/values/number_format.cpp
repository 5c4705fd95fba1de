#include "chat/values/number_format.h"

#include "chat/values/python_text.h"
#include "chat/values/unicode_text.h"

#include <cmath>
#include <cstdio>

namespace gnv::chat {

namespace {

std::string sign_of(bool minus, const NumberFormat & format) {
    if (minus) return "-";
    return format.sign == '+' ? "+" : format.sign == ' ' ? " " : "";
}

std::string grouped(const std::string & digits, char separator) {
    if (!separator) return digits;
    const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
    std::string out;
    for (size_t i = 0; i < whole; i++) {
        if (i && (whole - i) % 3 == 0) out += separator;
        out += digits[i];
    }
    return out + digits.substr(whole);
}

} // namespace

Result<std::string> padded(Workspace & work, std::string_view text, const NumberFormat & format, char own_align) {
    const int64_t missing = format.width - int64_t(count_code_points(text));
    if (missing <= 0) return std::string(text);
    if (format.width > widest_format)
        return fail(Code::unsupported, "a width above ", count_text(widest_format), " is not supported");
    GNV_TRY(work.room(uint64_t(missing) * format.fill.size()));
    const char align = format.align ? format.align : own_align;
    const int64_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
    std::string out, sign;
    if (align == '=' && !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ')) {
        sign = text.substr(0, 1);
        text.remove_prefix(1);
    }
    if (align == '=' && text.size() > 2 && text[0] == '0' && (text[1] | 0x20) >= 'a') { // 0x, 0o, 0b
        sign += text.substr(0, 2);
        text.remove_prefix(2);
    }
    out += sign;
    for (int64_t i = 0; i < before; i++) out += format.fill;
    out += text;
    for (int64_t i = before; i < missing; i++) out += format.fill;
    return out;
}

Result<std::string> whole_text(Workspace & work, int64_t number, const NumberFormat & format) {
    const char type = format.type;
    const uint64_t base = type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : type == 'b' ? 2 : 10;
    uint64_t magnitude = number < 0 ? 0 - uint64_t(number) : uint64_t(number);
    std::string digits;
    do {
        const uint64_t digit = magnitude % base;
        digits.insert(digits.begin(), char(digit < 10 ? '0' + digit : (type == 'X' ? 'A' : 'a') + digit - 10));
        magnitude /= base;
    } while (magnitude);
    if (format.precision > widest_format) return Status(Code::unsupported, "the precision is too large");
    if (format.precision > int64_t(digits.size())) digits.insert(0, size_t(format.precision) - digits.size(), '0');
    digits = grouped(digits, format.grouping);
    const std::string prefix = format.alternate && base != 10 ? std::string("0") + type : "";
    return padded(work, concat(sign_of(number < 0, format), prefix, digits), format, '>');
}

Result<std::string> real_text_of(Workspace & work, double number, const NumberFormat & format) {
    constexpr int64_t most_digits = 1000;
    if (format.precision > most_digits) return Status(Code::unsupported, "the precision is too large");
    const bool percent = format.type == '%';
    const char type = percent ? 'f' : format.type ? format.type : 'g';
    const int precision = int(format.precision < 0 ? 6 : format.precision);
    const double magnitude = std::abs(percent ? number * 100 : number);
    std::string digits;
    if (!std::isfinite(number)) {
        digits = std::isnan(number) ? "nan" : "inf";
        if (type < 'a') digits = to_upper(digits);
    } else {
        const char pattern[] = {'%',
                                format.alternate ? '#' : '.',
                                format.alternate ? '.' : '*',
                                format.alternate ? '*' : type,
                                format.alternate ? type : '\0',
                                '\0'};
        std::string buffer(size_t(precision) + 400, '\0');
        buffer.resize(size_t(snprintf(buffer.data(), buffer.size(), pattern, precision, magnitude)));
        digits = grouped(buffer, format.grouping);
        const bool plain = digits.find_first_of(".e") == digits.npos;
        if (!format.type && plain) digits += ".0";
    }
    return padded(work,
                  concat(sign_of(std::signbit(number) && !std::isnan(number), format), digits, percent ? "%" : ""),
                  format, '>');
}

} // namespace gnv::chat
