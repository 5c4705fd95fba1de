// Filters that give text or numbers.
#include "chat/functions/method_tables.h"
#include "chat/functions/operators.h"
#include "chat/values/unicode_text.h"
#include "core/utf8.h"

#include <cmath>

namespace gnv::chat {

namespace {

template <std::string (*change)(std::string_view)>
Result<Value> changed(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    GNV_ASSIGN(const Value result, kept(call, change(text)));
    return result.marked(call.self.is_markup);
}

Result<Value> as_text(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    return Value::string(text).marked(call.self.is_markup);
}

template <std::string (*change)(std::string_view)>
Result<Value> changed_plain(Call & call) {
    GNV_ASSIGN(const Value result, changed<change>(call));
    return result.marked(false);
}

// As str.title(), but words begin after blanks and opening brackets alone.
std::string title_words(std::string_view text) {
    std::string out, word;
    const auto flush = [&] {
        const size_t first = offset_of_code_point(word, 1);
        out += to_upper(std::string_view(word).substr(0, first)) + to_lower(std::string_view(word).substr(first));
        word.clear();
    };
    bool in_break = false;
    for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
        const char32_t c = utf8_decode(text, at, bytes);
        const bool breaks = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
        if (breaks != in_break) flush();
        in_break = breaks;
        word += text.substr(at, bytes);
    }
    flush();
    return out;
}

Result<Value> trim(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    GNV_TRY(call.work.step_bytes(text.size()));
    if (!call.has_value(0)) return Value::string(strip(text, true, true)).marked(call.self.is_markup);
    GNV_ASSIGN(const std::string_view chars, call.text(0));
    return Value::string(strip(text, true, true, &chars));
}

Result<Value> replace(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    GNV_ASSIGN(const std::string_view old, text_of(call.work, call.get(0)));
    GNV_ASSIGN(const std::string_view with, text_of(call.work, call.get(1)));
    GNV_ASSIGN(const int64_t count, call.integer(2, -1));
    return replace_text(call.work, text, old, with, count);
}

Result<Value> center(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    GNV_ASSIGN(const int64_t width, call.integer(0, 80));
    return pad_text(call.work, text, width, Align::center, " ");
}

Result<Value> indent(Call & call) {
    if (!call.self.is_string()) return fail_operands("+", call.self, Value::string("\n"));
    std::string indention;
    if (call.get(0).is_string()) {
        indention = call.get(0).text;
    } else {
        GNV_ASSIGN(const int64_t width, call.integer(0, 4));
        GNV_TRY(call.work.room(uint64_t(std::max<int64_t>(width, 0))));
        indention.assign(size_t(std::max<int64_t>(width, 0)), ' ');
    }
    const bool first = call.flag(1), blank = call.flag(2);
    std::string out;
    Status failure;
    bool is_first = true;
    const std::string text = std::string(call.self.text) + "\n";
    for_each_line(text, false, [&](std::string_view line) {
        if (failure.ok()) failure = call.work.room(out.size() + indention.size() + line.size());
        if (!failure.ok()) return;
        if (!is_first) out += '\n';
        if (is_first ? first : blank || !line.empty()) out += indention;
        out += line;
        is_first = false;
    });
    GNV_TRY(std::move(failure));
    return kept(call, std::move(out));
}

Result<Value> truncate(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    GNV_ASSIGN(const int64_t length, call.integer(0, 255));
    GNV_ASSIGN(const std::string_view end, call.text(2, "..."));
    GNV_ASSIGN(const int64_t leeway, call.integer(3, 5));
    const int64_t end_length = int64_t(count_code_points(end));
    if (length < end_length || leeway < 0) return Status(Code::invalid_argument, "the length is below that of the end");
    if (int64_t(count_code_points(text)) <= length + leeway) return Value::string(text);
    std::string_view start = text.substr(0, offset_of_code_point(text, size_t(length - end_length)));
    const size_t blank = start.rfind(' ');
    if (!call.flag(1) && blank != start.npos) start = start.substr(0, blank);
    return kept(call, concat(start, end));
}

Result<Value> word_count(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    GNV_TRY(call.work.step_bytes(text.size()));
    int64_t words = 0;
    bool in_word = false;
    for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
        bytes = bytes_of_code_point(text, at);
        const std::string_view c = text.substr(at, bytes);
        const bool is_word = c == "_" || all_of_class(c, CharacterClass::alnum);
        words += is_word && !in_word;
        in_word = is_word;
    }
    return Value::number(words);
}

// Marks the text as one that needs no escaping.
Result<Value> safe(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    return Value::markup(text);
}

template <bool always>
Result<Value> escape(Call & call) {
    if (!always && call.self.is_markup) return call.self;
    GNV_ASSIGN(const std::string_view text, call.self_text());
    GNV_ASSIGN(const Value escaped, kept(call, escaped_text(text)));
    return escaped.marked(true);
}

Result<Value> format(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    if (call.arguments.named.empty())
        return percent_format(call.work, text, call.work.list(call.arguments.values, Kind::tuple));
    if (!call.arguments.values.empty())
        return Status(Code::invalid_argument, "arguments with and without names cannot be mixed");
    Dict * const named = call.work.make<Dict>();
    for (const NamedValue & entry : call.arguments.named) named->set(entry.first, entry.second);
    return percent_format(call.work, text, Value::of(Kind::dict, named));
}

// As Transformers defines it.
Result<Value> to_json(Call & call) {
    JsonStyle style;
    style.ascii = call.flag(0);
    std::string indent;
    if (call.has_value(1)) {
        style.indented = true;
        style.item_separator = ",";
        if (call.get(1).is_string()) {
            indent = call.get(1).text;
        } else {
            GNV_ASSIGN(const int64_t width, call.integer(1));
            GNV_TRY(call.work.room(uint64_t(std::max<int64_t>(width, 0))));
            indent.assign(size_t(std::max<int64_t>(width, 0)), ' ');
        }
        style.indent = indent;
    }
    if (call.has_value(2)) {
        GNV_ASSIGN(const std::vector<Value> parts, elements_of(call.work, call.get(2)));
        if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string())
            return Status(Code::invalid_argument, "separators are two strings");
        style.item_separator = parts[0].text;
        style.key_separator = parts[1].text;
    }
    style.sort_keys = call.flag(3);
    GNV_ASSIGN(std::string text, json_of(call.work, call.self, style));
    return kept(call, std::move(text));
}

// --- Numbers --------------------------------------------------------------------------------------------------------------

Result<Value> whole_of(double real, const Value & otherwise) {
    if (!std::isfinite(real)) return otherwise;
    if (std::abs(real) >= 0x1p63) return Status(Code::unsupported, "a whole number beyond 64 bits is not supported");
    return Value::number(int64_t(real));
}

Result<Value> to_int(Call & call) {
    const Value & value = call.self;
    const Value otherwise = call.has(0) ? call.get(0) : Value::number(int64_t(0));
    if (value.is_whole()) return Value::number(value.as_integer());
    if (value.is(Kind::real)) {
        if (std::isinf(value.real)) return Status(Code::invalid_argument, "cannot convert float infinity to integer");
        return whole_of(value.real, otherwise);
    }
    if (value.is_undefined()) return fail_undefined(value);
    if (!value.is_string()) return otherwise;
    GNV_ASSIGN(const int64_t base, call.integer(1, 10));
    int64_t whole = 0;
    GNV_ASSIGN(const bool is_int, parse_int(value.text, base, whole));
    if (is_int) return Value::number(whole);
    double real = 0;
    return parse_real(value.text, real) ? whole_of(real, otherwise) : Result<Value>(otherwise);
}

Result<Value> to_float(Call & call) {
    const Value & value = call.self;
    double real = 0;
    if (value.is_number()) return Value::number(value.as_real());
    if (value.is_undefined()) return fail_undefined(value);
    if (value.is_string() && parse_real(value.text, real)) return Value::number(real);
    return call.has(0) ? call.get(0) : Value::number(0.0);
}

Result<Value> absolute(Call & call) {
    if (call.self.is(Kind::real)) return Value::number(std::abs(call.self.real));
    if (call.self.is_whole() && call.self.as_integer() >= 0) return Value::number(call.self.as_integer());
    return negative(call.self);
}

// round(), which takes halves to the even neighbour, of the exact value of the double.
double round_half_even(double value, int64_t digits) {
    if (!std::isfinite(value) || digits > 300) return value;
    if (digits < -308) return std::copysign(0.0, value);
    if (digits < 0) {
        const double unit = std::pow(10.0, double(-digits));
        return std::nearbyint(value / unit) * unit;
    }
    char text[700];
    snprintf(text, sizeof text, "%.*f", int(digits), value); // rounds the exact value, halves to even
    return strtod(text, nullptr);
}

Result<Value> round_number(Call & call) {
    GNV_ASSIGN(const int64_t precision, call.integer(0, 0));
    GNV_ASSIGN(const std::string_view method, call.text(1, "common"));
    if (method != "common" && method != "ceil" && method != "floor")
        return Status(Code::invalid_argument, "the method must be common, ceil or floor");
    if (call.self.is_undefined()) return fail_undefined(call.self);
    if (!call.self.is_number())
        return fail(Code::invalid_argument, "a number is needed, not ", type_name(call.self.kind));
    if (method == "common") {
        if (!call.self.is_whole()) return Value::number(round_half_even(call.self.real, precision));
        if (precision >= 0) return Value::number(call.self.as_integer());
        const double rounded = round_half_even(double(call.self.as_integer()), precision);
        return whole_of(rounded, Value::number(int64_t(0)));
    }
    const double unit = std::pow(10.0, double(precision)), scaled = call.self.as_real() * unit;
    return Value::number((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit);
}

constexpr Function text_filters[] = {
    {"abs", "", absolute},
    {"capitalize", "", changed<capitalized>},
    {"center", "width?", center},
    {"e", "", escape<false>},
    {"escape", "", escape<false>},
    {"float", "default?", to_float},
    {"forceescape", "", escape<true>},
    {"format", "*", format},
    {"indent", "width? first? blank?", indent},
    {"int", "default? base?", to_int},
    {"lower", "", changed<to_lower>},
    {"replace", "old new count?", replace},
    {"round", "precision? method?", round_number},
    {"safe", "", safe},
    {"string", "", as_text},
    {"title", "", changed_plain<title_words>},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", to_json},
    {"trim", "chars?", trim},
    {"truncate", "length? killwords? end? leeway?", truncate},
    {"upper", "", changed<to_upper>},
    {"wordcount", "", word_count},
};

} // namespace

const Function * find_text_filter(std::string_view name) { return find_function(text_filters, name); }

const Function * find_filter(std::string_view name) {
    if (const Function * const text = find_text_filter(name)) return text;
    if (const Function * const list = find_list_filter(name)) return list;
    return find_choice_filter(name);
}

} // namespace gnv::chat
