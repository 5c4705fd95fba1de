// The tokens that llm-compressor calibrated with, from the same file.
#include "dataset/dataset_fixture.h"

using namespace gnv;
using namespace gnv::test;

static void check_reference(const std::string & golden, const CalibrationOptions & options) {
    const std::string path = data_folder + "/golden/" + golden;
    const auto expected = read_tokens_file(path, tiny_tokenizer()).take();
    const CalibrationSet set = build(options).take();
    REQUIRE(set.sequences.size() == expected.size());
    for (size_t i = 0; i < expected.size(); i++) {
        CAPTURE(i);
        CHECK(set.sequences[i].ids == expected[i].ids);
        CHECK(set.sequences[i].mask == expected[i].mask);
    }
    // And in the same notation, as far as the reference goes.
    const std::string reference = read_file(path, 1 << 20).take(), ours = tokens_file_text(set.sequences, set.sha256);
    CHECK((ours.substr(0, reference.size() - 1) == reference.substr(0, reference.size() - 1)));
}

TEST_CASE("32 records of 256 tokens") {
    CalibrationOptions options = from(data_folder + "/calibration.jsonl.zst", 32);
    options.sequence_length = 256;
    options.shuffle = false;
    check_reference("reference-tokens.json", options);
}

TEST_CASE("16 records padded to 1024 tokens") {
    CalibrationOptions options = from(data_folder + "/calibration.jsonl.zst", 16);
    options.sequence_length = 1024;
    options.shuffle = false;
    options.pad = true;
    check_reference("reference-padded-tokens.json", options);
    const CalibrationSet set = build(options).take();
    CHECK(set.positions == 16 * 1024);
    CHECK(set.truncated == 3);
    CHECK(set.sources[0].rows == 16); // reading stopped there
}

TEST_CASE("the same rows in every format give the same tokens file") {
    for (const bool shuffle : {false, true}) {
        CalibrationOptions options = from(data_folder + "/dataset/rows.jsonl", 9);
        options.sequence_length = 512;
        options.shuffle = shuffle;
        const CalibrationSet expected = build(options).take();
        REQUIRE(expected.sequences.size() == 9);
        for (const char * name : {"rows.jsonl.zst", "rows.csv", "rows.json", "rows.parquet"}) {
            CAPTURE(name);
            options.sources = {data_folder + "/dataset/" + name};
            const CalibrationSet set = build(options).take();
            CHECK(
                (tokens_file_text(set.sequences, set.sha256) == tokens_file_text(expected.sequences, expected.sha256)));
            CHECK(set.sources[0].rows == expected.sources[0].rows);
        }
    }
}
