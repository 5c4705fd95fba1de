// Conversations in programs: their messages, and the ids that a checkpoint's chat template makes of them.
#pragma once

#include "args.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

namespace tools {

// Now, in seconds since 1970 on the clock that people here look at: what a chat template shows as the date.
inline int64_t local_time() {
    const time_t now = time(nullptr);
    tm local = {};
    localtime_r(&now, &local);
    return int64_t(timegm(&local));
}

// The ids of a text. False with the message in the engine.
inline bool encode_text(gnv_tokenizer_t * tokenizer, const char * text, size_t size, std::vector<int32_t> & ids) {
    size_t count = 0;
    if (gnv_tokenizer_encode(tokenizer, text, size, 0, nullptr, 0, &count) != GNV_OK) return false;
    ids.resize(count);
    return gnv_tokenizer_encode(tokenizer, text, size, 0, ids.data(), ids.size(), &count) == GNV_OK;
}

class Conversation {
  public:
    Conversation(gnv_tokenizer_t * tokenizer, const std::string & system) : tokenizer_(tokenizer) {
        if (!system.empty()) add("system", system);
    }

    // Bytes that are no UTF-8, as a model may write them, become U+FFFD. `pictures`: "image" or "video" for each that comes
    // before the text.
    void add(const char * role, const std::string & content, const std::vector<const char *> & pictures = {}) {
        Json parts = content;
        if (!pictures.empty()) parts = Json::array();
        for (const char * const kind : pictures) parts.push_back({{"type", kind}, {kind, ""}});
        if (!pictures.empty()) parts.push_back({{"type", "text"}, {"text", content}});
        messages_.push_back({{"role", role}, {"content", std::move(parts)}});
    }
    void remove_last() { messages_.erase(messages_.size() - 1); }

    // The ids of all messages, with placeholders for their pictures, and the beginning of an answer. False with the message in
    // the engine.
    bool encode(const std::vector<const gnv_picture_t *> & pictures, std::vector<int32_t> & ids) const {
        const Json conversation = {{"messages", messages_}, {"add_generation_prompt", true}};
        const std::string text = conversation.dump(-1, ' ', false, Json::error_handler_t::replace);
        gnv_text_t * rendered = nullptr;
        if (gnv_tokenizer_render_chat(tokenizer_, text.data(), text.size(), nullptr, local_time(), &rendered) != GNV_OK)
            return false;
        const Text owner(rendered);
        gnv_text_t * expanded = nullptr;
        if (gnv_picture_text(tokenizer_, gnv_text_data(rendered), gnv_text_size(rendered), pictures.data(),
                             pictures.size(), &expanded) != GNV_OK)
            return false;
        const Text expanded_owner(expanded);
        return encode_text(tokenizer_, gnv_text_data(expanded), gnv_text_size(expanded), ids);
    }

  private:
    using Json = nlohmann::ordered_json;
    gnv_tokenizer_t * tokenizer_;
    Json messages_ = Json::array();
};

} // namespace tools
