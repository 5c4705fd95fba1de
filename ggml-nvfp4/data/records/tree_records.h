// Conversations that a file holds as a tree, one message a row (OASST1): message_id, parent_id, text, role.
#pragma once

#include "data/records/record_reader.h"

namespace gnv {

inline constexpr const char * tree_fields[] = {"message_id", "parent_id", "text", "role"};

// One record a tree, with the field "messages": from its first message along the first answer of each, in the order of the
// file. All messages are read at once and charged to the budget. A reader whose first row lacks one of the fields is handed
// back as it is, after that row was looked at: null is returned then, and the caller opens the file again.
Result<std::unique_ptr<RecordReader>> open_record_trees(const std::string & path, const ReadControl & control);

} // namespace gnv
