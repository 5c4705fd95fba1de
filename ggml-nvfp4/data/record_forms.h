// Other names for what data sets hold, brought to the names of render_record():
//
//   conversations, conversation, dialogue, dialog   messages, whose authors may be called "from" and texts "value" (ShareGPT)
//   texts, a list of {user, assistant}              messages: two each, as in the_cauldron
//   chosen, a list                                  messages: the preferred answer, with what leads to it
//   prompt + completion | response | chosen         messages of user and assistant, or all messages where both are lists
//   input + output, without instruction             the same
//   problem + solution | generated_solution         the same
//   chosen, a text                                  text
#pragma once

#include "data/calib_source.h"

namespace gnv {

// Does nothing to a record that has messages, instruction, question or text. Where the rule names "A+B" and there is no such
// field, it becomes one: the texts of A and B on lines of their own.
void unify_record(Record & record, const TextRule & rule);
// "A+B" and its parts, for open_records().
std::vector<std::string> field_parts(const std::string & name);

// All names of fields that a rule without a field looks at.
std::vector<std::string> form_fields();

} // namespace gnv
