// The place where a text stops being JSON, for messages: the parser says that there is one, not where.
#pragma once

#include <string>
#include <string_view>

namespace gnv {

// "at byte 17, line 2: expected a value, found '}'", or "..., the text ends"; empty: the grammar has no fault.
std::string describe_json_fault(std::string_view text);

// The length of the number at the beginning of `text` in the grammar of JSON, which ends behind a leading zero; 0: there is none.
size_t json_number_length(std::string_view text);

} // namespace gnv
