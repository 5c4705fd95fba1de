// A template, a zero byte and a conversation (JSON; without one, a fixed conversation): rendered, or refused with a message.
#include "chat/chat_template.h"
#include "core/utf8.h"

#include <cstdlib>

static constexpr const char * fixed_conversation =
    R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi é"},
    {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [2.5]}}}]}],
    "tools": [{"name": "f"}], "s": "Hello World", "n": 7, "f": 2.5, "l": [3, 1, 2], "d": {"b": 1, "a": "x"}})";

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    std::string_view input(reinterpret_cast<const char *>(data), size);
    const std::string_view source = input.substr(0, input.find('\0'));
    input.remove_prefix(source.size() < input.size() ? source.size() + 1 : input.size());
    const auto chat = gnv::ChatTemplate::parse(source, "t.jinja");
    if (!chat.ok()) {
        if (chat.status().message().empty()) abort();
        return 0;
    }
    const auto conversation =
        gnv::JsonDocument::parse(std::string(input.empty() ? fixed_conversation : input), "conversation");
    if (!conversation.ok()) return 0;
    gnv::ChatRenderOptions options;
    options.local_time = 1783177569;
    options.steps = 20'000;
    options.output_bytes = 1 << 20;
    options.memory_bytes = 16 << 20;
    const auto text = chat.value().render(conversation.value().root(), options);
    if (!text.ok() && text.status().message().empty()) abort();
    if (text.ok() && gnv::utf8_valid_prefix(text.value()) != text.value().size()) abort();
    return 0;
}
