// Which files checkpoints of this and other programs consist of, by name.
#pragma once

#include <string_view>

namespace gnv {

// `name` is relative to the checkpoint's folder, "additional_chat_templates/tool.jinja".
bool is_checkpoint_file(std::string_view name);
// Those without which a model cannot be loaded or used: weights, configs, the tokenizer.
bool is_needed_file(std::string_view name);
// ".env", "images/.git": what hides from a listing is not meant to be published.
bool is_hidden(std::string_view file_name);
// The hidden files that belong to a checkpoint all the same: what hubs keep in its repository.
bool is_hidden_checkpoint_file(std::string_view file_name);

} // namespace gnv
