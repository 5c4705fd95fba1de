// Work on texts that methods and filters share.
#include "chat/functions/method_tables.h"
#include "chat/functions/operators.h"
#include "chat/values/unicode_text.h"
#include "core/utf8.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace gnv::chat {

Result<Value> replace_text(Workspace & work, std::string_view text, std::string_view old, std::string_view with,
                           int64_t count) {
    GNV_TRY(work.step_bytes(text.size()));
    std::string out;
    uint64_t left = count < 0 ? UINT64_MAX : uint64_t(count);
    size_t at = 0;
    while (left > 0) {
        const size_t found = text.find(old, at);
        if (found == text.npos) break;
        GNV_TRY(work.room(out.size() + with.size()));
        out.append(text, at, found - at).append(with);
        at = found + old.size();
        left--;
        if (!old.empty()) continue;
        if (at == text.size()) break; // an empty `old` is before each character, and at the end
        const size_t bytes = bytes_of_code_point(text, at);
        out.append(text, at, bytes);
        at += bytes;
    }
    out.append(text, at);
    GNV_TRY(work.step_bytes(out.size()));
    return work.keep_text(std::move(out));
}

std::string escaped_text(std::string_view text) {
    static constexpr std::pair<char, std::string_view> entities[] = {
        {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&#34;"}, {'\'', "&#39;"}};
    std::string out;
    for (const char c : text) {
        std::string_view written(&c, 1);
        for (const auto & [plain, entity] : entities)
            if (c == plain) written = entity;
        out += written;
    }
    return out;
}

Result<Value> join_texts(Workspace & work, std::string_view separator, const std::vector<std::string_view> & texts) {
    uint64_t bytes = separator.size() * texts.size();
    for (const std::string_view text : texts) bytes += text.size();
    GNV_TRY(work.room(bytes));
    GNV_TRY(work.step_bytes(bytes));
    std::string out;
    out.reserve(bytes);
    for (size_t i = 0; i < texts.size(); i++) {
        if (i) out += separator;
        out += texts[i];
    }
    return work.keep_text(std::move(out));
}

Result<Value> pad_text(Workspace & work, std::string_view text, int64_t width, Align align, std::string_view fill) {
    const int64_t length = int64_t(count_code_points(text));
    if (count_code_points(fill) != 1)
        return Status(Code::invalid_argument, "the fill character must be exactly one character long");
    if (width <= length) return Value::string(text);
    const int64_t missing = width - length;
    GNV_TRY(work.room(uint64_t(std::min<int64_t>(missing, INT64_MAX / 8)) * fill.size()));
    GNV_TRY(work.step_bytes(uint64_t(missing)));
    const int64_t before = align == Align::left    ? 0
                           : align == Align::right ? missing
                                                   : missing / 2 + (missing & width & 1);
    std::string out;
    for (int64_t i = 0; i < before; i++) out += fill;
    out += text;
    for (int64_t i = before; i < missing; i++) out += fill;
    return work.keep_text(std::move(out));
}

namespace {

// The ASCII text of a number: white space at the ends removed, "_" between digits removed. False where it has others.
bool plain_number(std::string_view text, std::string & out) {
    text = strip(text, true, true);
    for (size_t i = 0; i < text.size(); i++) {
        if (text[i] != '_') {
            out += text[i];
            continue;
        }
        const auto is_alnum = [](char c) {
            return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        };
        if (i == 0 || i + 1 == text.size() || !is_alnum(text[i - 1]) || !is_alnum(text[i + 1])) return false;
    }
    return !out.empty();
}

} // namespace

Result<bool> parse_int(std::string_view text, int64_t base, int64_t & out) {
    std::string digits;
    if (base != 0 && (base < 2 || base > 36)) return false;
    if (!plain_number(text, digits)) return false;
    const bool minus = digits[0] == '-';
    std::string_view rest = digits;
    if (minus || digits[0] == '+') rest.remove_prefix(1);
    const char kind = rest.size() > 2 && rest[0] == '0' ? char(rest[1] | 0x20) : '\0';
    const int64_t prefix = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (prefix && (base == prefix || base == 0)) {
        rest.remove_prefix(2);
        base = prefix;
    } else if (base == 0) {
        base = 10;
    }
    if (rest.empty() || rest[0] == '-' || rest[0] == '+') return false;
    uint64_t magnitude = 0;
    const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), magnitude, int(base));
    if (parsed.ptr != rest.data() + rest.size() || parsed.ec == std::errc::invalid_argument) return false;
    if (parsed.ec != std::errc() || magnitude > uint64_t(INT64_MAX))
        return Status(Code::unsupported, "a whole number beyond 64 bits is not supported");
    out = minus ? -int64_t(magnitude) : int64_t(magnitude);
    return true;
}

bool parse_real(std::string_view text, double & out) {
    std::string digits;
    if (!plain_number(text, digits)) return false;
    std::string_view rest = digits;
    const bool minus = rest[0] == '-';
    if (minus || rest[0] == '+') rest.remove_prefix(1);
    const std::string word = to_lower(rest);
    if (word == "inf" || word == "infinity" || word == "nan") {
        out = word == "nan" ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
    } else {
        if (rest.empty() || rest.find_first_not_of("0123456789.eE+-") != rest.npos || rest[0] == '-' || rest[0] == '+')
            return false;
        const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), out);
        if (parsed.ptr != rest.data() + rest.size() || parsed.ec == std::errc::invalid_argument) return false;
        if (parsed.ec == std::errc::result_out_of_range) out = strtod(std::string(rest).c_str(), nullptr);
    }
    if (minus) out = -out;
    return true;
}

} // namespace gnv::chat
