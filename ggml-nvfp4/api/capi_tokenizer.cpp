#include "api/tokenizer_handle.h"

#include <algorithm>

using namespace gnv;

static Status check_flags(const char * function, uint32_t flags, uint32_t known) {
    if ((flags & ~known) == 0) return {};
    return fail(Code::invalid_argument, function, ": unknown flags ", flags & ~known);
}

gnv_status gnv_tokenizer_load(gnv_engine_t * engine, const char * path, gnv_tokenizer_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        if (!path || !out) return Status(Code::invalid_argument, "gnv_tokenizer_load: an argument is NULL");
        GNV_ASSIGN(Tokenizer tokenizer, Tokenizer::load(path));
        Encoder encoder(tokenizer);
        *out = new gnv_tokenizer_t{engine, std::move(tokenizer), std::move(encoder), {}};
        return {};
    });
}

void gnv_tokenizer_destroy(gnv_tokenizer_t * tokenizer) { delete tokenizer; }

int32_t gnv_tokenizer_vocab_size(const gnv_tokenizer_t * handle) { return handle ? handle->tokenizer.vocab_size() : 0; }

gnv_status gnv_tokenizer_encode(gnv_tokenizer_t * handle, const char * text, size_t size, uint32_t flags, int32_t * ids,
                                size_t capacity, size_t * count) {
    if (count) *count = 0;
    return api::call(handle ? handle->engine : nullptr, [&]() -> Status {
        if (!count || (!text && size > 0) || (!ids && capacity > 0))
            return Status(Code::invalid_argument, "gnv_tokenizer_encode: an argument is NULL");
        GNV_TRY(check_flags("gnv_tokenizer_encode", flags, GNV_TOKENIZER_NO_SPECIAL));
        EncodeOptions options;
        options.parse_added_tokens = (flags & GNV_TOKENIZER_NO_SPECIAL) == 0;
        handle->ids.clear();
        GNV_TRY(handle->encoder.encode({text, size}, handle->ids, options));
        *count = handle->ids.size();
        std::copy_n(handle->ids.begin(), std::min(capacity, *count), ids);
        return {};
    });
}

gnv_status gnv_tokenizer_decode(gnv_tokenizer_t * handle, const int32_t * ids, size_t count, uint32_t flags,
                                gnv_text_t ** out) {
    if (out) *out = nullptr;
    return api::call(handle ? handle->engine : nullptr, [&]() -> Status {
        if (!out || (!ids && count > 0))
            return Status(Code::invalid_argument, "gnv_tokenizer_decode: an argument is NULL");
        GNV_TRY(check_flags("gnv_tokenizer_decode", flags, GNV_TOKENIZER_SKIP_SPECIAL | GNV_TOKENIZER_BYTES));
        const bool skip_special = (flags & GNV_TOKENIZER_SKIP_SPECIAL) != 0;
        const std::span<const TokenId> tokens(ids, count);
        GNV_ASSIGN(std::string text, flags & GNV_TOKENIZER_BYTES ? handle->tokenizer.decode_bytes(tokens, skip_special)
                                                                 : handle->tokenizer.decode(tokens, skip_special));
        *out = api::make_text(std::move(text));
        return {};
    });
}
