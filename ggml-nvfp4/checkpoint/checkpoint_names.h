// The names of the files that checkpoints consist of, of this and other programs.
#pragma once

#include <string_view>

namespace gnv {

// `name` is relative to the checkpoint's folder, "additional_chat_templates/tool.jinja".
bool is_checkpoint_file(std::string_view name);
// The files without which a model cannot be loaded or used: weights, configs, the tokenizer.
bool is_needed_file(std::string_view name);
// ".env", "images/.git": hidden files are not meant to be published.
bool is_hidden(std::string_view file_name);
// Hidden files that belong to a checkpoint: hubs keep them in its repository.
bool is_hidden_checkpoint_file(std::string_view file_name);

} // namespace gnv
