// Calls of tools in an answer, as the templates of Qwen write them between <tool_call> and </tool_call>: Qwen3.5 and later
//
//   <function=NAME>
//   <parameter=KEY>
//   VALUE, as text or JSON
//   </parameter>
//   </function>
//
// and before {"name": NAME, "arguments": {..}}.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace server {

using Json = nlohmann::ordered_json;

struct ToolCall {
    std::string name, arguments; // arguments: an object in JSON
};

// `body`: the text between the tags. `tools`: of the request; a value whose parameter is declared as other than a string is read
// as JSON if it is JSON. None if the body is neither form.
std::optional<ToolCall> parse_tool_call(const std::string & body, const Json & tools);

} // namespace server
