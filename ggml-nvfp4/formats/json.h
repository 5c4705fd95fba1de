// JSON read through simdjson: typed getters that fail with the file and the path inside it
// ("config.json: text_config.num_experts: expected an integer, found a string").
#pragma once

#include "core/status.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

class JsonDocument;

// A number that 64 bits do not hold is `large`: valid until code asks for it as an integer.
enum class JsonType : uint8_t { null, boolean, integer, real, string, array, object, large };

// A view of one value; lives as long as its document. Cheap to copy.
class JsonValue {
  public:
    JsonValue() = default;
    JsonType type() const;
    bool is_null() const { return type() == JsonType::null; }
    bool is_object() const { return type() == JsonType::object; }
    bool is_array() const { return type() == JsonType::array; }
    bool is_string() const { return type() == JsonType::string; }
    // "config.json: text_config.num_experts": for messages
    std::string where() const;

    Result<bool> as_bool() const;
    Result<int64_t> as_int() const;             // also a real number without a fraction, as "total_size": 39289152.0
    Result<double> as_double() const;           // also an integer, and a large number in the range of doubles
    Result<std::string_view> as_string() const; // valid while the document lives

    // Object members. find() returns false when the key is absent; get() fails and names the key.
    bool find(std::string_view key, JsonValue & out) const;
    Result<JsonValue> get(std::string_view key) const;
    // Visits members in file order, duplicates included; stops at the first failure.
    Status for_each_member(const std::function<Status(std::string_view key, const JsonValue & value)> & visit) const;

    // Array elements.
    Result<size_t> array_size() const;
    Status for_each_element(const std::function<Status(size_t index, const JsonValue & value)> & visit) const;

    // The value as JSON text without blanks; numbers that are too large for 64 bits as the document has them.
    std::string text() const;

  private:
    friend class JsonDocument;
    struct Node; // document, position on the simdjson tape, and the path that led here
    explicit JsonValue(std::shared_ptr<const Node> node) : node_(std::move(node)) {}
    Status mismatch(const char * expected) const;
    std::shared_ptr<const Node> node_;
};

// What a key means that occurs twice in one object.
enum class JsonKeys : uint8_t {
    once,      // a failure: readers of the file would disagree
    last_wins, // as in Python and JavaScript: for files of which we use a few keys
};

// Owns parsed text. Rejects invalid UTF-8, trailing content, nesting beyond 256 levels and more than 10 million values.
class JsonDocument {
  public:
    // `name` is used in messages, usually the file's path.
    static Result<JsonDocument> parse(std::string text, std::string name, JsonKeys keys = JsonKeys::once);
    static Result<JsonDocument> read(const std::string & path, uint64_t size_limit, JsonKeys keys = JsonKeys::once);
    JsonDocument(JsonDocument &&) noexcept;
    JsonDocument & operator=(JsonDocument &&) noexcept;
    ~JsonDocument();
    JsonValue root() const;
    bool has_duplicates() const; // a key occurs twice in some object

  private:
    friend class JsonValue;
    struct State;
    explicit JsonDocument(std::shared_ptr<State> state) : state_(std::move(state)) {}
    std::shared_ptr<State> state_;
};

} // namespace gnv
