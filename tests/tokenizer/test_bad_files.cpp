// tokenizer.json files that are damaged, hostile, or of another kind.
#include "fixture.h"

using namespace gnv;
using namespace gnv::test;

static Status failure(const json & file, const json & config = nullptr) {
    Result<Tokenizer> tokenizer = parse(file, config);
    REQUIRE_FALSE(tokenizer.ok());
    return tokenizer.take_status();
}

// What parsing says when `value` stands at `place` of the small file.
static std::string message_with(const char * place, const json & value, Code code) {
    json file = small_tokenizer();
    file[json::json_pointer(place)] = value;
    const Status status = failure(file);
    CHECK(status.code() == code);
    return status.message();
}

TEST_CASE("other kinds of tokenizers are named") {
    const auto unsupported = [](const char * place, const json & value) {
        return message_with(place, value, Code::unsupported);
    };
    CHECK(unsupported("/model/type", "WordPiece") == "t.json: model.type: only the type BPE is supported");
    CHECK(unsupported("/normalizer", {{"type", "NFKC"}}) == "t.json: normalizer: the normalizer NFKC is not supported");
    CHECK(unsupported("/normalizer",
                      {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}}) ==
          "t.json: normalizer.normalizers[1]: the normalizer Lowercase is not supported");
    CHECK(unsupported("/pre_tokenizer", {{"type", "Metaspace"}}) ==
          "t.json: pre_tokenizer: the pre-tokenizer Metaspace is not supported");
    CHECK(unsupported("/pre_tokenizer", nullptr) ==
          "t.json: pre_tokenizer: a pre-tokenizer without ByteLevel is not supported");
    CHECK(unsupported("/pre_tokenizer/pretokenizers/0/behavior", "Removed") ==
          "t.json: pre_tokenizer.pretokenizers[0].behavior: the behavior Removed is not supported");
    CHECK(unsupported("/pre_tokenizer/pretokenizers/0/invert", true).find("inverted") != std::string::npos);
    CHECK(unsupported("/pre_tokenizer/pretokenizers/1/add_prefix_space", true).find("add_prefix_space") !=
          std::string::npos);
    CHECK(unsupported("/pre_tokenizer/pretokenizers/0/pattern", {{"String", " "}}).find("Regex") != std::string::npos);
    CHECK(unsupported("/decoder", nullptr) == "t.json: decoder: a decoder without ByteLevel is not supported");
    CHECK(unsupported("/post_processor", {{"type", "BertProcessing"}}).find("BertProcessing") != std::string::npos);
    CHECK(unsupported("/post_processor",
                      {{"type", "TemplateProcessing"}, {"single", {{{"SpecialToken", {{"id", "<end>"}}}}}}}) ==
          "t.json: post_processor.single[0]: a template that adds tokens is not supported");
    CHECK(unsupported("/model/dropout", 0.1).find("model.dropout") != std::string::npos);
    CHECK(unsupported("/model/byte_fallback", true).find("model.byte_fallback") != std::string::npos);
    CHECK(unsupported("/model/continuing_subword_prefix", "##").find("model.continuing") != std::string::npos);
    CHECK(unsupported("/model/end_of_word_suffix", "</w>").find("model.end_of_word") != std::string::npos);
}

TEST_CASE("what is as good as absent is accepted") {
    json file = small_tokenizer();
    file["model"].erase("type");
    file["model"]["unk_token"] = "ab";
    file["model"]["dropout"] = 0.0;
    file["model"]["end_of_word_suffix"] = "";
    file["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array()}};
    file["post_processor"] = {
        {"type", "Sequence"},
        {"processors",
         {{{"type", "ByteLevel"}}, {{"type", "TemplateProcessing"}, {"single", {{{"Sequence", {{"id", "A"}}}}}}}}}};
    file["added_tokens"].push_back({{"id", 260}, {"content", ""}});
    CHECK(parse(file).ok());
    file.erase("added_tokens");
    CHECK(parse(file).ok());
}

TEST_CASE("ids") {
    const auto format = [](const char * place, const json & value) { return message_with(place, value, Code::format); };
    CHECK(format("/model/vocab/ab", -1) == "t.json: model.vocab: the id -1 of the token \"ab\" is outside 0..4194303");
    CHECK(format("/model/vocab/ab", 4194304).find("outside") != std::string::npos);
    CHECK(format("/model/vocab/ab", 1e18).find("expected an integer") != std::string::npos);
    CHECK(format("/model/vocab/ab", "5") == "t.json: model.vocab.ab: expected an integer, found a string");
    CHECK(format("/model/vocab/ab", '~') == "t.json: model.vocab: two tokens have the id 126: \"ab\" and \"~\"");
    CHECK(format("/added_tokens/0/id", 5000) ==
          "t.json: added_tokens[0]: the added token \"<end>\" has the id 5000, but the next free id is 258");
    CHECK(format("/added_tokens/0/content", "abc") ==
          "t.json: added_tokens[0]: the added token \"abc\" has the id 258, but the vocabulary says 257");
    CHECK(format("/added_tokens/1/content", "<end>").find("the vocabulary says 258") != std::string::npos);
    const auto config = [](const json & decoder) {
        return failure(small_tokenizer(), {{"added_tokens_decoder", decoder}}).message();
    };
    CHECK(config({{"999999999", {{"content", "x"}}}}).find("c.json: added_tokens_decoder.999999999") == 0);
    CHECK(config({{"-1", {{"content", "<x>"}}}}).find("next free id") != std::string::npos);
    CHECK(config({{"12x", {{"content", "x"}}}}) == "c.json: added_tokens_decoder.12x: the key is not an id");
    CHECK(config({{"260", {{"special", true}}}}).find("\"content\" is missing") != std::string::npos);
}

TEST_CASE("holes in the vocabulary are no tokens") {
    json file = small_tokenizer();
    file["added_tokens"] = json::array();
    file["model"]["vocab"]["far away"] = 1000000;
    const Tokenizer t = take(parse(file));
    CHECK(t.vocab_size() == 1000001);
    CHECK(t.is_token(1000000));
    CHECK_FALSE(t.is_token(999999));
    CHECK_FALSE(t.decode(std::vector<TokenId>{999999}).ok());
}

TEST_CASE("vocabulary and merges") {
    const auto format = [](const char * place, const json & value) { return message_with(place, value, Code::format); };
    CHECK(format("/model/merges/0", "a bc") == "t.json: model.merges[0]: \"bc\" is not in the vocabulary");
    CHECK(format("/model/merges/1", {"ab", "d"}) == "t.json: model.merges[1]: \"abd\" is not in the vocabulary");
    CHECK(format("/model/merges/1", {"ab"}).find("a merge has two tokens, not 1") != std::string::npos);
    CHECK(format("/model/merges/1", "abc").find("is not two tokens") != std::string::npos);
    CHECK(format("/model/merges/1", "a b c").find("is not two tokens") != std::string::npos);
    CHECK(format("/model/merges", 7).find("model.merges: expected an array") != std::string::npos);
    CHECK(format("/model/vocab", 7).find("model.vocab: expected an object") != std::string::npos);
    CHECK(format("/model", 7).find("model: expected an object") != std::string::npos);
    CHECK(format("/model/unk_token", "<unk>").find("model.unk_token") != std::string::npos);
    json file = small_tokenizer();
    file["model"]["vocab"].erase("A");
    CHECK(failure(file).message() ==
          "t.json: model.vocab: no token for the byte 65; only complete byte-level vocabularies are supported");
    file = small_tokenizer();
    std::string written;
    utf8_append(written, byte_level_character(0xff)); // never in UTF-8
    file["model"]["vocab"].erase(written);
    CHECK(parse(file).ok());
    file["model"]["merges"] = {"a b", "ab c", "a b"}; // the last rank counts
    CHECK(encode(take(parse(file)), "abc") == std::vector<TokenId>{257});
    file["model"]["merges"] = json::array();
    CHECK(encode(take(parse(file)), "abc").size() == 3);
}

TEST_CASE("damaged JSON") {
    for (const char * text : {"", "[]", "{}", "{\"model\":", "7", "{\"model\": {}, \"normalizer\": null}"}) {
        CAPTURE(text);
        const Result<Tokenizer> tokenizer = Tokenizer::parse(text, "t.json");
        CHECK(tokenizer.status().code() == Code::format);
        CHECK(tokenizer.status().message().find("t.json") == 0);
    }
    CHECK(Tokenizer::parse(small_tokenizer().dump(), "t.json", "{", "c.json").status().message().find("c.json") == 0);
    CHECK(Tokenizer::parse(small_tokenizer().dump(), "t.json", "{\"eos_token\": 5}", "c.json").status().message() ==
          "c.json: eos_token: expected a string, found an integer");
    CHECK(message_with("/added_tokens/0/special", 1, Code::format).find("expected a boolean") != std::string::npos);
    CHECK(message_with("/added_tokens/0/content", std::string(5000, 'x'), Code::unsupported).find("5000 bytes") !=
          std::string::npos);
}
