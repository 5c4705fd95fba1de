#include "dataset/dataset_fixture.h"
#include "ggml-nvfp4.h"

#include <cstddef>
#include <cstring>

using namespace gnv;
using namespace gnv::test;

TEST_CASE("data sets through the C API") {
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(engine, GNV_TEST_BINARY_DIR "/data/qwen36-tiny", &tokenizer) == GNV_OK);

    gnv_dataset_options options;
    gnv_dataset_options_init(&options);
    CHECK(options.samples == 256);
    CHECK(options.sequence_length == 2048);
    CHECK(options.seed == 42);
    const std::string path = data_folder + "/dataset/rows.csv";
    const char * const sources[] = {path.c_str()};
    options.sources = sources;
    options.source_count = 1;
    options.samples = 3;
    options.sequence_length = 900;
    options.pad = 1;
    gnv_dataset_t * dataset = nullptr;
    REQUIRE(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_OK);
    REQUIRE(gnv_dataset_size(dataset) == 3);

    CalibrationOptions same = from(path, 3);
    same.sequence_length = 900;
    same.pad = true;
    const CalibrationSet expected = build(same).take();
    for (uint64_t i = 0; i < 3; i++) {
        gnv_sequence sequence = {};
        sequence.struct_size = sizeof sequence;
        REQUIRE(gnv_dataset_sequence(dataset, i, &sequence) == GNV_OK);
        CHECK(std::vector(sequence.ids, sequence.ids + sequence.length) == expected.sequences[i].ids);
        CHECK((sequence.mask != nullptr) == !expected.sequences[i].mask.empty());
        REQUIRE(sequence.document_count == 1);
        CHECK(sequence.documents[0].row == expected.sequences[i].documents[0].row);
    }
    gnv_sequence sequence = {};
    CHECK(gnv_dataset_sequence(dataset, 0, &sequence) == GNV_INVALID_ARGUMENT);
    sequence.struct_size = sizeof sequence;
    CHECK(gnv_dataset_sequence(dataset, 3, &sequence) == GNV_INVALID_ARGUMENT);

    gnv_text_t * text = nullptr;
    REQUIRE(gnv_dataset_text(dataset, GNV_TEXT_JSON, &text) == GNV_OK);
    CHECK(strstr(gnv_text_data(text), expected.sha256.c_str()) != nullptr);
    gnv_text_destroy(text);

    const ScratchFolder folder;
    const std::string tokens = folder / "tokens.json";
    REQUIRE(gnv_dataset_save_tokens(dataset, tokens.c_str()) == GNV_OK);
    CHECK(gnv_dataset_save_tokens(dataset, tokens.c_str()) == GNV_ALREADY_EXISTS);
    gnv_dataset_destroy(dataset);

    gnv_dataset_options from_tokens;
    gnv_dataset_options_init(&from_tokens);
    from_tokens.tokens_file = tokens.c_str();
    REQUIRE(gnv_dataset_open(engine, tokenizer, &from_tokens, &dataset) == GNV_OK);
    CHECK(gnv_dataset_size(dataset) == 3);
    gnv_dataset_destroy(dataset);

    options.text_template = "vicuna";
    CHECK(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_INVALID_ARGUMENT);
    CHECK_FALSE(dataset);
    CHECK(strstr(gnv_last_error(engine), "vicuna") != nullptr);
    CHECK(gnv_dataset_open(engine, nullptr, &options, &dataset) == GNV_INVALID_ARGUMENT);
    gnv_dataset_destroy(nullptr);
    gnv_tokenizer_destroy(tokenizer);
    gnv_engine_destroy(engine);
}

TEST_CASE("rows that are left out and documents that are cut are logged, by reason") {
    std::string log;
    gnv_engine_options engine_options;
    gnv_engine_options_init(&engine_options);
    engine_options.user = &log;
    engine_options.log = [](void * user, gnv_log_level level, const char * message) {
        *static_cast<std::string *>(user) += concat(level == GNV_LOG_WARNING ? "warning " : "info ", message, "\n");
    };
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(&engine_options, &engine) == GNV_OK);
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(engine, GNV_TEST_BINARY_DIR "/data/qwen36-tiny", &tokenizer) == GNV_OK);
    const ScratchFolder folder;
    std::string lines;
    for (int i = 0; i < 4; i++) lines += "{\"text\": \"one two three\"}\n{\"text\": \"\"}\n{\"text\": 3}\n";
    const std::string path = folder.save("a.jsonl", lines);
    const char * const sources[] = {path.c_str()};
    gnv_dataset_options options;
    gnv_dataset_options_init(&options);
    options.sources = sources;
    options.source_count = 1;
    options.samples = 4;
    options.sequence_length = 1;
    gnv_dataset_t * dataset = nullptr;
    REQUIRE(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_OK);
    CHECK(log.find(concat("warning ", path, ": left out: 4 rows whose field holds no text, first at ", path, ":3\n")) !=
          std::string::npos);
    CHECK(log.find(concat("warning ", path, ": left out: 4 empty texts, first at ", path, ":2\n")) !=
          std::string::npos);
    CHECK(log.find("warning every document has more than 1 tokens and was cut") != std::string::npos);
    gnv_dataset_destroy(dataset);
    gnv_tokenizer_destroy(tokenizer);
    gnv_engine_destroy(engine);
}

TEST_CASE("reading and encoding stop when a callback asks, and older programs have none") {
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(engine, GNV_TEST_BINARY_DIR "/data/qwen36-tiny", &tokenizer) == GNV_OK);
    struct Seen {
        int calls = 0, answer = 0;
        static int callback(void * user, const gnv_progress * progress) {
            Seen & seen = *static_cast<Seen *>(user);
            CHECK(progress->struct_size == sizeof *progress);
            CHECK(progress->seconds >= 0);
            seen.calls++;
            return seen.answer;
        }
    } seen;
    gnv_dataset_options options;
    gnv_dataset_options_init(&options);
    CHECK(options.ram_bytes == 0);
    CHECK((options.progress == nullptr));
    const std::string path = data_folder + "/dataset/rows.csv";
    const char * const sources[] = {path.c_str()};
    options.sources = sources;
    options.source_count = 1;
    options.progress = Seen::callback;
    options.user = &seen;
    gnv_dataset_t * dataset = nullptr;
    REQUIRE(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_OK);
    gnv_dataset_destroy(dataset);
    CHECK(seen.calls > 0);
    seen = {0, 1};
    CHECK(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_CANCELLED);
    CHECK_FALSE(dataset);
    CHECK(seen.calls == 1);
    seen = {0, 1};
    options.struct_size = offsetof(gnv_dataset_options, ram_bytes);
    options.ram_bytes = 1; // not there for such a program
    REQUIRE(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_OK);
    gnv_dataset_destroy(dataset);
    CHECK(seen.calls == 0);
    options.struct_size = sizeof options;
    seen.answer = 0;
    CHECK(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_OUT_OF_MEMORY);

    std::string text;
    while (text.size() < 8'000'000) text += "some words ";
    size_t count = 0;
    REQUIRE(gnv_tokenizer_set_progress(tokenizer, Seen::callback, &seen) == GNV_OK);
    seen = {0, 1};
    CHECK(gnv_tokenizer_encode(tokenizer, text.data(), text.size(), 0, nullptr, 0, &count) == GNV_CANCELLED);
    CHECK(seen.calls == 1);
    CHECK(gnv_tokenizer_set_progress(nullptr, Seen::callback, &seen) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_tokenizer_set_progress(tokenizer, nullptr, nullptr) == GNV_OK);
    CHECK(gnv_tokenizer_encode(tokenizer, text.data(), text.size(), 0, nullptr, 0, &count) == GNV_OK);
    CHECK(seen.calls == 1);
    gnv_tokenizer_destroy(tokenizer);
    gnv_engine_destroy(engine);
}
