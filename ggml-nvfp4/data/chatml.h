// Conversations as ChatML, and as the JSON that chat templates take.
#pragma once

#include "core/status.h"
#include "data/records/record.h"

namespace gnv {

inline bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\v\f") == text.npos; }

// "<|im_start|>user\nHi<|im_end|>\n"
std::string chat_turn(std::string_view role, std::string_view content);

// A turn for every message. What they hold beside their content (calls of tools, reasoning), answers of tools, and `tools`, a
// JSON list or "", become what the templates of Qwen3.5 and Qwen3.6 write for them; reasoning is kept in every turn.
// `any_content`: whether there is more than roles and blanks.
Result<std::string> chatml_text(const RecordField & messages, const std::string & tools, bool & any_content);

// The messages as JSON: `field.json`, or a list of {role, content}.
std::string messages_json(const std::vector<ChatMessage> & messages);
std::string messages_json(const RecordField & field);

// The same JSON with the arguments of calls as objects where they are texts that hold one, as logs of the OpenAI API have them:
// templates loop over them. "" where nothing changes.
Result<std::string> with_parsed_arguments(const std::string & messages);

} // namespace gnv
