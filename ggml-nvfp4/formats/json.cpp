#include "formats/json.h"

#include "formats/file.h"
#include "formats/folder_hints.h"
#include "formats/json_fault.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <new>
#include <simdjson.h>
#include <vector>

namespace gnv {

namespace dom = simdjson::dom;

static constexpr size_t deepest_nesting = 256;
// simdjson detects the processor at its first use, in a function that ends the process if memory runs out. So the first
// use is at the start of the process.
[[maybe_unused]] static const bool has_chosen = !simdjson::get_active_implementation()->name().empty();

// Bounds memory: a value takes up to 50 bytes, however short its text. Headers of 900,000 tensors stay below this
// limit.
static constexpr size_t most_values = 10'000'000;

struct JsonDocument::State {
    std::string name;
    dom::parser parser;
    dom::element root;
    bool has_large_numbers = false; // as strings, see wrap_large_numbers()
    bool has_duplicates = false;
};

// The path of a value is kept as a chain of parents and only spelled out for a message.
struct JsonValue::Node {
    using DocumentState = JsonDocument::State;
    std::shared_ptr<const DocumentState> document;
    std::shared_ptr<const Node> parent; // null at the root
    std::string key;                    // of a member
    size_t index = 0;                   // of an element, where key_is_index
    bool key_is_index = false;
    dom::element element;
};

// --- Documents ------------------------------------------------------------------------------------------------------------

// The first key that occurs twice in one object anywhere below `element`.
static bool find_duplicate_key(dom::element element, std::string & key) {
    dom::array array;
    if (element.get(array) == simdjson::SUCCESS) {
        for (const dom::element child : array)
            if (find_duplicate_key(child, key)) return true;
        return false;
    }
    dom::object object;
    if (element.get(object) != simdjson::SUCCESS) return false;
    std::vector<std::string_view> keys; // sorted: less memory than a set, and no keys make it slow
    for (const dom::key_value_pair member : object) {
        keys.push_back(member.key);
        if (find_duplicate_key(member.value, key)) return true;
    }
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice == keys.end()) return false;
    key = std::string(*twice);
    return true;
}

// --- Numbers that 64 bits do not hold -----------------------------------------------------------------------------------------

// simdjson refuses them. They become strings that begin with this mark, which no other text has a reason to begin with.
static constexpr std::string_view large_mark = "\x7fgnv number ";

// json_number_length() of a number that ends there: digits behind a leading zero make it none.
static size_t number_length(std::string_view text) {
    const size_t length = json_number_length(text);
    const bool goes_on = length < text.size() && text[length] >= '0' && text[length] <= '9';
    return goes_on ? 0 : length;
}

static bool is_large_number(dom::element element, std::string_view & number) {
    std::string_view text;
    if (element.get(text) != simdjson::SUCCESS || !starts_with(text, large_mark)) return false;
    number = text.substr(large_mark.size());
    return number_length(number) == number.size();
}

static bool fits_64_bits(std::string_view number) {
    if (number.find_first_of(".eE") != number.npos) return std::isfinite(strtod(std::string(number).c_str(), nullptr));
    constexpr size_t most_safe_digits = 18;
    if (number.size() <= most_safe_digits) return true;
    int64_t negative;
    uint64_t positive;
    const char * const end = number.data() + number.size();
    return number[0] == '-' ? std::from_chars(number.data(), end, negative).ec == std::errc()
                            : std::from_chars(number.data(), end, positive).ec == std::errc();
}

// The text with such numbers as marked strings; false when there are none.
static bool wrap_large_numbers(const std::string & text, std::string & out) {
    bool found = false;
    size_t copied = 0;
    const auto is_value = [&](size_t end) { // what follows a number that is no key
        end = std::min(text.find_first_not_of(" \t\r\n", end), text.size());
        return end == text.size() || text[end] == ',' || text[end] == ']' || text[end] == '}';
    };
    for (size_t at = 0; at < text.size();) {
        const char c = text[at];
        if (c == '"') {
            for (at++; at < text.size() && text[at] != '"'; at++) at += text[at] == '\\';
            at++;
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            const size_t length = number_length(std::string_view(text).substr(at));
            if (length > 0 && is_value(at + length) && !fits_64_bits(std::string_view(text).substr(at, length))) {
                out.append(text, copied, at - copied).append("\"").append(large_mark);
                out.append(text, at, length).append("\"");
                copied = at + length;
                found = true;
            }
            at += std::max<size_t>(length, 1);
        } else {
            at++;
        }
    }
    out.append(text, copied);
    return found;
}

// Not less than the number of values in a JSON text.
static size_t count_values(const std::string & text) {
    size_t count = 1;
    for (const char c : text) count += (c == ',') + (c == ':') + (c == '[') + (c == '{');
    return count;
}

JsonDocument::JsonDocument(JsonDocument &&) noexcept = default;
JsonDocument & JsonDocument::operator=(JsonDocument &&) noexcept = default;
JsonDocument::~JsonDocument() = default;

Result<JsonDocument> JsonDocument::parse(std::string text, std::string name, JsonKeys keys) {
    auto state = std::make_shared<State>();
    state->name = std::move(name);
    if (is_lfs_pointer(text)) return fail(Code::format, state->name, " ", lfs_pointer_text);
    if (text.starts_with("\xef\xbb\xbf"))
        return fail(Code::format, state->name,
                    ": begins with a byte order mark, which JSON does not have and loaders "
                    "refuse; save the file as UTF-8 without one");
    if (count_values(text) > most_values)
        return fail(Code::format, state->name, ": more than ", most_values,
                    " values; no file of a checkpoint has as many");
    const auto run_parser = [&](const std::string & json) {
        if (state->parser.allocate(json.size() < 256 ? 256 : json.size(), deepest_nesting) != simdjson::SUCCESS)
            return simdjson::MEMALLOC;
        // The parser keeps its own copy of every string; the text is not needed afterwards.
        return state->parser.parse(json).get(state->root);
    };
    simdjson::error_code error = run_parser(text);
    std::string wrapped;
    if (error != simdjson::SUCCESS && error != simdjson::MEMALLOC && wrap_large_numbers(text, wrapped)) {
        state->has_large_numbers = true;
        error = run_parser(wrapped);
    }
    if (error == simdjson::MEMALLOC) return Status::out_of_memory();
    if (error != simdjson::SUCCESS) {
        const std::string fault = describe_json_fault(text);
        if (!fault.empty()) return fail(Code::format, state->name, ": not valid JSON ", fault);
        return fail(Code::format, state->name, ": not valid JSON: ", simdjson::error_message(error));
    }
    std::string key;
    state->has_duplicates = find_duplicate_key(state->root, key);
    if (state->has_duplicates && keys == JsonKeys::once)
        return fail(Code::format, state->name, ": the key \"", printable(key), "\" occurs twice in one object");
    return JsonDocument(std::move(state));
}

Result<JsonDocument> JsonDocument::read(const std::string & path, uint64_t size_limit, JsonKeys keys) {
    GNV_ASSIGN(std::string text, read_file(path, size_limit));
    return parse(std::move(text), path, keys);
}

bool JsonDocument::has_duplicates() const { return state_->has_duplicates; }

JsonValue JsonDocument::root() const {
    auto node = std::make_shared<JsonValue::Node>();
    node->document = state_;
    node->element = state_->root;
    return JsonValue(std::move(node));
}

// --- Values ---------------------------------------------------------------------------------------------------------------

static const char * const type_names[] = {"null",     "a boolean", "an integer", "a number",
                                          "a string", "an array",  "an object",  "a number that 64 bits do not hold"};

JsonType JsonValue::type() const {
    switch (node_->element.type()) {
    case dom::element_type::ARRAY: return JsonType::array;
    case dom::element_type::OBJECT: return JsonType::object;
    case dom::element_type::INT64:
    case dom::element_type::UINT64: return JsonType::integer;
    case dom::element_type::DOUBLE: return JsonType::real;
    case dom::element_type::STRING: {
        std::string_view number;
        return node_->document->has_large_numbers && is_large_number(node_->element, number) ? JsonType::large
                                                                                             : JsonType::string;
    }
    case dom::element_type::BOOL: return JsonType::boolean;
    case dom::element_type::NULL_VALUE: break;
    }
    return JsonType::null;
}

std::string JsonValue::where() const {
    std::string path;
    for (const Node * node = node_.get(); node->parent; node = node->parent.get()) {
        const std::string step = node->key_is_index ? concat("[", node->index, "]") : printable(node->key);
        path = step + (path.empty() || path[0] == '[' ? "" : ".") + path;
    }
    return path.empty() ? node_->document->name : node_->document->name + ": " + path;
}

Status JsonValue::mismatch(const char * expected) const {
    return fail(Code::format, where(), ": expected ", expected, ", found ", type_names[size_t(type())]);
}

Result<bool> JsonValue::as_bool() const {
    bool value;
    if (node_->element.get(value) != simdjson::SUCCESS) return mismatch("a boolean");
    return value;
}

Result<int64_t> JsonValue::as_int() const {
    int64_t value;
    if (node_->element.get(value) == simdjson::SUCCESS) return value;
    uint64_t large;
    if (node_->element.get(large) == simdjson::SUCCESS)
        return fail(Code::format, where(), ": expected an integer below 2^63, found ", large);
    double real;
    if (node_->element.get(real) == simdjson::SUCCESS && std::abs(real) <= 9007199254740992.0 &&
        real == std::floor(real))
        return int64_t(real);
    return mismatch("an integer");
}

Result<double> JsonValue::as_double() const {
    double value;
    if (node_->element.get(value) == simdjson::SUCCESS) return value;
    std::string_view number;
    if (type() != JsonType::large || !is_large_number(node_->element, number)) return mismatch("a number");
    value = strtod(std::string(number).c_str(), nullptr);
    return std::isfinite(value) ? Result<double>(value) : mismatch("a number in the range of doubles");
}

Result<std::string_view> JsonValue::as_string() const {
    std::string_view value;
    if (node_->element.get(value) != simdjson::SUCCESS || type() != JsonType::string) return mismatch("a string");
    return value;
}

bool JsonValue::find(std::string_view key, JsonValue & out) const {
    dom::element child;
    if (node_->element.at_key(key).get(child) != simdjson::SUCCESS) return false;
    if (node_->document->has_duplicates) {
        dom::object object;
        if (node_->element.get(object) != simdjson::SUCCESS) return false;
        for (const dom::key_value_pair member : object)
            if (member.key == key) child = member.value;
    }
    auto node = std::make_shared<Node>();
    *node = Node{node_->document, node_, std::string(key), 0, false, child};
    out = JsonValue(std::move(node));
    return true;
}

Result<JsonValue> JsonValue::get(std::string_view key) const {
    if (!is_object()) return mismatch("an object");
    JsonValue value;
    if (!find(key, value)) return fail(Code::format, where(), ": the key \"", printable(key), "\" is missing");
    return value;
}

Status JsonValue::for_each_member(const std::function<Status(std::string_view, const JsonValue &)> & visit) const {
    dom::object object;
    if (node_->element.get(object) != simdjson::SUCCESS) return mismatch("an object");
    for (const dom::key_value_pair member : object) {
        auto node = std::make_shared<Node>();
        *node = Node{node_->document, node_, std::string(member.key), 0, false, member.value};
        GNV_TRY(visit(member.key, JsonValue(std::move(node))));
    }
    return {};
}

Result<size_t> JsonValue::array_size() const {
    dom::array array;
    if (node_->element.get(array) != simdjson::SUCCESS) return mismatch("an array");
    size_t size = 0; // array.size() saturates at 2^24 - 1
    for (const dom::element child : array) (void)child, size++;
    return size;
}

Status JsonValue::for_each_element(const std::function<Status(size_t, const JsonValue &)> & visit) const {
    dom::array array;
    if (node_->element.get(array) != simdjson::SUCCESS) return mismatch("an array");
    size_t index = 0;
    for (const dom::element child : array) {
        auto node = std::make_shared<Node>();
        *node = Node{node_->document, node_, {}, index, true, child};
        GNV_TRY(visit(index, JsonValue(std::move(node))));
        index++;
    }
    return {};
}

// As simdjson writes it, with the marks of large numbers taken away.
std::string JsonValue::text() const {
    std::string text = simdjson::minify(node_->element);
    if (!node_->document->has_large_numbers) return text;
    const std::string begin = concat("\"", large_mark);
    std::string out;
    size_t copied = 0;
    for (size_t at = 0; (at = text.find(begin, at)) != std::string::npos;) {
        const size_t first = at + begin.size(), end = text.find('"', first);
        const bool in_string = at > 0 && text[at - 1] == '\\';
        if (!in_string && number_length(std::string_view(text).substr(first, end - first)) == end - first) {
            out.append(text, copied, at - copied).append(text, first, end - first);
            copied = end + 1;
        }
        at = first;
    }
    return out.append(text, copied);
}

} // namespace gnv
