// Any bytes as merges.txt of a small vocabulary, whose tokens are all bytes and some pairs: loaded and used, or refused with a
// message.
#include "core/utf8.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/tokenizer.h"

#include <cstdlib>

static std::string vocabulary() {
    std::string out = "{";
    int id = 0;
    const auto add = [&](const std::string & token) {
        out += (id ? ", \"" : "\"") + (token == "\"" || token == "\\" ? "\\" + token : token) +
               "\": " + std::to_string(id);
        id++;
    };
    for (int byte = 0; byte < 256; byte++) {
        std::string written;
        gnv::utf8_append(written, gnv::byte_level_character(uint8_t(byte)));
        add(written);
    }
    for (const char * const token : {"ab", "abc", "bc", "aa", "aaa", "aaaa", "aaaaaaaa"}) add(token);
    return out + "}";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    static const std::string vocab = vocabulary();
    const std::string merges(reinterpret_cast<const char *>(data), size);
    const auto tokenizer = gnv::Tokenizer::parse_parts(vocab, merges, "folder");
    if (!tokenizer.ok()) {
        if (tokenizer.status().message().empty()) abort();
        return 0;
    }
    for (const std::string & text : {std::string("abc aaaaaaaaaaaaa bc cab"), std::string(5000, 'a')}) {
        const auto ids = gnv::Encoder(tokenizer.value()).encode(text);
        if (!ids.ok() || tokenizer.value().decode(ids.value()).value() != text) abort();
    }
    return 0;
}
