// Members of reports for a card. What is missing or of another kind reads as empty or 0.
#pragma once

#include "core/strings.h"
#include "formats/json.h"

#include <initializer_list>
#include <string>

namespace gnv {

// A member of nested objects, "calibration", "tokens"; false where one is missing.
inline bool find_at(const JsonValue & root, std::initializer_list<const char *> path, JsonValue & out) {
    out = root;
    for (const char * key : path) {
        JsonValue next;
        if (!out.is_object() || !out.find(key, next)) return false;
        out = next;
    }
    return true;
}

inline std::string text_at(const JsonValue & root, std::initializer_list<const char *> path) {
    JsonValue value;
    if (!find_at(root, path, value)) return "";
    return printable_line(value.is_string() ? std::string(value.as_string().value()) : value.text());
}

inline uint64_t count_at(const JsonValue & root, std::initializer_list<const char *> path) {
    JsonValue value;
    const Result<int64_t> count = find_at(root, path, value) ? value.as_int() : Result<int64_t>(0);
    return count.ok() && count.value() > 0 ? uint64_t(count.value()) : 0;
}

inline double number_at(const JsonValue & root, std::initializer_list<const char *> path) {
    JsonValue value;
    const Result<double> number = find_at(root, path, value) ? value.as_double() : Result<double>(0.0);
    return number.ok() ? number.value() : 0;
}

} // namespace gnv
