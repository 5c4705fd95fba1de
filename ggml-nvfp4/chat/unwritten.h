// What a conversation holds and the text that a template made of it does not: templates pass over members that they do not
// know, such as calls of tools and reasoning, without a word.
#pragma once

#include "formats/json.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

// Of a call or a tool, {"function": {"name": "f", ..}} or {"name": "f", ..}: what has the name.
JsonValue function_of(const JsonValue & call);

struct UnwrittenField {
    const char * name = "";    // "tool_calls"; "tools" is one of the conversation, the others are members of messages
    int64_t first_message = 0; // that has it; -1 for "tools"
    uint64_t messages = 0;     // that have it

    std::string place() const; // "messages[1].tool_calls", "tools"
};

// `source`: the template; "" where none made the text. A field counts where the template never names it and neither its text nor
// the name of its function stands in `text`: a template that names a field and leaves it out does so on purpose, as those of
// Qwen do with the reasoning of earlier turns.
std::vector<UnwrittenField> find_unwritten(const JsonValue & conversation, std::string_view source,
                                           std::string_view text);

} // namespace gnv
