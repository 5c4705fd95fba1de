// vocab.json and merges.txt in place of a tokenizer.json.
#include "fixture.h"
#include "scratch.h"

using namespace gnv;
using namespace gnv::test;

namespace {

// The two files as Transformers writes them from a tokenizer.json.
void save_parts(const ScratchFolder & folder, const json & model, const char * line_end = "\n") {
    folder.save("vocab.json", model["vocab"].dump());
    std::string merges = concat("#version: 0.2", line_end);
    for (const json & merge : model["merges"])
        merges += merge.is_string() ? concat(merge.get<std::string>(), line_end)
                                    : concat(merge[0].get<std::string>(), " ", merge[1].get<std::string>(), line_end);
    folder.save("merges.txt", merges);
}

std::string failure(const Result<Tokenizer> & tokenizer) { return tokenizer.ok() ? "" : tokenizer.status().message(); }

} // namespace

TEST_CASE("vocab.json and merges.txt give the recorded ids of tokenizer.json") {
    const ScratchFolder folder;
    const json whole = json::parse(read_all(join_path(tiny_folder, "tokenizer.json")));
    folder.save("tokenizer_config.json", read_all(join_path(tiny_folder, "tokenizer_config.json")));
    const json records = json::parse(read_all(GNV_TEST_DATA "/golden/tokens.json"));
    for (const char * const line_end : {"\n", "\r\n"}) {
        save_parts(folder, whole["model"], line_end);
        const Tokenizer tokenizer = take(Tokenizer::load(folder.path()));
        CHECK(tokenizer.vocab_size() == load_tiny().vocab_size());
        CHECK(tokenizer.roles().eos == load_tiny().roles().eos);
        Encoder encoder(tokenizer);
        for (const json & record : records) {
            const auto text = record["text"].get<std::string>();
            CAPTURE(text);
            CHECK(encoder.encode(text).take() == record["tiny"].get<std::vector<TokenId>>());
        }
        // Letters with marks, control tokens, and every added token.
        for (const std::string text : {"नमस्ते e\u0301 กำ", "<|im_start|>user\nhi<|im_end|><|image_pad|>x"})
            CHECK(encoder.encode(text).take() == encode(load_tiny(), text));
    }
    // A tokenizer.json beside them has the last word.
    folder.save("tokenizer.json", "{}");
    CHECK(failure(Tokenizer::load(folder.path())).find("tokenizer.json: ") != std::string::npos);
}

TEST_CASE("of a key that a tokenizer.json has twice the last counts") {
    const std::string text = small_tokenizer().dump();
    const Tokenizer tokenizer =
        take(Tokenizer::parse(text.substr(0, text.size() - 1) + ", \"version\": 1, \"version\": 2}", "t.json"));
    CHECK(encode(tokenizer, "abc") == encode(take(parse(small_tokenizer())), "abc"));
}

TEST_CASE("vocab.json and merges.txt that cannot be used are refused by file and line") {
    const ScratchFolder folder;
    const json model = small_tokenizer()["model"];
    const auto refused = [&] { return failure(Tokenizer::load(folder.path())); };
    save_parts(folder, model);
    CHECK(refused() == "");
    CHECK(encode(take(Tokenizer::load(folder.path())), "abc ab") == std::vector<TokenId>{257, 32, 256});
    folder.save("merges.txt", "#version: 0.2\na b\n\nab\n");
    CHECK(refused() == folder / "merges.txt:4: \"ab\" is not two tokens with a space between");
    folder.save("merges.txt", "a b\nab x\n");
    CHECK(refused() == folder / "merges.txt:2: \"abx\" is not in vocab.json");
    folder.save("merges.txt", "");
    CHECK(refused() == "");
    folder.save("vocab.json", "[]");
    CHECK(refused() == folder / "vocab.json: expected an object");
    save_parts(folder, model);
    folder.save("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})");
    CHECK(refused().find("tokenizer_class: vocab.json and merges.txt of the class GPT2Tokenizer") != std::string::npos);
    folder.save("tokenizer_config.json", R"({"add_prefix_space": true})");
    CHECK(refused().find("add_prefix_space: a space before the text is not supported") != std::string::npos);
    folder.save("tokenizer_config.json", R"({"added_tokens_decoder": {"258": {"content": "<end>", "special": true}}})");
    folder.save("added_tokens.json", R"({"<end>": 258})");
    CHECK(refused() == "");
    folder.save("added_tokens.json", R"({"<end>": 258, "<tool>": 259})");
    CHECK(refused().find("added_tokens.json: tokenizer_config.json does not list the token \"<tool>\"") !=
          std::string::npos);
}
