#include "api_request.h"

#include "api_fields.h"

#include <cfloat>
#include <random>

namespace server {

static constexpr size_t most_stops = 16;

// --- What both kinds have in common -----------------------------------------------------------------------------------

static void take_model(Fields & fields, const ModelLimits & limits) {
    const Json * const name = fields.take("model");
    if (!name) throw ApiError(400, "the name of the model is missing", "model");
    if (*name != limits.name)
        throw ApiError(404, "the model " + name->dump() + " does not exist; this server has '" + limits.name + "'",
                       "model", "model_not_found");
}

static void take_logit_bias(Fields & fields, const ModelLimits & limits, TextRequest & text) {
    const Json * const biases = fields.take("logit_bias");
    if (!biases) return;
    if (!biases->is_object()) throw ApiError(400, "logit_bias is no object of token ids", "logit_bias");
    for (const auto & member : biases->items()) {
        const std::string & key = member.key();
        const bool is_id = !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
        if (!is_id || std::stoull(key) >= limits.vocabulary)
            throw ApiError(400, "logit_bias: '" + key + "' is no token id of this model", "logit_bias");
        const double bias = member.value().is_number() ? member.value().get<double>() : 1000;
        if (!(bias >= -100 && bias <= 100))
            throw ApiError(400, "logit_bias: the bias of token " + key + " is no number from -100 to 100",
                           "logit_bias");
        text.logit_bias.push_back({int32_t(std::stol(key)), float(bias)});
    }
}

static void take_stops(Fields & fields, TextRequest & text) {
    const Json * const stop = fields.take("stop");
    if (!stop) return;
    const Json list = stop->is_array() ? *stop : Json::array({*stop});
    if (list.size() > most_stops)
        throw ApiError(400, "stop: more than " + std::to_string(most_stops) + " texts", "stop");
    for (const Json & element : list) {
        if (!element.is_string()) throw ApiError(400, "stop is neither a text nor a list of texts", "stop");
        text.stops.push_back(element);
        const std::string & last = text.stops.back();
        if (last.empty() || last.size() > 4096 || last.find('\0') != std::string::npos)
            throw ApiError(400, "stop: a text is empty, longer than 4096 bytes, or has a NUL", "stop");
    }
}

static void take_stop_ids(Fields & fields, const ModelLimits & limits, TextRequest & text) {
    const Json * const ids = fields.take("stop_token_ids");
    if (!ids) return;
    if (!ids->is_array() || ids->size() > 1000) throw ApiError(400, "stop_token_ids is no list", "stop_token_ids");
    for (const Json & id : *ids) {
        if (!id.is_number_unsigned() || id.get<uint64_t>() >= limits.vocabulary)
            throw ApiError(400, "stop_token_ids: " + id.dump() + " is no token id of this model", "stop_token_ids");
        text.stop_ids.push_back(id.get<int32_t>());
    }
}

static void take_sampling(Fields & fields, const ModelLimits & limits, TextRequest & text) {
    text.temperature = float(fields.number("temperature", -1, 0, 2));
    text.top_p = float(fields.number("top_p", -1, 0, 1, true));
    text.min_p = float(fields.number("min_p", -1, 0, 1));
    const int64_t top_k = fields.integer("top_k", -2, -1, INT32_MAX); // -1 is vLLM's name of 0; -2: absent
    text.top_k = top_k == -2 ? -1 : int32_t(std::max<int64_t>(top_k, 0));
    text.presence_penalty = float(fields.number("presence_penalty", 0, -2, 2));
    text.frequency_penalty = float(fields.number("frequency_penalty", 0, -2, 2));
    text.repetition_penalty = float(fields.number("repetition_penalty", -1, FLT_MIN, double(FLT_MAX)));
    std::random_device random;
    const uint64_t chance = uint64_t(random()) << 32 | random();
    text.seed = uint64_t(fields.integer("seed", int64_t(chance), INT64_MIN, INT64_MAX));
    take_logit_bias(fields, limits, text);
    take_stops(fields, text);
    take_stop_ids(fields, limits, text);
}

static void take_stream(Fields & fields, ApiRequest & request) {
    request.streams = fields.flag("stream");
    const Json * const options = fields.take("stream_options");
    if (!options) return;
    if (!options->is_object() || !request.streams)
        throw ApiError(400, "stream_options is an object, and goes with stream", "stream_options");
    Fields members(*options);
    request.streams_usage = members.flag("include_usage");
    members.pass_over({"include_obfuscation"});
    members.refuse_others();
}

static void refuse_the_rest(Fields & fields) {
    fields.take_only("n", 1, "this server gives one answer");
    fields.take_only("best_of", 1, "this server gives one answer");
    fields.take_only("logprobs", false, "this server gives no probabilities");
    fields.take_only("top_logprobs", 0, "this server gives no probabilities");
    fields.pass_over({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"});
    fields.refuse_others();
}

// `most`: what the client asked for, or -1.
static void check_length(const ModelLimits & limits, int64_t most, const char * param, TextRequest & text) {
    const uint64_t count = text.ids.size();
    if (count == 0) throw ApiError(400, "the prompt is empty", param);
    const std::string context =
        "the context has " + std::to_string(limits.capacity) + " tokens, the prompt " + std::to_string(count);
    if (count >= limits.capacity) throw ApiError(400, context, param, "context_length_exceeded");
    const uint64_t left = limits.capacity - count;
    if (most > 0 && uint64_t(most) > left)
        throw ApiError(400, context + ", and the answer may have " + std::to_string(most) + ": more than is left",
                       param, "context_length_exceeded");
    text.max_tokens = most > 0 ? uint64_t(most) : left;
}

template <class Make>
static auto prompt_of(const char * param, const Make & make) {
    try {
        return make();
    } catch (const PromptError & error) {
        throw ApiError(400, error.what(), param);
    }
}

// --- Chats --------------------------------------------------------------------------------------------------------------

// Calls of tools in an earlier answer: their arguments are a text in the API and an object in templates.
static void read_arguments(Json & message) {
    if (!message.contains("tool_calls") || message["tool_calls"].is_null()) return;
    if (!message["tool_calls"].is_array()) throw ApiError(400, "tool_calls is no list", "messages");
    for (Json & call : message["tool_calls"]) {
        if (!call.is_object() || !call.contains("function") || !call["function"].is_object() ||
            !call["function"].contains("name") || !call["function"]["name"].is_string())
            throw ApiError(400, "an element of tool_calls has no function with a name", "messages");
        Json & arguments = call["function"]["arguments"];
        if (!arguments.is_string()) continue;
        arguments = Fields::parse(arguments.get<std::string>());
    }
}

static void check_content(const Json & message, const std::string & where) {
    const Json content = message.contains("content") ? message["content"] : Json();
    if (content.is_null() || content.is_string()) return;
    if (!content.is_array()) throw ApiError(400, where + ".content is neither a text nor a list of parts", "messages");
    for (const Json & part : content) {
        if (!part.is_object() || !part.contains("type") || part["type"] != "text")
            throw ApiError(400, where + ".content has a part that is no text, which this server does not take",
                           "messages", "unsupported_value");
        if (!part.contains("text") || !part["text"].is_string())
            throw ApiError(400, where + ".content has a part without a text", "messages");
    }
}

static Json take_messages(Fields & fields) {
    const Json * const given = fields.take("messages");
    if (!given || !given->is_array() || given->empty())
        throw ApiError(400, "messages is no list with at least one message", "messages");
    Json messages = *given;
    for (size_t i = 0; i < messages.size(); i++) {
        Json & message = messages[i];
        const std::string where = "messages[" + std::to_string(i) + "]";
        if (!message.is_object() || !message.contains("role") || !message["role"].is_string())
            throw ApiError(400, where + " has no role", "messages");
        if (message["role"] == "developer") message["role"] = "system"; // its name in the API today
        check_content(message, where);
        read_arguments(message);
    }
    return messages;
}

static Json take_tools(Fields & fields) {
    const Json * const tools = fields.take("tools");
    const Json * const choice = fields.take("tool_choice");
    fields.take_only("parallel_tool_calls", true, "the model decides how many tools it calls");
    if (choice && *choice != "auto" && *choice != "none")
        throw ApiError(400, "tool_choice: this server can force no call; use \"auto\" or \"none\"", "tool_choice",
                       "unsupported_value");
    if (!tools) return {};
    if (!tools->is_array()) throw ApiError(400, "tools is no list", "tools");
    for (const Json & tool : *tools)
        if (!tool.is_object() || !tool.contains("function") || !tool["function"].is_object() ||
            !tool["function"].contains("name") || !tool["function"]["name"].is_string())
            throw ApiError(400, "an element of tools has no function with a name", "tools");
    return tools->empty() || (choice && *choice == "none") ? Json() : *tools;
}

static bool wants_json(Fields & fields) {
    const Json * const format = fields.take("response_format");
    if (!format) return false;
    if (*format == Json({{"type", "json_object"}})) return true;
    if (*format == Json({{"type", "text"}})) return false;
    throw ApiError(400, "response_format: this server has no schemas; its types are \"text\" and \"json_object\"",
                   "response_format", "unsupported_value");
}

static bool ends_with(const std::string & text, const std::string & end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

ApiRequest parse_chat(const std::string & body, const ModelLimits & limits, PromptMaker & prompts) {
    const Json object = Fields::parse(body);
    Fields fields(object);
    ApiRequest request;
    request.is_chat = true;
    take_model(fields, limits);
    Json conversation = {{"messages", take_messages(fields)}, {"add_generation_prompt", true}};
    request.tools = take_tools(fields);
    if (!request.tools.is_null()) conversation["tools"] = request.tools;
    if (const Json * const variables = fields.take("chat_template_kwargs")) {
        if (!variables->is_object()) throw ApiError(400, "chat_template_kwargs is no object", "chat_template_kwargs");
        for (const auto & variable : variables->items()) {
            if (conversation.contains(variable.key()) || variable.key() == "tools")
                throw ApiError(400, "chat_template_kwargs: " + variable.key() + " has another place in the request",
                               "chat_template_kwargs");
            conversation[variable.key()] = variable.value();
        }
    }
    take_sampling(fields, limits, request.text);
    take_stream(fields, request);
    if (wants_json(fields)) request.text.json_tokens = prompts.token_bytes(limits.vocabulary);
    const int64_t most = std::max(fields.integer("max_completion_tokens", -1, 1, INT32_MAX),
                                  fields.integer("max_tokens", -1, 1, INT32_MAX));
    refuse_the_rest(fields);
    const std::string text = prompt_of("messages", [&] { return prompts.render(conversation.dump()); });
    request.text.thinks = ends_with(text, "<think>\n") || ends_with(text, "<think>");
    request.text.ids = prompt_of("messages", [&] { return prompts.encode(text); });
    check_length(limits, most, "messages", request.text);
    return request;
}

// --- Texts --------------------------------------------------------------------------------------------------------------

static std::vector<int32_t> take_prompt(Fields & fields, const ModelLimits & limits, PromptMaker & prompts) {
    const Json * prompt = fields.take("prompt");
    if (!prompt) throw ApiError(400, "the prompt is missing", "prompt");
    if (prompt->is_array() && !prompt->empty() && !prompt->front().is_number()) {
        if (prompt->size() > 1) throw ApiError(400, "this server takes one prompt at a time", "prompt");
        prompt = &prompt->front();
    }
    if (prompt->is_string()) return prompt_of("prompt", [&] { return prompts.encode(prompt->get<std::string>()); });
    if (!prompt->is_array()) throw ApiError(400, "the prompt is neither a text nor a list of token ids", "prompt");
    std::vector<int32_t> ids;
    for (const Json & id : *prompt) {
        if (!id.is_number_unsigned() || id.get<uint64_t>() >= limits.vocabulary)
            throw ApiError(400, "the prompt has " + id.dump() + ", which is no token id of this model", "prompt");
        ids.push_back(id.get<int32_t>());
    }
    return ids;
}

ApiRequest parse_completion(const std::string & body, const ModelLimits & limits, PromptMaker & prompts) {
    const Json object = Fields::parse(body);
    Fields fields(object);
    ApiRequest request;
    take_model(fields, limits);
    fields.take_only("echo", false, "this server does not repeat prompts");
    fields.take_only("suffix", "", "this server only continues texts");
    take_sampling(fields, limits, request.text);
    take_stream(fields, request);
    const int64_t most = fields.integer("max_tokens", 16, 1, INT32_MAX); // 16 is the API's default
    request.text.ids = take_prompt(fields, limits, prompts);
    refuse_the_rest(fields);
    check_length(limits, most, "prompt", request.text);
    return request;
}

} // namespace server
