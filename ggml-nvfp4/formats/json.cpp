#include "formats/json.h"

#include "formats/file.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <simdjson.h>
#include <vector>

namespace gnv {

namespace dom = simdjson::dom;

static constexpr size_t deepest_nesting = 256;
// simdjson looks for what the processor has when it is first used, in a function that ends the process where memory runs
// out. So that is done when the process starts.
[[maybe_unused]] static const bool has_chosen = !simdjson::get_active_implementation()->name().empty();

// Bounds memory: a value takes up to 50 bytes here, however short its text. Headers of 900,000 tensors stay below it.
static constexpr size_t most_values = 10'000'000;

struct JsonDocument::State {
    std::string name;
    dom::parser parser;
    dom::element root;
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
    std::vector<std::string_view> keys; // sorting them takes less than a set, and no choice of keys makes it slow
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

// Not less than the number of values in a JSON text.
static size_t count_values(const std::string & text) {
    size_t count = 1;
    for (const char c : text) count += (c == ',') + (c == ':') + (c == '[') + (c == '{');
    return count;
}

JsonDocument::JsonDocument(JsonDocument &&) noexcept = default;
JsonDocument & JsonDocument::operator=(JsonDocument &&) noexcept = default;
JsonDocument::~JsonDocument() = default;

Result<JsonDocument> JsonDocument::parse(std::string text, std::string name) {
    auto state = std::make_shared<State>();
    state->name = std::move(name);
    if (count_values(text) > most_values)
        return fail(Code::format, state->name, ": more than ", most_values,
                    " values; no file of a checkpoint has as many");
    if (state->parser.allocate(text.size() < 256 ? 256 : text.size(), deepest_nesting) != simdjson::SUCCESS)
        return Status::out_of_memory();
    // The parser keeps its own copy of every string; the text is not needed afterwards.
    const simdjson::error_code error = state->parser.parse(text).get(state->root);
    if (error == simdjson::MEMALLOC) return Status::out_of_memory();
    if (error != simdjson::SUCCESS)
        return fail(Code::format, state->name, ": not valid JSON: ", simdjson::error_message(error));
    std::string key;
    if (find_duplicate_key(state->root, key))
        return fail(Code::format, state->name, ": the key \"", printable(key), "\" occurs twice in one object");
    return JsonDocument(std::move(state));
}

Result<JsonDocument> JsonDocument::read(const std::string & path, uint64_t size_limit) {
    GNV_ASSIGN(std::string text, read_file(path, size_limit));
    return parse(std::move(text), path);
}

JsonValue JsonDocument::root() const {
    auto node = std::make_shared<JsonValue::Node>();
    node->document = state_;
    node->element = state_->root;
    return JsonValue(std::move(node));
}

// --- Values ---------------------------------------------------------------------------------------------------------------

static const char * const type_names[] = {"null",     "a boolean", "an integer", "a number",
                                          "a string", "an array",  "an object"};

JsonType JsonValue::type() const {
    switch (node_->element.type()) {
    case dom::element_type::ARRAY: return JsonType::array;
    case dom::element_type::OBJECT: return JsonType::object;
    case dom::element_type::INT64:
    case dom::element_type::UINT64: return JsonType::integer;
    case dom::element_type::DOUBLE: return JsonType::real;
    case dom::element_type::STRING: return JsonType::string;
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
    if (node_->element.get(value) != simdjson::SUCCESS) return mismatch("a number");
    return value;
}

Result<std::string_view> JsonValue::as_string() const {
    std::string_view value;
    if (node_->element.get(value) != simdjson::SUCCESS) return mismatch("a string");
    return value;
}

bool JsonValue::find(std::string_view key, JsonValue & out) const {
    dom::element child;
    if (node_->element.at_key(key).get(child) != simdjson::SUCCESS) return false;
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

std::string JsonValue::text() const { return simdjson::minify(node_->element); }

} // namespace gnv
