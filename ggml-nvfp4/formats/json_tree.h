// A copy of a JSON value that can be changed and written again. Where memory runs out nothing else happens than that: no
// destructor allocates, unlike those of libraries that flatten their trees to destroy them.
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
    // "quantization_config/ignore": the member of a member; null when there is none.
    JsonTree * find(std::string_view path);
    // Makes a member of an object a number or a word, given as JSON, whether there was one or not.
    void set(std::string_view member, std::string_view json);
    bool erase(std::string_view member); // false when there is none

    std::string dump() const; // without blanks
};

} // namespace gnv
