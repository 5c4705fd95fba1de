#include "api/arguments.h"
#include "api/stop_poll.h"
#include "api/tokenizer_handle.h"

#include <algorithm>

using namespace gnv;

gnv_status gnv_tokenizer_load(gnv_engine_t * engine, const char * path, gnv_tokenizer_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({path, out}, "gnv_tokenizer_load"));
        GNV_ASSIGN(Tokenizer tokenizer, Tokenizer::load(path));
        Encoder encoder(tokenizer);
        *out = new gnv_tokenizer_t{{engine}, std::move(tokenizer), std::move(encoder), {}, {}};
        return {};
    });
}

void gnv_tokenizer_destroy(gnv_tokenizer_t * tokenizer) { api::destroy(tokenizer); }

int32_t gnv_tokenizer_vocab_size(const gnv_tokenizer_t * handle) { return handle ? handle->tokenizer.vocab_size() : 0; }

gnv_status gnv_tokenizer_encode(gnv_tokenizer_t * handle, const char * text, size_t size, uint32_t flags, int32_t * ids,
                                size_t capacity, size_t * count) {
    if (count) *count = 0;
    return api::call(api::engine_of(handle), [&]() -> Status {
        GNV_TRY(api::check_pointers({count}, "gnv_tokenizer_encode"));
        GNV_TRY(api::check_list(text, size, "gnv_tokenizer_encode: text", api::most_bytes));
        GNV_TRY(api::check_list(ids, capacity, "gnv_tokenizer_encode: ids", api::most_bytes / sizeof *ids));
        GNV_TRY(api::check_flags(flags, GNV_TOKENIZER_NO_SPECIAL, "gnv_tokenizer_encode: flags"));
        EncodeOptions options;
        options.parse_added_tokens = (flags & GNV_TOKENIZER_NO_SPECIAL) == 0;
        options.stop = handle->stop;
        handle->ids.clear();
        GNV_TRY(handle->encoder.encode({text, size}, handle->ids, options));
        *count = handle->ids.size();
        std::copy_n(handle->ids.begin(), std::min(capacity, *count), ids);
        return {};
    });
}

gnv_status gnv_tokenizer_set_progress(gnv_tokenizer_t * handle, gnv_progress_callback progress, void * user) {
    return api::call(handle ? handle->engine : nullptr, [&]() -> Status {
        handle->stop = api::make_stop_check(progress, user);
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
