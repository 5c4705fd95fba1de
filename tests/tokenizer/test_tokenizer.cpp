#include "fixture.h"
#include "scratch.h"

using namespace gnv;
using namespace gnv::test;

using Ids = std::vector<TokenId>;

TEST_CASE("tokens and their parts") {
    const Tokenizer tiny = load_tiny();
    CHECK(tiny.vocab_size() == 4080);
    CHECK(tiny.find("<|im_end|>") == 4074);
    CHECK(tiny.find(" the") == encode(tiny, " the").at(0));
    CHECK(tiny.find("no such token") == no_token);
    CHECK(tiny.roles().bos == no_token);
    CHECK(tiny.roles().eos == 4074);
    CHECK(tiny.roles().pad == 4072);
    CHECK(tiny.is_special(4074));
    CHECK_FALSE(tiny.is_special(0));
    CHECK(tiny.is_token(4079));
    CHECK_FALSE(tiny.is_token(4080));
    CHECK_FALSE(tiny.is_token(-1));
    const Tokenizer qwen3 = load_qwen3();
    CHECK(qwen3.vocab_size() == 151669);
    CHECK_FALSE(qwen3.is_special(qwen3.find("<think>"))); // added, but text to decode
}

TEST_CASE("added tokens, parsed or not") {
    const Tokenizer t = take(parse(small_tokenizer()));
    CHECK(encode(t, "abc<end>ab<think>") == Ids{257, 258, 256, 259});
    CHECK(encode(t, "<<end>") == Ids{'<', 258});
    CHECK(encode(t, "<end") == Ids{'<', 'e', 'n', 'd'});
    const Ids text = encode(t, "<end><think>", false);
    CHECK(text.size() == 12);
    for (const TokenId id : text) CHECK(id < 256);
    CHECK(t.decode(Ids{257, 258, 259}).value() == "abc<end><think>");
    CHECK(t.decode(Ids{257, 258, 259}, true).value() == "abc<think>");
}

TEST_CASE("tokens that only tokenizer_config.json has") {
    const json config = {{"eos_token", {{"content", "<end>"}}},
                         {"pad_token", "<pad>"},
                         {"bos_token", "<unheard of>"},
                         {"added_tokens_decoder",
                          {{"260", {{"content", "<end>x"}, {"special", true}}},
                           {"258", {{"content", "<end>"}, {"special", false}, {"normalized", false}}},
                           {"261", {{"content", "<pad>"}, {"special", true}}}}}};
    const Tokenizer t = take(parse(small_tokenizer(), config));
    CHECK(t.vocab_size() == 262);
    CHECK(t.roles().eos == 258);
    CHECK(t.roles().pad == 261);
    CHECK(t.roles().bos == no_token);
    CHECK_FALSE(t.is_special(258));                         // the later entry counts
    CHECK(encode(t, "<end>x<end>y") == Ids{260, 258, 'y'}); // the longest
}

TEST_CASE("a folder, a file, and a tokenizer_config.json beside it") {
    const ScratchFolder folder;
    CHECK(write_file_synced(folder / "tokenizer.json", small_tokenizer().dump()).ok());
    CHECK(take(Tokenizer::load(folder.path())).vocab_size() == 260);
    CHECK(write_file_synced(folder / "tokenizer_config.json", R"({"eos_token": "<end>"})").ok());
    CHECK(take(Tokenizer::load(folder.path())).roles().eos == 258);
    CHECK(take(Tokenizer::load(folder / "tokenizer.json")).roles().eos == 258);
    CHECK(Tokenizer::load(folder / "absent").status().code() == Code::not_found);
}

TEST_CASE("decoding what is not UTF-8") {
    const Tokenizer t = take(parse(small_tokenizer()));
    const auto ids_of = [&](std::string_view bytes) {
        Ids ids;
        for (const char byte : bytes) ids.push_back(t.find({&byte, 1}));
        return ids;
    };
    CHECK(t.decode(ids_of("a\xf0\x9f\x98")).value() == "a\uFFFD");
    CHECK(t.decode(ids_of("\xf0\x9f\x98\x80")).value() == "\U0001F600");
    CHECK(t.decode(ids_of("\xed\xa0\x80")).value() == "\uFFFD\uFFFD\uFFFD");
    CHECK(t.decode_bytes(ids_of("a\xf0\x9f\x98")).value() == "a\xf0\x9f\x98");
    CHECK(t.decode_bytes(ids_of(std::string_view("\0\xff", 2))).value() == std::string("\0\xff", 2));
    const Status status = t.decode(Ids{1, 2, 260}).take_status();
    CHECK(status.code() == Code::invalid_argument);
    CHECK(status.message() == "the id 260 at position 2 is not a token of t.json, whose ids end at 259");
    CHECK(t.decode(Ids{-5}).status().code() == Code::invalid_argument);
    CHECK(t.decode({}).value().empty());
}

TEST_CASE("texts that are not UTF-8, and NUL") {
    const Tokenizer t = take(parse(small_tokenizer()));
    Encoder encoder(t);
    Ids ids = {7};
    const Status status = encoder.encode("abc\xc3(", ids);
    CHECK(status.code() == Code::format);
    CHECK(status.message() == "the text is not valid UTF-8 at byte 3");
    CHECK(ids == Ids{7});
    CHECK_FALSE(encoder.encode("\xed\xa0\x80", ids).ok()); // a surrogate
    const std::string nul("a\0b<end>\0", 9);
    const Ids encoded = encode(t, nul);
    CHECK(encoded.size() == 5);
    CHECK(t.decode(encoded).value() == nul);
    CHECK(encode(t, "").empty());
}

TEST_CASE("an encoder outlives its tokenizer and can be moved") {
    auto t = std::make_unique<Tokenizer>(take(parse(small_tokenizer())));
    Encoder first(*t);
    t.reset();
    Encoder second(std::move(first));
    CHECK(second.encode("abc").value() == Ids{257});
}
