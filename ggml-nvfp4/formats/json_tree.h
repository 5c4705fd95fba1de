// A copy of a JSON value that can be changed and written again. No destructor allocates, unlike those of libraries that
// flatten their trees to destroy them: running out of memory stays an ordinary failure.
#pragma once

#include "formats/json_writer.h"

#include <string>
#include <string_view>
#include <vector>

namespace gnv {

struct JsonTree {
    JsonType type = JsonType::null;
    std::string key;                // in an object
    std::string text = "null";      // JSON, unless array or object
    std::vector<JsonTree> children; // of an array or object, in the order of the file

    static JsonTree copy(const JsonValue & value); // as deep as a document may be
    static JsonTree make_string(std::string_view content);

    bool is_array() const { return type == JsonType::array; }
    bool is_object() const { return type == JsonType::object; }
    // "quantization_config/ignore": the member of a member; null if it does not exist.
    JsonTree * find(std::string_view path);
    // Sets or adds a member of an object: a number or a word, given as JSON.
    void set(std::string_view member, std::string_view json);
    bool erase(std::string_view member); // false without the member

    std::string dump() const; // without blanks
};

} // namespace gnv
