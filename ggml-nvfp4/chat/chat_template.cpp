#include "chat/chat_template.h"

#include "chat/interpreter.h"
#include "chat/syntax/parser.h"
#include "chat/values/json_value.h"
#include "core/utf8.h"
#include "formats/file.h"

namespace gnv {

namespace {

constexpr uint64_t largest_template = 4 << 20, largest_config = 64 << 20;

struct NamedTemplate {
    std::string name;   // "default", "tool_use"
    std::string source; // normal: what the tree refers to
    std::string place;  // for messages
    chat::SyntaxTree tree;
};

} // namespace

struct ChatTemplate::State {
    std::vector<std::unique_ptr<NamedTemplate>> templates;
    std::vector<std::pair<std::string, std::string>> tokens; // "bos_token", "<s>"

    Status add(std::string name, std::string_view source, std::string place);
    Status read_tokens(const JsonValue & config);
    const NamedTemplate * find(std::string_view name) const;
    const NamedTemplate & choose(bool any_tools) const;
};

Status ChatTemplate::State::add(std::string name, std::string_view source, std::string place) {
    if (source.size() > largest_template)
        return fail(Code::unsupported, place, ": the template is larger than ", bytes_text(largest_template));
    if (utf8_valid_prefix(source) != source.size())
        return fail(Code::format, place, ": the template is not UTF-8 at byte ", utf8_valid_prefix(source));
    NamedTemplate & added = *templates.emplace_back(std::make_unique<NamedTemplate>());
    added.name = std::move(name);
    added.source = chat::normal_source(source);
    added.place = std::move(place);
    Result<chat::SyntaxTree> tree = chat::parse_template(added.source);
    if (!tree.ok()) return fail(tree.status().code(), added.place, ":", tree.status().message());
    added.tree = tree.take();
    return {};
}

const NamedTemplate * ChatTemplate::State::find(std::string_view name) const {
    for (const std::unique_ptr<NamedTemplate> & entry : templates)
        if (entry->name == name) return entry.get();
    return nullptr;
}

const NamedTemplate & ChatTemplate::State::choose(bool any_tools) const {
    const NamedTemplate * const with_tools = any_tools ? find("tool_use") : nullptr;
    return with_tools ? *with_tools : *find("default");
}

// A token is a string, or an object that holds it.
Status ChatTemplate::State::read_tokens(const JsonValue & config) {
    for (const char * const key :
         {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
        JsonValue value, content;
        if (!config.find(key, value)) continue;
        if (value.is_object() && value.find("content", content)) value = content;
        if (!value.is_string()) continue;
        GNV_ASSIGN(const std::string_view token, value.as_string());
        tokens.emplace_back(key, token);
    }
    return {};
}

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, const std::string & name) {
    auto state = std::make_shared<State>();
    GNV_TRY(state->add("default", source, name));
    return ChatTemplate(std::move(state));
}

Result<ChatTemplate> ChatTemplate::read(const std::string & path, const std::string & folder) {
    auto state = std::make_shared<State>();
    GNV_ASSIGN(const std::string source, read_file(path, largest_template));
    GNV_TRY(state->add("default", source, path));
    const std::string config = join_path(folder, "tokenizer_config.json");
    if (!folder.empty() && path_exists(config)) {
        GNV_ASSIGN(const JsonDocument document, JsonDocument::read(config, largest_config));
        GNV_TRY(state->read_tokens(document.root()));
    }
    return ChatTemplate(std::move(state));
}

Result<ChatTemplate> ChatTemplate::load(const std::string & folder) {
    const std::string file = join_path(folder, "chat_template.jinja");
    if (path_exists(file)) return read(file, folder);
    const std::string config = join_path(folder, "tokenizer_config.json");
    const auto none = [&] {
        return fail(Code::not_found, folder,
                    ": no chat template: neither chat_template.jinja nor the member "
                    "\"chat_template\" of tokenizer_config.json");
    };
    if (!path_exists(config)) return none();
    GNV_ASSIGN(const JsonDocument document, JsonDocument::read(config, largest_config));
    auto state = std::make_shared<State>();
    JsonValue value;
    if (!document.root().is_object() || !document.root().find("chat_template", value) || value.is_null()) return none();
    GNV_TRY(state->read_tokens(document.root()));
    const auto add = [&](std::string_view name, const JsonValue & text) -> Status {
        GNV_ASSIGN(const std::string_view source, text.as_string());
        return state->add(std::string(name), source,
                          concat(config, ": chat_template", name == "default" ? "" : " ",
                                 name == "default" ? "" : printable(name, 60)));
    };
    if (value.is_array()) {
        GNV_TRY(value.for_each_element([&](size_t, const JsonValue & entry) -> Status {
            GNV_ASSIGN(const JsonValue name, entry.get("name"));
            GNV_ASSIGN(const JsonValue text, entry.get("template"));
            GNV_ASSIGN(const std::string_view name_text, name.as_string());
            if (name_text != "default" && name_text != "tool_use") return {}; // of other purposes, such as retrieval
            return add(name_text, text);
        }));
    } else {
        GNV_TRY(add("default", value));
    }
    if (!state->find("default")) return none();
    return ChatTemplate(std::move(state));
}

Result<std::string> ChatTemplate::render(const JsonValue & conversation, const ChatRenderOptions & options) const {
    chat::Limits limits;
    limits.steps = options.steps;
    limits.output_bytes = options.output_bytes;
    limits.memory_bytes = options.memory_bytes;
    chat::Workspace work(limits);
    if (!conversation.is_object())
        return fail(Code::format, conversation.where(), ": a conversation is an object with \"messages\"");
    chat::Dict * const variables = work.make<chat::Dict>();
    for (const auto & [name, token] : state_->tokens) variables->set(name, chat::Value::string(token));
    variables->set("add_generation_prompt", chat::Value::boolean(false));
    const auto set = [&](std::string_view name, const JsonValue & content) -> Status {
        GNV_ASSIGN(const chat::Value value, chat::value_of_json(work, content));
        variables->set(work.keep(std::string(name)), value);
        return {};
    };
    GNV_TRY(conversation.for_each_member(set));
    if (!variables->find("messages"))
        return fail(Code::format, conversation.where(), ": the conversation has no \"messages\"");
    const chat::Value * const tools = variables->find("tools");
    const NamedTemplate & used = state_->choose(tools && chat::truth(*tools));
    std::string out;
    chat::Interpreter interpreter(work, *variables, options.local_time);
    const Status status = interpreter.render(used.tree.body, out);
    if (!status.ok()) return fail(status.code(), used.place, ":", status.message());
    return out;
}

std::vector<UnwrittenField> ChatTemplate::unwritten(const JsonValue & conversation, std::string_view text) const {
    JsonValue tools;
    const bool any_tools = conversation.is_object() && conversation.find("tools", tools) && tools.is_array() &&
                           tools.array_size().value() > 0;
    return find_unwritten(conversation, state_->choose(any_tools).source, text);
}

} // namespace gnv
