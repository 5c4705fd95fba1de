// How Python writes values: str(), repr(), json.dumps(), and the two ways to format strings.
#pragma once

#include "chat/values/value.h"

#include <span>
#include <utility>

namespace gnv::chat {

std::string real_text(double real); // repr(): "0.1", "1e+20", "inf"

// What `{{ value }}` prints. Strings are given as they are, without a copy.
Result<std::string_view> text_of(Workspace & work, const Value & value);
Result<std::string> repr_of(Workspace & work, const Value & value);
std::string ascii_of(std::string_view text); // with escapes for the other characters, as ascii() has them

struct JsonStyle {
    bool ascii = false; // other characters as \uXXXX
    bool indented = false;
    std::string_view indent; // of a level
    std::string_view item_separator = ", ", key_separator = ": ";
    bool sort_keys = false;
};
// json.dumps(): fails for what is no JSON, such as a name that is undefined.
Result<std::string> json_of(Workspace & work, const Value & value, const JsonStyle & style);

using NamedValue = std::pair<std::string_view, Value>;
// "%s and %d" % (...): `values` is a tuple of them, a dict, or one value.
Result<Value> percent_format(Workspace & work, std::string_view format, const Value & values);
// "{} and {name}".format(...)
Result<Value> brace_format(Workspace & work, std::string_view format, std::span<const Value> values,
                           std::span<const NamedValue> named);

} // namespace gnv::chat
