// tokenizer.json, tokenizer_config.json and a text, with a zero byte after each but the last: loaded and used, or refused
// with a message.
#include "core/utf8.h"
#include "tokenizer/tokenizer.h"

#include <cstdlib>

static void use(const gnv::Tokenizer & tokenizer, std::string_view text) {
    gnv::Encoder encoder(tokenizer);
    for (const bool parse_added_tokens : {true, false}) {
        gnv::EncodeOptions options;
        options.parse_added_tokens = parse_added_tokens;
        const auto ids = encoder.encode(text, options);
        if (!ids.ok()) {
            if (ids.status().message().empty()) abort();
            continue;
        }
        for (const gnv::TokenId id : ids.value())
            if (!tokenizer.is_token(id)) abort();
        const auto decoded = tokenizer.decode(ids.value());
        if (!decoded.ok() || gnv::utf8_valid_prefix(decoded.value()) != decoded.value().size()) abort();
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    std::string_view rest(reinterpret_cast<const char *>(data), size);
    std::string_view parts[2];
    for (std::string_view & part : parts) {
        part = rest.substr(0, rest.find('\0'));
        rest.remove_prefix(part.size() < rest.size() ? part.size() + 1 : rest.size());
    }
    const auto tokenizer = gnv::Tokenizer::parse(std::string(parts[0]), "tokenizer.json", std::string(parts[1]));
    if (!tokenizer.ok()) {
        if (tokenizer.status().message().empty()) abort();
        return 0;
    }
    use(tokenizer.value(), rest.substr(0, 1000));
    use(tokenizer.value(), " I'll see \u00e9e\u0301 123 <end>\n\n  x<end>");
    return 0;
}
