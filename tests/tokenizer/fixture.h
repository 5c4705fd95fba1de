// Tokenizers for the tests: the two of the recorded ids, and a small one to take apart.
#pragma once

#include "core/utf8.h"
#include "formats/file.h"
#include "formats/zstd.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/tokenizer.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace gnv::test {

using nlohmann::json;

inline const std::string tiny_folder = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";

inline std::string read_all(const std::string & path) {
    Result<std::string> content = read_file(path, 100 << 20);
    REQUIRE_MESSAGE(content.ok(), content.status().message());
    return content.take();
}

inline Tokenizer take(Result<Tokenizer> tokenizer) {
    REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
    return tokenizer.take();
}

inline Tokenizer load_tiny() { return take(Tokenizer::load(tiny_folder)); }

// The published tokenizer's file.
inline std::string qwen3_json() {
    const std::string path = GNV_TEST_DATA "/tokenizers/qwen3-tokenizer.json.zst";
    Result<std::string> text = zstd_decompress_all(read_all(path), 100 << 20, path);
    REQUIRE_MESSAGE(text.ok(), text.status().message());
    return text.take();
}

inline Tokenizer load_qwen3() { return take(Tokenizer::parse(qwen3_json(), "qwen3")); }

inline std::vector<TokenId> encode(const Tokenizer & tokenizer, std::string_view text, bool parse_added_tokens = true) {
    EncodeOptions options;
    options.parse_added_tokens = parse_added_tokens;
    Result<std::vector<TokenId>> ids = Encoder(tokenizer).encode(text, options);
    REQUIRE_MESSAGE(ids.ok(), ids.status().message());
    return ids.take();
}

// 256 bytes (ids 0 to 255), "ab" 256, "abc" 257, "<end>" 258 (special) and "<think>" 259; pieces are runs of letters, and
// the rest.
inline json small_tokenizer() {
    json vocab = json::object();
    for (int byte = 0; byte < 256; byte++) {
        std::string written;
        utf8_append(written, byte_level_character(uint8_t(byte)));
        vocab[written] = byte;
    }
    vocab["ab"] = 256, vocab["abc"] = 257;
    const json split = {
        {"type", "Split"}, {"pattern", {{"Regex", "\\p{L}+"}}}, {"behavior", "Isolated"}, {"invert", false}};
    const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const auto added = [](int id, const char * content, bool special) {
        return json{{"id", id},        {"content", content}, {"special", special},  {"normalized", false},
                    {"lstrip", false}, {"rstrip", false},    {"single_word", false}};
    };
    json steps = json::array();
    steps.push_back(split);
    steps.push_back(byte_level);
    json tokens = json::array();
    tokens.push_back(added(258, "<end>", true));
    tokens.push_back(added(259, "<think>", false));
    return {{"added_tokens", tokens},
            {"normalizer", {{"type", "NFC"}}},
            {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", steps}}},
            {"post_processor", nullptr},
            {"decoder", byte_level},
            {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b", "ab c"}}}}};
}

inline Result<Tokenizer> parse(const json & file, const json & config = nullptr) {
    return Tokenizer::parse(file.dump(), "t.json", config.is_null() ? "" : config.dump(), "c.json");
}

} // namespace gnv::test
