// JSON documents as values of templates.
#pragma once

#include "chat/values/value.h"
#include "formats/json.h"

namespace gnv::chat {

// Strings are views into the document, which must outlive the workspace's use.
Result<Value> value_of_json(Workspace & work, const JsonValue & json);

} // namespace gnv::chat
