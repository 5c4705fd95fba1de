#include "api_answer.h"

#include <ctime>
#include <random>

namespace server {

static std::string random_name(const char * prefix) {
    std::random_device random;
    std::string name = prefix;
    for (int i = 0; i < 24; i++) name += "0123456789abcdef"[random() % 16];
    return name;
}

static std::string text_of(const Json & json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
static std::string event_of(const Json & json) { return "data: " + text_of(json) + "\n\n"; }

std::string error_event(const ApiError & error) { return event_of(error.json()); }

ApiAnswer::ApiAnswer(const ApiRequest & request, const std::string & model)
    : is_chat_(request.is_chat), streams_usage_(request.streams_usage), prompt_tokens_(request.text.ids.size()),
      model_(model), id_(random_name(request.is_chat ? "chatcmpl-" : "cmpl-")), created_(time(nullptr)),
      parts_(request.text.thinks, request.tools) {}

// Of texts all is content.
AnswerDelta ApiAnswer::parts_of(const TextUpdate & update) {
    AnswerDelta delta;
    if (is_chat_) {
        delta = parts_.push(update.piece);
    } else {
        delta.content = update.piece;
    }
    tokens_ = update.tokens;
    reused_ = update.reused;
    if (!update.is_finished) return delta;
    if (is_chat_) {
        AnswerDelta rest = parts_.finish();
        delta.reasoning += rest.reasoning;
        delta.content += rest.content;
        delta.calls.insert(delta.calls.end(), rest.calls.begin(), rest.calls.end());
    }
    finish_reason_ = update.reached_the_limit ? "length" : parts_.calls() > 0 ? "tool_calls" : "stop";
    return delta;
}

Json ApiAnswer::head(const char * object_of_chat, const char * object_of_text) const {
    return {{"id", id_},
            {"object", is_chat_ ? object_of_chat : object_of_text},
            {"created", created_},
            {"model", model_},
            {"choices", Json::array()}};
}

Json ApiAnswer::usage() const {
    return {{"prompt_tokens", prompt_tokens_},
            {"completion_tokens", tokens_},
            {"total_tokens", prompt_tokens_ + tokens_},
            {"prompt_tokens_details", {{"cached_tokens", reused_}}}};
}

Json ApiAnswer::calls_of(const std::vector<ToolCall> & calls, bool has_index) {
    Json list = Json::array();
    for (const ToolCall & call : calls) {
        Json json = Json::object();
        if (has_index) json["index"] = calls_told_++;
        json["id"] = random_name("call_");
        json["type"] = "function";
        json["function"] = {{"name", call.name}, {"arguments", call.arguments}};
        list.push_back(std::move(json));
    }
    return list;
}

std::string ApiAnswer::event(Json delta, const Json & finish_reason) const {
    Json json = head("chat.completion.chunk", "text_completion");
    Json choice = {{"index", 0}};
    if (is_chat_) {
        choice["delta"] = std::move(delta);
    } else {
        choice["text"] = delta.value("content", "");
    }
    choice["logprobs"] = nullptr;
    choice["finish_reason"] = finish_reason;
    json["choices"].push_back(std::move(choice));
    if (streams_usage_) json["usage"] = nullptr;
    return event_of(json);
}

std::string ApiAnswer::events(const TextUpdate & update) {
    std::string text;
    if (!has_begun_ && is_chat_) text = event({{"role", "assistant"}, {"content", ""}}, nullptr);
    has_begun_ = true;
    const AnswerDelta delta = parts_of(update);
    if (!delta.reasoning.empty()) text += event({{"reasoning_content", delta.reasoning}}, nullptr);
    if (!delta.content.empty()) text += event({{"content", delta.content}}, nullptr);
    if (!delta.calls.empty()) text += event({{"tool_calls", calls_of(delta.calls, true)}}, nullptr);
    if (!update.is_finished) return text;
    text += event(Json::object(), finish_reason_);
    if (streams_usage_) {
        Json json = head("chat.completion.chunk", "text_completion");
        json["usage"] = usage();
        text += event_of(json);
    }
    return text + "data: [DONE]\n\n";
}

void ApiAnswer::keep(const TextUpdate & update) {
    const AnswerDelta delta = parts_of(update);
    reasoning_ += delta.reasoning;
    content_ += delta.content;
    for (Json & call : calls_of(delta.calls, false)) calls_.push_back(std::move(call));
}

std::string ApiAnswer::whole() const {
    Json json = head("chat.completion", "text_completion");
    Json choice = {{"index", 0}};
    if (is_chat_) {
        Json message = {{"role", "assistant"}, {"content", content_}};
        if (content_.empty() && !calls_.empty()) message["content"] = nullptr;
        if (!reasoning_.empty()) message["reasoning_content"] = reasoning_;
        if (!calls_.empty()) message["tool_calls"] = calls_;
        choice["message"] = std::move(message);
    } else {
        choice["text"] = content_;
    }
    choice["logprobs"] = nullptr;
    choice["finish_reason"] = finish_reason_;
    json["choices"].push_back(std::move(choice));
    json["usage"] = usage();
    return text_of(json);
}

} // namespace server
