// Against ids that the `tokenizers` library gave.
#include "fixture.h"

#include <utf8proc.h>

using namespace gnv;
using namespace gnv::test;

static std::string nfc_by_utf8proc(const std::string & text) {
    utf8proc_uint8_t * out = nullptr;
    const auto size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t *>(text.data()), utf8proc_ssize_t(text.size()), &out,
                     utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    REQUIRE(size >= 0);
    const std::string result(reinterpret_cast<const char *>(out), size_t(size));
    free(out);
    return result;
}

static void check_recorded(const Tokenizer & tokenizer, const char * key) {
    const json records = json::parse(read_all(GNV_TEST_DATA "/golden/tokens.json"));
    CHECK(records.size() == 201);
    Encoder encoder(tokenizer);
    std::vector<TokenId> all_ids, all_expected;
    for (const json & record : records) {
        const auto text = record["text"].get<std::string>();
        const auto expected = record[key].get<std::vector<TokenId>>();
        CAPTURE(text);
        const std::vector<TokenId> ids = encoder.encode(text).take();
        CHECK(ids == expected);
        CHECK(tokenizer.decode(ids).value() == nfc_by_utf8proc(text));
        CHECK(encoder.encode(text, all_ids).ok()); // appends; most pieces come from the cache now
        all_expected.insert(all_expected.end(), expected.begin(), expected.end());
    }
    CHECK(all_ids == all_expected);
}

TEST_CASE("recorded ids of the small tokenizer") { check_recorded(load_tiny(), "tiny"); }

TEST_CASE("recorded ids of the published tokenizer") { check_recorded(load_qwen3(), "qwen3"); }

TEST_CASE("recorded ids of variants of the small tokenizer") {
    json file = json::parse(read_all(join_path(tiny_folder, "tokenizer.json")));
    const json added_tokens = file["added_tokens"];
    const json variants = json::parse(read_all(GNV_TEST_DATA "/tokenizers/variants.json"));
    CHECK(variants.size() == 24);
    for (size_t i = 0; i < variants.size(); i++) {
        CAPTURE(i);
        const json & variant = variants[i];
        file["added_tokens"] = added_tokens;
        for (const json & token : variant["added_tokens"]) file["added_tokens"].push_back(token);
        file["pre_tokenizer"] = variant["pre_tokenizer"];
        file["normalizer"] = variant["normalizer"];
        file["model"]["ignore_merges"] = variant["ignore_merges"];
        const Tokenizer tokenizer = take(parse(file));
        Encoder encoder(tokenizer);
        for (const json & record : variant["cases"]) {
            const auto text = record["text"].get<std::string>();
            CAPTURE(text);
            const std::vector<TokenId> ids = encoder.encode(text).take();
            CHECK(ids == record["ids"].get<std::vector<TokenId>>());
            CHECK(tokenizer.decode(ids, true).value() == record["decoded"].get<std::string>());
        }
    }
}
