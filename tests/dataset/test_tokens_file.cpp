#include "dataset/dataset_fixture.h"

using namespace gnv;
using namespace gnv::test;

TEST_CASE("what is written is read back, packed and padded sets too") {
    const ScratchFolder folder;
    for (const bool pack : {false, true}) {
        CalibrationOptions options = from(data_folder + "/dataset/rows.jsonl", 5);
        options.sequence_length = 400;
        options.pack = pack;
        options.pad = !pack;
        const CalibrationSet set = build(options).take();
        CalibrationOptions again;
        again.tokens_file = folder.save("t.json", tokens_file_text(set.sequences, set.sha256));
        const CalibrationSet read = build(again).take();
        REQUIRE(read.sequences.size() == set.sequences.size());
        CHECK(read.sha256 == set.sha256);
        CHECK(read.tokens == set.tokens);
        CHECK(read.lengths == set.lengths);
        for (size_t i = 0; i < set.sequences.size(); i++) {
            CHECK(read.sequences[i].ids == set.sequences[i].ids);
            CHECK(read.sequences[i].mask == set.sequences[i].mask);
            REQUIRE(read.sequences[i].documents.size() == set.sequences[i].documents.size());
            for (size_t d = 0; d < set.sequences[i].documents.size(); d++) {
                CHECK(read.sequences[i].documents[d].begin == set.sequences[i].documents[d].begin);
                CHECK(read.sequences[i].documents[d].row == set.sequences[i].documents[d].row);
            }
        }
    }
}

TEST_CASE("the hash is the documented one") {
    // python3: hashlib.sha256(struct.pack("<I2IIIBB", 2, 7, 8, 1, 0, 1, 0)).hexdigest()
    CHECK(hash_sequences({{{7, 8}, {1, 0}, {{0, 0, 0}}}}) ==
          "673006148a33610f38c044d3c9c4324269e9790b030f1578550fa896f9c48548");
    CHECK(hash_sequences({{{7, 8}, {1, 1}, {{0, 5, 6}}}}) == hash_sequences({{{7, 8}, {}, {{0, 0, 0}}}}));
}

TEST_CASE("files that are not as they should be") {
    const ScratchFolder folder;
    const std::string path = folder / "t.json";
    const auto failure = [&](const std::string & content) {
        return read_tokens_file(folder.save("t.json", content), tiny_tokenizer()).status().message();
    };
    CHECK(failure(R"({"input_ids": [[1, 2], [3]]})") == "");
    CHECK(
        failure(
            R"({"input_ids": [[1, 2], [3]], "attention_mask": [[1, 0], [1]], "documents": [[[0, 0, 4]], [[0, 1, 9]]]})") ==
        "");
    CHECK(failure("{}") == path + ": has no \"input_ids\"; expected {\"input_ids\": [[ID, ..], ..]}");
    CHECK(failure(R"({"input_ids": []})") == path + ": input_ids: no sequences; expected [[ID, ..], ..]");
    CHECK(failure(R"({"input_ids": [[]]})") == path + ": input_ids[0]: an empty sequence; leave it out");
    CHECK(failure(R"({"input_ids": [[1], [2, 5000]]})") ==
          path + ": input_ids[1][1]: 5000 is no token of this tokenizer, whose ids end at 4079; make the file with "
                 "this model's tokenizer");
    CHECK(failure(R"({"input_ids": [[-1]]})").find("-1 is no token") != std::string::npos);
    CHECK(failure(R"({"input_ids": [["1"]]})") == path + ": input_ids[0][0]: expected an integer, found a string");
    CHECK(failure(R"({"input_ids": [[1]], "attention_mask": []})") ==
          path + ": attention_mask: 0 lists for 1 sequences of input_ids; give one for each");
    CHECK(failure(R"({"input_ids": [[1, 2]], "attention_mask": [[1]]})") ==
          path + ": attention_mask[0]: a mask of 1 for 2 ids; a mask has a 1 for each id that counts and a 0 for each "
                 "other");
    CHECK(failure(R"({"input_ids": [[1, 2]], "attention_mask": [[1, 2]]})") ==
          path + ": attention_mask[0][1]: 2 in a mask of 0 and 1; a mask has a 1 for each id that counts and a 0 for "
                 "each other");
    CHECK(failure(R"({"input_ids": [[1, 2]], "attention_mask": [[0, 0]]})") ==
          path + ": attention_mask[0]: a mask without a 1; leave the sequence out");
    for (const char * documents :
         {"[]", "[[1, 0, 0]]", "[[0, 0, 0], [0, 0, 1]]", "[[0, 0, 0], [2, 0, 1]]", "[[0, 0]]", "[[0, 0, -1]]"}) {
        CAPTURE(documents);
        CHECK(starts_with(failure(concat("{\"input_ids\": [[1, 2]], \"documents\": [", documents, "]}")),
                          path + ": documents[0]"));
    }
    CHECK(failure(R"({"input_ids": [[1]], "sha256": "00"})").find("not the hash of this content") != std::string::npos);
    CHECK(failure("[[1]]") != "");
    CHECK(failure(R"({"input_ids": [[1])").find("not valid JSON") != std::string::npos);
}
