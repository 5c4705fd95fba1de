// The chat template of a checkpoint: a Jinja template that makes the text of a conversation, with the results that the
// Transformers library's apply_chat_template gives (docs/chat.md).
//
// A ChatTemplate does not change after loading; any number of threads may render with it.
#pragma once

#include "chat/unwritten.h"
#include "core/status.h"

#include <memory>

namespace gnv {

namespace chat {
struct SyntaxTree;
}

struct ChatRenderOptions {
    int64_t local_time = 0;            // what strftime_now() writes: seconds since 1970 on the clock that is shown
    uint64_t steps = 20'000'000;       // limits: of work,
    uint64_t output_bytes = 64 << 20;  // of the text,
    uint64_t memory_bytes = 512 << 20; // of the values on the way
};

class ChatTemplate {
  public:
    // `source`: the template; `name` is for messages. Code::unsupported and Code::format name the construct and its line.
    static Result<ChatTemplate> parse(std::string_view source, const std::string & name);
    // From a file, for a checkpoint in `folder`, whose tokenizer_config.json gives the tokens; "" for none.
    static Result<ChatTemplate> read(const std::string & path, const std::string & folder);
    // The template of a checkpoint's folder: chat_template.jinja, else the member "chat_template" of
    // tokenizer_config.json, a text or a list of {"name", "template"}: that of conversations with tools is "tool_use"
    // where there is one, the others are "default". Code::not_found: the checkpoint has none.
    static Result<ChatTemplate> load(const std::string & folder);

    // `conversation`: an object with "messages" and other variables of the template, such as "tools",
    // "add_generation_prompt" (false when it is not there) or "enable_thinking". bos_token and the like are those of
    // tokenizer_config.json unless they are given. Failures name the template and the line; what a template refuses by
    // raise_exception is Code::invalid_argument.
    Result<std::string> render(const JsonValue & conversation, const ChatRenderOptions & options = {}) const;

    // What of the conversation is not in the text that render() made of it.
    std::vector<UnwrittenField> unwritten(const JsonValue & conversation, std::string_view text) const;

  private:
    struct State;
    explicit ChatTemplate(std::shared_ptr<const State> state) : state_(std::move(state)) {}
    std::shared_ptr<const State> state_;
};

} // namespace gnv
