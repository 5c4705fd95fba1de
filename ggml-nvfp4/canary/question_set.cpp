#include "canary/question_set.h"

#include "chat/chat_template.h"
#include "core/sha256.h"
#include "core/utf8.h"
#include "formats/json_writer.h"
#include "session/sampling/generation_config.h"

#include <algorithm>

namespace gnv::canary {

int64_t QuestionSet::longest() const {
    size_t longest = 0;
    for (const std::vector<int32_t> & question : ids) longest = std::max(longest, question.size());
    return int64_t(longest);
}

static Result<std::string> render(const ChatTemplate & chat, const std::string & prompt, bool thinking) {
    JsonWriter json;
    json.begin_object().key("messages").begin_array();
    json.begin_object().member("role", "user").member("content", prompt).end_object().end_array();
    json.member("add_generation_prompt", true);
    if (!thinking) json.member("enable_thinking", false);
    GNV_ASSIGN(const JsonDocument conversation, JsonDocument::parse(json.end_object().take(), "conversation"));
    return chat.render(conversation.root()); // a template that writes the date sees the same one in every run
}

// Without generation_config.json the tokenizer's end of a text ends an answer.
static Result<std::vector<int32_t>> find_stop_ids(const std::string & folder, const Tokenizer & tokenizer) {
    GNV_ASSIGN(GenerationConfig config, read_generation_config(folder));
    if (config.stop_ids.empty() && tokenizer.roles().eos != no_token) config.stop_ids = {tokenizer.roles().eos};
    return std::move(config.stop_ids);
}

Result<QuestionSet> make_questions(const std::string & folder, std::vector<std::string> prompts, bool thinking) {
    QuestionSet set;
    GNV_ASSIGN(Tokenizer tokenizer, Tokenizer::load(folder));
    GNV_ASSIGN(set.stop_ids, find_stop_ids(folder, tokenizer));
    std::optional<ChatTemplate> chat;
    if (Result<ChatTemplate> loaded = ChatTemplate::load(folder); loaded.ok()) {
        chat = loaded.take();
    } else if (loaded.status().code() != Code::not_found) {
        return loaded.take_status();
    }
    set.has_template = chat.has_value();
    Encoder encoder(tokenizer);
    Sha256 hash;
    for (size_t i = 0; i < prompts.size(); i++) {
        std::string text = prompts[i];
        if (const size_t valid = utf8_valid_prefix(text); valid < text.size())
            return fail(Code::invalid_argument, "prompt ", i + 1, ": byte ", valid, " is not UTF-8");
        if (chat) {
            Result<std::string> rendered = render(*chat, prompts[i], thinking);
            if (!rendered.ok()) return rendered.take_status().add_context(concat("prompt ", i + 1));
            text = rendered.take();
        }
        Result<std::vector<TokenId>> ids = encoder.encode(text);
        if (!ids.ok()) return ids.take_status().add_context(concat("prompt ", i + 1));
        if (ids.value().empty()) return fail(Code::invalid_argument, "prompt ", i + 1, " is empty: leave it out");
        const uint64_t count = ids.value().size();
        hash.update(&count, sizeof count);
        hash.update(ids.value().data(), count * sizeof(TokenId));
        set.ids.push_back(ids.take());
    }
    set.sha256 = hash.finish();
    set.prompts = std::move(prompts);
    set.tokenizer.emplace(std::move(tokenizer));
    return set;
}

} // namespace gnv::canary
