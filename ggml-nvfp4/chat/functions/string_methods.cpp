// Methods of str, with Python's meaning.
#include "chat/functions/method_tables.h"
#include "chat/functions/operators.h"
#include "chat/values/unicode_text.h"

#include <algorithm>

namespace gnv::chat {

namespace {

template <std::string (*change)(std::string_view)>
Result<Value> changed(Call & call) {
    GNV_ASSIGN(const Value result, kept(call, change(call.self.text)));
    return result.marked(call.self.is_markup);
}

template <bool left, bool right>
Result<Value> stripped(Call & call) {
    GNV_TRY(call.work.step_bytes(call.self.text.size()));
    if (!call.has_value(0)) return Value::string(strip(call.self.text, left, right)).marked(call.self.is_markup);
    GNV_ASSIGN(const std::string_view chars, call.text(0));
    return Value::string(strip(call.self.text, left, right, &chars));
}

template <CharacterClass wanted>
Result<Value> has_class(Call & call) {
    return Value::boolean(all_of_class(call.self.text, wanted));
}

template <bool (*question)(std::string_view)>
Result<Value> answers(Call & call) {
    return Value::boolean(question(call.self.text));
}

template <Align align>
Result<Value> padded(Call & call) {
    GNV_ASSIGN(const int64_t width, call.integer(0));
    GNV_ASSIGN(const std::string_view fill, call.text(1, " "));
    return pad_text(call.work, call.self.text, width, align, fill);
}

Result<Value> zero_fill(Call & call) {
    GNV_ASSIGN(const int64_t width, call.integer(0));
    const bool has_sign = call.self.text.starts_with("-") || call.self.text.starts_with("+");
    const std::string_view digits = call.self.text.substr(has_sign);
    GNV_ASSIGN(const Value filled, pad_text(call.work, digits, width - has_sign, Align::right, "0"));
    return kept(call, concat(call.self.text.substr(0, has_sign), filled.text));
}

// --- Searching ------------------------------------------------------------------------------------------------------------

// The part of the text between the arguments `start` and `end`, counted in code points, and where it begins in bytes.
struct Part {
    std::string_view text;
    size_t begin = 0;
    bool exists = true; // false where start is beyond the end
};

Result<Part> searched_part(Call & call, size_t start_parameter) {
    const std::string_view text = call.self.text;
    GNV_TRY(call.work.step_bytes(text.size()));
    if (!call.has_value(start_parameter) && !call.has_value(start_parameter + 1)) return Part{text};
    const int64_t length = int64_t(count_code_points(text));
    GNV_ASSIGN(int64_t start, call.integer(start_parameter, 0));
    GNV_ASSIGN(int64_t end, call.integer(start_parameter + 1, length));
    if (start > length) return Part{{}, text.size(), false};
    start = clamp_index(start, length);
    end = clamp_index(end, length);
    if (start > end) return Part{{}, text.size(), false};
    const size_t begin = offset_of_code_point(text, size_t(start));
    return Part{text.substr(begin, offset_of_code_point(text.substr(begin), size_t(end - start))), begin};
}

// Where the text is found, in code points; -1 where it is not.
template <bool from_right>
Result<int64_t> position(Call & call) {
    GNV_ASSIGN(const std::string_view wanted, call.text(0));
    GNV_ASSIGN(const Part part, searched_part(call, 1));
    const size_t found = !part.exists ? part.text.npos : from_right ? part.text.rfind(wanted) : part.text.find(wanted);
    if (found == part.text.npos) return int64_t(-1);
    return int64_t(count_code_points(call.self.text.substr(0, part.begin + found)));
}

template <bool from_right>
Result<Value> find(Call & call) {
    GNV_ASSIGN(const int64_t found, position<from_right>(call));
    return Value::number(found);
}

template <bool from_right>
Result<Value> index(Call & call) {
    GNV_ASSIGN(const int64_t found, position<from_right>(call));
    if (found < 0) return Status(Code::invalid_argument, "the text is not found");
    return Value::number(found);
}

Result<Value> count(Call & call) {
    GNV_ASSIGN(const std::string_view wanted, call.text(0));
    GNV_ASSIGN(const Part part, searched_part(call, 1));
    if (!part.exists) return Value::number(int64_t(0));
    if (wanted.empty()) return Value::number(int64_t(count_code_points(part.text)) + 1);
    int64_t found = 0;
    for (size_t at = part.text.find(wanted); at != part.text.npos; at = part.text.find(wanted, at + wanted.size()))
        found++;
    return Value::number(found);
}

template <bool at_end>
Result<Value> begins_or_ends(Call & call) {
    GNV_ASSIGN(const Part part, searched_part(call, 1));
    const auto fits = [&](std::string_view wanted) {
        return part.exists && (at_end ? part.text.ends_with(wanted) : part.text.starts_with(wanted));
    };
    if (!call.get(0).is(Kind::tuple)) {
        GNV_ASSIGN(const std::string_view wanted, call.text(0));
        if (!call.get(0).is_string()) return Status(Code::invalid_argument, "a str or a tuple of str is needed");
        return Value::boolean(fits(wanted));
    }
    for (const Value & wanted : call.get(0).sequence->items) {
        if (!wanted.is_string()) return Status(Code::invalid_argument, "a tuple of str is needed");
        if (fits(wanted.text)) return Value::boolean(true);
    }
    return Value::boolean(false);
}

Result<Value> remove_prefix(Call & call) {
    GNV_ASSIGN(const std::string_view prefix, call.text(0));
    return Value::string(call.self.text.substr(call.self.text.starts_with(prefix) ? prefix.size() : 0));
}

Result<Value> remove_suffix(Call & call) {
    GNV_ASSIGN(const std::string_view suffix, call.text(0));
    const std::string_view text = call.self.text;
    return Value::string(text.substr(0, text.size() - (text.ends_with(suffix) ? suffix.size() : 0)));
}

// --- Cutting and joining --------------------------------------------------------------------------------------------------

Result<Value> made_list(Call & call, std::vector<Value> pieces) {
    GNV_TRY(call.work.step(1 + pieces.size()));
    return call.work.list(std::move(pieces));
}

// At white space: runs of it separate, at the ends it counts nothing.
std::vector<Value> split_at_space(std::string_view text, uint64_t most, bool from_right) {
    std::vector<Value> pieces;
    for (text = strip(text, !from_right, from_right); !text.empty(); text = strip(text, !from_right, from_right)) {
        if (pieces.size() == most) {
            pieces.push_back(Value::string(text));
            break;
        }
        // The next run of other characters, from the side where the cuts begin.
        std::string_view rest = text;
        size_t size = 0;
        for (size_t at = 0; at < text.size(); at += size) {
            size = bytes_of_code_point(text, at);
            if (!strip(text.substr(at, size), true, false).empty()) continue;
            if (!from_right) {
                rest = text.substr(0, at);
                break;
            }
            rest = text.substr(at + size);
        }
        pieces.push_back(Value::string(rest));
        text = from_right ? text.substr(0, text.size() - rest.size()) : text.substr(rest.size());
    }
    return pieces;
}

std::vector<Value> split_at(std::string_view text, std::string_view separator, uint64_t most, bool from_right) {
    std::vector<Value> pieces;
    while (pieces.size() < most) {
        const size_t found = from_right ? text.rfind(separator) : text.find(separator);
        if (found == text.npos) break;
        const std::string_view after = text.substr(found + separator.size()), before = text.substr(0, found);
        pieces.push_back(Value::string(from_right ? after : before));
        text = from_right ? before : after;
    }
    pieces.push_back(Value::string(text));
    return pieces;
}

template <bool from_right>
Result<Value> split(Call & call) {
    GNV_TRY(call.work.step_bytes(call.self.text.size()));
    GNV_ASSIGN(const int64_t limit, call.integer(1, -1));
    const uint64_t most = limit < 0 ? UINT64_MAX : uint64_t(limit);
    std::vector<Value> pieces;
    if (call.has_value(0)) {
        GNV_ASSIGN(const std::string_view separator, call.text(0));
        if (separator.empty()) return Status(Code::invalid_argument, "empty separator");
        pieces = split_at(call.self.text, separator, most, from_right);
    } else {
        if (from_right) GNV_TRY(call.work.step_bytes(call.self.text.size() * std::min<uint64_t>(most, 1000)));
        pieces = split_at_space(call.self.text, most, from_right);
    }
    if (from_right) std::reverse(pieces.begin(), pieces.end());
    return made_list(call, std::move(pieces));
}

Result<Value> split_lines(Call & call) {
    std::vector<Value> lines;
    for_each_line(call.self.text, call.flag(0), [&](std::string_view line) { lines.push_back(Value::string(line)); });
    GNV_TRY(call.work.step_bytes(call.self.text.size()));
    return made_list(call, std::move(lines));
}

template <bool from_right>
Result<Value> partition(Call & call) {
    GNV_ASSIGN(const std::string_view separator, call.text(0));
    if (separator.empty()) return Status(Code::invalid_argument, "empty separator");
    const std::string_view text = call.self.text;
    const size_t found = from_right ? text.rfind(separator) : text.find(separator);
    const Value whole = Value::string(text), empty = Value::string({});
    if (found == text.npos)
        return call.work.list(from_right ? std::vector<Value>{empty, empty, whole}
                                         : std::vector<Value>{whole, empty, empty},
                              Kind::tuple);
    return call.work.list({Value::string(text.substr(0, found)), Value::string(separator),
                           Value::string(text.substr(found + separator.size()))},
                          Kind::tuple);
}

Result<Value> join(Call & call) {
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.get(0)));
    std::vector<std::string_view> texts;
    for (const Value & item : items) {
        if (!item.is_string()) return fail(Code::invalid_argument, "a str is needed, not ", type_name(item.kind));
        texts.push_back(item.text);
    }
    return join_texts(call.work, call.self.text, texts);
}

Result<Value> replace(Call & call) {
    GNV_ASSIGN(const std::string_view old, call.text(0));
    GNV_ASSIGN(const std::string_view with, call.text(1));
    if (!call.get(0).is_string() || !call.get(1).is_string())
        return Status(Code::invalid_argument, "str are needed, not None");
    GNV_ASSIGN(const int64_t most, call.integer(2, -1));
    return replace_text(call.work, call.self.text, old, with, most);
}

Result<Value> expand_tabs(Call & call) {
    GNV_ASSIGN(const int64_t size, call.integer(0, 8));
    std::string out;
    int64_t column = 0;
    for (const char c : call.self.text) {
        if (c == '\t') {
            const int64_t blanks = size > 0 ? size - column % size : 0;
            GNV_TRY(call.work.room(out.size() + uint64_t(blanks)));
            out.append(size_t(blanks), ' ');
            column += blanks;
        } else {
            out += c;
            column = c == '\n' || c == '\r' ? 0 : column + ((uint8_t(c) & 0xc0) != 0x80);
        }
    }
    return kept(call, std::move(out));
}

Result<Value> format(Call & call) {
    return brace_format(call.work, call.self.text, call.arguments.values, call.arguments.named);
}

constexpr Function string_methods[] = {
    {"capitalize", "", changed<capitalized>},
    {"casefold", "", changed<to_lower>},
    {"center", "width fillchar?", padded<Align::center>},
    {"count", "sub start? end?", count},
    {"endswith", "suffix start? end?", begins_or_ends<true>},
    {"expandtabs", "tabsize?", expand_tabs},
    {"find", "sub start? end?", find<false>},
    {"format", "*", format},
    {"index", "sub start? end?", index<false>},
    {"isalnum", "", has_class<CharacterClass::alnum>},
    {"isalpha", "", has_class<CharacterClass::alpha>},
    {"isascii", "", has_class<CharacterClass::ascii>},
    {"isdecimal", "", has_class<CharacterClass::decimal>},
    {"isdigit", "", has_class<CharacterClass::digit>},
    {"isidentifier", "", answers<is_identifier>},
    {"islower", "", answers<is_lower_text>},
    {"isnumeric", "", has_class<CharacterClass::numeric>},
    {"isprintable", "", has_class<CharacterClass::printable>},
    {"isspace", "", has_class<CharacterClass::space>},
    {"istitle", "", answers<is_title_text>},
    {"isupper", "", answers<is_upper_text>},
    {"join", "iterable", join},
    {"ljust", "width fillchar?", padded<Align::left>},
    {"lower", "", changed<to_lower>},
    {"lstrip", "chars?", stripped<true, false>},
    {"partition", "sep", partition<false>},
    {"removeprefix", "prefix", remove_prefix},
    {"removesuffix", "suffix", remove_suffix},
    {"replace", "old new count?", replace},
    {"rfind", "sub start? end?", find<true>},
    {"rindex", "sub start? end?", index<true>},
    {"rjust", "width fillchar?", padded<Align::right>},
    {"rpartition", "sep", partition<true>},
    {"rsplit", "sep? maxsplit?", split<true>},
    {"rstrip", "chars?", stripped<false, true>},
    {"split", "sep? maxsplit?", split<false>},
    {"splitlines", "keepends?", split_lines},
    {"startswith", "prefix start? end?", begins_or_ends<false>},
    {"strip", "chars?", stripped<true, true>},
    {"swapcase", "", changed<swap_case>},
    {"title", "", changed<to_title>},
    {"upper", "", changed<to_upper>},
    {"zfill", "width", zero_fill},
};

} // namespace

const Function * find_string_method(std::string_view name) { return find_function(string_methods, name); }

} // namespace gnv::chat
