#include "api/arguments.h"
#include "api/progress.h"
#include "api/text/tokenizer_handle.h"
#include "formats/file.h"

#include <algorithm>
#include <string_view>

using namespace gnv;

gnv_status gnv_tokenizer_load(gnv_engine_t * engine, const char * path, gnv_tokenizer_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({path, out}, "gnv_tokenizer_load"));
        GNV_ASSIGN(Tokenizer tokenizer, Tokenizer::load(path));
        Encoder encoder(tokenizer);
        std::string folder = is_directory(path) ? std::string(path) : parent_path(path);
        *out =
            new gnv_tokenizer_t{{engine}, std::move(tokenizer), std::move(encoder), {}, {}, {}, std::move(folder), {}};
        return {};
    });
}

void gnv_tokenizer_destroy(gnv_tokenizer_t * tokenizer) { api::destroy(tokenizer); }

int32_t gnv_tokenizer_vocab_size(const gnv_tokenizer_t * handle) { return handle ? handle->tokenizer.vocab_size() : 0; }

// With or without the callback, as found before; another thread may have changed it since.
static Status encode(gnv_tokenizer_t * handle, std::string_view text, bool calls_back, EncodeOptions options) {
    if (calls_back != handle->calls_back)
        return Status(Code::invalid_argument,
                      "gnv_tokenizer_encode: another thread has just changed the progress callback");
    if (calls_back) options.stop = handle->stop;
    handle->ids.clear();
    return handle->encoder.encode(text, handle->ids, options);
}

gnv_status gnv_tokenizer_encode(gnv_tokenizer_t * handle, const char * text, size_t size, uint32_t flags, int32_t * ids,
                                size_t capacity, size_t * count) {
    if (count) *count = 0;
    const bool calls_back = handle && handle->calls_back;
    const auto body = [&]() -> Status {
        GNV_TRY(api::check_pointers({count}, "gnv_tokenizer_encode"));
        GNV_TRY(api::check_list(text, size, "gnv_tokenizer_encode: text", api::most_bytes));
        GNV_TRY(api::check_list(ids, capacity, "gnv_tokenizer_encode: ids", api::most_bytes / sizeof *ids));
        GNV_TRY(api::check_flags(flags, GNV_TOKENIZER_NO_SPECIAL, "gnv_tokenizer_encode: flags"));
        EncodeOptions options;
        options.parse_added_tokens = (flags & GNV_TOKENIZER_NO_SPECIAL) == 0;
        GNV_TRY(encode(handle, {text, size}, calls_back, options));
        *count = handle->ids.size();
        std::copy_n(handle->ids.begin(), std::min(capacity, *count), ids);
        return {};
    };
    gnv_engine_t * const engine = api::engine_of(handle);
    return calls_back ? api::run(engine, body) : api::call(engine, body);
}

gnv_status gnv_tokenizer_set_progress(gnv_tokenizer_t * handle, gnv_progress_callback progress, void * user) {
    return api::run(api::engine_of(handle), [&]() -> Status {
        const std::lock_guard<std::mutex> lock(handle->engine->quick_mutex); // no call encodes meanwhile
        handle->stop = api::make_stop_check(progress, user);
        handle->calls_back = progress != nullptr;
        return {};
    });
}

gnv_status gnv_tokenizer_decode(gnv_tokenizer_t * handle, const int32_t * ids, size_t count, uint32_t flags,
                                gnv_text_t ** out) {
    if (out) *out = nullptr;
    return api::call(api::engine_of(handle), [&]() -> Status {
        GNV_TRY(api::check_pointers({out}, "gnv_tokenizer_decode"));
        GNV_TRY(api::check_list(ids, count, "gnv_tokenizer_decode: ids", api::most_bytes / sizeof *ids));
        GNV_TRY(
            api::check_flags(flags, GNV_TOKENIZER_SKIP_SPECIAL | GNV_TOKENIZER_BYTES, "gnv_tokenizer_decode: flags"));
        const bool skip_special = (flags & GNV_TOKENIZER_SKIP_SPECIAL) != 0;
        const std::span<const TokenId> tokens(ids, count);
        GNV_ASSIGN(std::string text, flags & GNV_TOKENIZER_BYTES ? handle->tokenizer.decode_bytes(tokens, skip_special)
                                                                 : handle->tokenizer.decode(tokens, skip_special));
        *out = api::make_text(std::move(text));
        return {};
    });
}

// "the chat template passes over messages[1].tool_calls and those of 2 more messages: the text lacks them"
static std::string describe(const UnwrittenField & field) {
    std::string others;
    if (field.messages > 1)
        others = concat(" and those of ", count_text(field.messages - 1),
                        field.messages > 2 ? " more messages" : " more message");
    return concat("the chat template passes over ", field.place(), others, ": the text lacks them");
}

gnv_status gnv_tokenizer_render_chat(gnv_tokenizer_t * handle, const char * conversation, size_t size,
                                     const char * template_file, int64_t local_time, gnv_text_t ** out) {
    if (out) *out = nullptr;
    std::vector<UnwrittenField> unwritten;
    const gnv_status status = api::call(api::engine_of(handle), [&]() -> Status {
        GNV_TRY(api::check_pointers({out}, "gnv_tokenizer_render_chat"));
        GNV_TRY(api::check_list(conversation, size, "gnv_tokenizer_render_chat: conversation", api::most_bytes));
        std::optional<ChatTemplate> from_file;
        if (template_file) {
            GNV_ASSIGN(from_file, ChatTemplate::read(template_file, handle->folder));
        } else if (!handle->chat_template) {
            GNV_ASSIGN(handle->chat_template, ChatTemplate::load(handle->folder));
        }
        GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::string(conversation, size), "conversation"));
        ChatRenderOptions options;
        options.local_time = local_time;
        const ChatTemplate & chat = from_file ? *from_file : *handle->chat_template;
        GNV_ASSIGN(std::string text, chat.render(document.root(), options));
        unwritten = chat.unwritten(document.root(), text);
        *out = api::make_text(std::move(text));
        return {};
    });
    // Outside of the call: the receiver may make calls of its own.
    (void)guard_exceptions([&]() -> Status {
        for (const UnwrittenField & field : unwritten) handle->engine->log(GNV_LOG_WARNING, describe(field));
        return {};
    });
    return status;
}
