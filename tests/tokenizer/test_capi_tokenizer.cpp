#include "fixture.h"
#include "ggml-nvfp4.h"
#include "scratch.h"

using namespace gnv::test;

namespace {

struct Fixture {
    gnv_engine_t * engine = nullptr;
    gnv_tokenizer_t * tokenizer = nullptr;

    explicit Fixture(const std::string & path = tiny_folder) {
        REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
        REQUIRE(gnv_tokenizer_load(engine, path.c_str(), &tokenizer) == GNV_OK);
    }
    ~Fixture() {
        gnv_tokenizer_destroy(tokenizer);
        gnv_engine_destroy(engine);
    }
    std::vector<int32_t> encode(const std::string & text, uint32_t flags = 0) {
        size_t count = 0;
        REQUIRE(gnv_tokenizer_encode(tokenizer, text.data(), text.size(), flags, nullptr, 0, &count) == GNV_OK);
        std::vector<int32_t> ids(count);
        REQUIRE(gnv_tokenizer_encode(tokenizer, text.data(), text.size(), flags, ids.data(), ids.size(), &count) ==
                GNV_OK);
        REQUIRE(count == ids.size());
        return ids;
    }
    std::string decode(const std::vector<int32_t> & ids, uint32_t flags = 0) {
        gnv_text_t * text = nullptr;
        REQUIRE(gnv_tokenizer_decode(tokenizer, ids.data(), ids.size(), flags, &text) == GNV_OK);
        const std::string out(gnv_text_data(text), gnv_text_size(text));
        gnv_text_destroy(text);
        return out;
    }
};

} // namespace

TEST_CASE_FIXTURE(Fixture, "recorded ids through the C API") {
    CHECK(gnv_tokenizer_vocab_size(tokenizer) == 4080);
    for (const json & record : json::parse(read_all(GNV_TEST_DATA "/golden/tokens.json")))
        CHECK(encode(record["text"].get<std::string>()) == record["tiny"].get<std::vector<int32_t>>());
    CHECK(encode("<|im_end|>") == std::vector<int32_t>{4074});
    CHECK(encode("<|im_end|>", GNV_TOKENIZER_NO_SPECIAL).size() > 1);
    CHECK(decode({39, 4074}) == "H<|im_end|>");
    CHECK(decode({39, 4074}, GNV_TOKENIZER_SKIP_SPECIAL) == "H");
    CHECK(decode({158}) == "\uFFFD");
    CHECK(decode({158}, GNV_TOKENIZER_BYTES) == "\xe2");
    CHECK(decode({}).empty());
}

TEST_CASE("recorded ids of the published tokenizer through the C API") {
    const ScratchFolder scratch;
    REQUIRE(gnv::write_file_synced(scratch / "tokenizer.json", qwen3_json()).ok());
    Fixture published(scratch.path());
    const json records = json::parse(read_all(GNV_TEST_DATA "/golden/tokens.json"));
    CHECK(records.size() == 201);
    const gnv::Tokenizer direct = load_qwen3();
    for (const json & record : records) {
        const auto expected = record["qwen3"].get<std::vector<int32_t>>();
        CHECK(published.encode(record["text"].get<std::string>()) == expected);
        CHECK(published.decode(expected) == direct.decode(expected).value());
    }
}

TEST_CASE_FIXTURE(Fixture, "a buffer that is too small") {
    int32_t ids[3] = {-1, -1, -1};
    size_t count = 0;
    REQUIRE(gnv_tokenizer_encode(tokenizer, "12345", 5, 0, ids, 2, &count) == GNV_OK);
    CHECK(count == 5);
    CHECK((ids[0] == 16 && ids[1] == 17 && ids[2] == -1));
}

TEST_CASE_FIXTURE(Fixture, "misuse and failures") {
    gnv_tokenizer_t * other = tokenizer;
    CHECK(gnv_tokenizer_load(engine, "/no/such/folder", &other) == GNV_NOT_FOUND);
    CHECK(other == nullptr);
    CHECK(std::string(gnv_last_error(engine)).find("/no/such/folder") != std::string::npos);
    CHECK(gnv_tokenizer_load(engine, nullptr, &other) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_load(engine, tiny_folder.c_str(), nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_load(nullptr, tiny_folder.c_str(), &other) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_vocab_size(nullptr) == 0);
    gnv_tokenizer_destroy(nullptr);

    size_t count = 9;
    CHECK(gnv_tokenizer_encode(tokenizer, "a\xff", 2, 0, nullptr, 0, &count) == GNV_FORMAT);
    CHECK(count == 0);
    CHECK(std::string(gnv_last_error(engine)) == "the text is not valid UTF-8 at byte 1");
    CHECK(gnv_tokenizer_encode(tokenizer, nullptr, 1, 0, nullptr, 0, &count) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_encode(tokenizer, nullptr, 0, 0, nullptr, 0, &count) == GNV_OK);
    CHECK(gnv_tokenizer_encode(tokenizer, "a", 1, 0, nullptr, 5, &count) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_encode(tokenizer, "a", 1, 0, nullptr, 0, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_encode(tokenizer, "a", 1, GNV_TOKENIZER_BYTES, nullptr, 0, &count) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_encode(nullptr, "a", 1, 0, nullptr, 0, &count) == GNV_INVALID_ARGUMENT);

    const int32_t ids[] = {0, 4080};
    gnv_text_t * text = nullptr;
    CHECK(gnv_tokenizer_decode(tokenizer, ids, 2, 0, &text) == GNV_INVALID_ARGUMENT);
    CHECK(text == nullptr);
    CHECK(std::string(gnv_last_error(engine)).find("the id 4080 at position 1") == 0);
    CHECK(gnv_tokenizer_decode(tokenizer, nullptr, 2, 0, &text) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_decode(tokenizer, ids, 1, 0, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_decode(tokenizer, ids, 1, GNV_TOKENIZER_NO_SPECIAL, &text) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_tokenizer_decode(nullptr, ids, 1, 0, &text) == GNV_INVALID_ARGUMENT);
}
