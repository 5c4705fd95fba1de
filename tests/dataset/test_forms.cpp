// Data as the hub has it: the usual forms of rows, compressions, folders with more than data in them.
#include "dataset/dataset_fixture.h"

#include <zlib.h>

using namespace gnv;
using namespace gnv::test;

namespace {

std::string gzip(const std::string & content) {
    z_stream stream = {};
    REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string out(deflateBound(&stream, uLong(content.size())) + 32, '\0');
    stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(content.data()));
    stream.avail_in = uInt(content.size());
    stream.next_out = reinterpret_cast<Bytef *>(out.data());
    stream.avail_out = uInt(out.size());
    REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

std::string in_order(const std::string & source, const std::function<void(CalibrationOptions &)> & change = nullptr) {
    CalibrationOptions options = from(source);
    options.shuffle = false;
    if (change) change(options);
    return texts_of(build(options));
}

const std::string asked = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>\n|";

} // namespace

TEST_CASE("questions and answers under the names that data sets give them") {
    const ScratchFolder folder;
    const char * const rows[] = {
        R"({"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]})",
        R"({"conversations": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]})",
        R"({"prompt": "Why?", "completion": "So."})",
        R"({"prompt": "Why?", "response": "So."})",
        R"({"input": "Why?", "output": "So."})",
        R"({"problem": "Why?", "solution": "So."})",
        R"({"prompt": "Why?", "chosen": "So.", "rejected": "No."})",
        R"({"prompt": "Why?", "chosen": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]})",
        R"({"chosen": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], "rejected": []})",
        R"({"prompt": [{"role": "user", "content": "Why?"}], "completion": [{"role": "assistant", "content": "So."}]})",
    };
    for (const char * const row : rows) CHECK_MESSAGE(in_order(folder.save("a.jsonl", row)) == asked, row);
    // A system turn stays what it is, other parts of a message are passed over, no content is an empty one.
    CHECK(in_order(folder.save("a.jsonl", R"({"conversations": [{"from": "system", "value": "S"}, {"from": "human",
        "value": "U"}]})")) != "");
    CHECK(in_order(folder.save("a.jsonl",
                               R"({"messages": [{"role": "user", "content": [{"type": "image", "image": "x"},)"
                               R"( {"type": "text", "text": "Why?"}]}, {"role": "assistant", "tool_calls": []}]})")) ==
          "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n|");
    CHECK(in_order(folder.save("a.jsonl", R"({"chosen": "\n\nHuman: Why?\n\nAssistant: So.", "rejected": "x"})")) ==
          "\n\nHuman: Why?\n\nAssistant: So.|");
    // Another template than the automatic one.
    CHECK(in_order(folder.save("a.jsonl", rows[2]), [](auto & options) {
              options.form = TextForm::alpaca;
          }).find("### Instruction:\nWhy?\n\n### Response:\nSo.") != std::string::npos);
    CHECK(in_order(folder.save("a.jsonl", rows[0]), [](auto & options) { options.form = TextForm::none; }) ==
          "Why?\nSo.|");
}

TEST_CASE("JSON lines under .json, an object of one row, an array, an object with an array") {
    const ScratchFolder folder;
    CHECK(in_order(folder.save("a.json", "{\"text\": \"a\"}\n{\"text\": \"b [}\\\" \"}\n")) == "a|b [}\" |");
    CHECK(in_order(folder.save("a.json", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n"
                                         "{\"messages\": [{\"role\": \"user\", \"content\": \"b\"}]}\n")) ==
          "<|im_start|>user\na<|im_end|>\n|<|im_start|>user\nb<|im_end|>\n|");
    CHECK(in_order(folder.save("a.json", "{\"text\": \"a\"}")) == "a|");
    CHECK(in_order(folder.save("a.json", "[{\"text\": \"a\"}]")) == "a|");
    CHECK(in_order(folder.save("a.json", "{\"n\": 1, \"data\": [{\"text\": \"a\"}]}")) == "a|");
    CHECK(in_order(folder.save("a.json", "[\"one\", \"two\"]")) == "one|two|");
}

TEST_CASE("gzip and zstd of each text form") {
    const ScratchFolder folder;
    const std::pair<const char *, const char *> files[] = {
        {"a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n"},
        {"c4-train.00000-of-01024.json", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n"},
        {"a.csv", "text\na\nb\n"},
        {"a.tsv", "n\ttext\n1\ta\n2\tb\n"},
        {"a.json", "[{\"text\": \"a\"}, {\"text\": \"b\"}]"}};
    for (const auto & [name, content] : files) {
        CHECK_MESSAGE(in_order(folder.save(name, content)) == "a|b|", name);
        CHECK_MESSAGE(in_order(folder.save(concat(name, ".gz"), gzip(content))) == "a|b|", name);
    }
    CHECK(in_order(folder.save("a.txt.gz", gzip("hello"))) == "hello|");
    CHECK(in_order(folder.save("A.TXT.GZ", gzip("hello"))) == "hello|");
    // Several members, padding of zeros behind the last; a file that is cut or damaged.
    const std::string one = gzip("{\"text\": \"a\"}\n"), two = gzip("{\"text\": \"b\"}\n");
    CHECK(in_order(folder.save("m.jsonl.gz", one + two + std::string(100, '\0'))) == "a|b|");
    CHECK(in_order(folder.save("m.jsonl.gz", one + two.substr(0, two.size() - 3))).find("ends inside a frame") !=
          std::string::npos);
    std::string damaged = one;
    damaged[14] ^= 0x55;
    CHECK(in_order(folder.save("m.jsonl.gz", damaged)).find("gzip: ") != std::string::npos);
    CHECK(in_order(folder.save("m.jsonl.gz", "no gzip")).find("gzip: ") != std::string::npos);
    // Large: more than one piece in and out.
    std::string many;
    for (int i = 0; i < 60'000; i++) many += "{\"text\": \"row " + std::to_string(i) + "\"}\n";
    CalibrationOptions options = from(folder.save("many.jsonl.gz", gzip(many)), 2);
    CHECK(build(options).value().sources[0].rows == 60'000);
}

TEST_CASE("chats in Parquet: lists of structures, structures of lists, fields of the same names deeper in a message") {
    const auto turns = [](const char * n) {
        return concat("<|im_start|>user\nq", n, "<|im_end|>\n<|im_start|>assistant\na", n, "<|im_end|>\n|");
    };
    for (const char * const name : {"chat-columns", "chat-deeper", "chat-fixed"})
        CHECK_MESSAGE(in_order(data_folder + "/parquet/" + name + ".parquet") == turns("0") + turns("1"), name);
}

TEST_CASE("files that say something about the data are not data") {
    const ScratchFolder folder;
    REQUIRE(make_directory(folder / "d").ok());
    folder.save("d/dataset_info.json", "{\"features\": [1]}");
    folder.save("d/state.json", "{\"_data_files\": [{\"filename\": \"x\"}]}");
    folder.save("d/LICENSE.txt", "all rights");
    folder.save("d/train.jsonl", "{\"text\": \"a\"}\n");
    CHECK(in_order(folder / "d") == "a|");
}

TEST_CASE("fields that are joined") {
    const ScratchFolder folder;
    const std::string path =
        folder.save("a.jsonl", "{\"problem\": \"P\", \"answer\": \"A\", \"x+y\": \"xy\", \"none\": null}\n");
    CHECK(in_order(path + ":problem+answer") == "P\nA|");
    CHECK(in_order(path + ":problem+none+answer") == "P\nA|");
    CHECK(in_order(path + ":x+y") == "xy|");
    CHECK(in_order(path + ":problem+absent").find("there is no field problem+absent") != std::string::npos);
}

TEST_CASE("long documents: their beginning, or all of them in chunks") {
    const ScratchFolder folder;
    std::string words;
    for (int i = 0; i < 25; i++) words += " the";
    const std::string path = folder.save("a.jsonl", "{\"text\": \"" + words + "\"}\n{\"text\": \"a\"}\n");
    const auto lengths = [&](bool chunk, uint64_t samples, bool pad = false) {
        CalibrationOptions options = from(path, samples);
        options.shuffle = false;
        options.sequence_length = 10;
        options.chunk = chunk;
        options.pad = pad;
        const CalibrationSet set = build(options).take();
        std::string out;
        for (const CalibrationSequence & sequence : set.sequences)
            out += concat(sequence.ids.size(), "@", sequence.documents[0].row, " ");
        return out + concat("cut ", set.truncated, " of ", set.documents, ", ", set.tokens, " tokens");
    };
    CHECK(lengths(false, 8) == "10@0 1@1 cut 1 of 2, 11 tokens");
    CHECK(lengths(true, 8) == "10@0 10@0 5@0 1@1 cut 0 of 4, 26 tokens");
    CHECK(lengths(true, 2) == "10@0 10@0 cut 1 of 2, 20 tokens");
    CHECK(lengths(true, 0) == "10@0 10@0 5@0 1@1 cut 0 of 4, 26 tokens");
    CHECK(lengths(true, 8, true) == "10@0 10@0 10@0 10@1 cut 0 of 4, 26 tokens");
    // Every document cut: worth a word.
    CalibrationOptions options = from(path, 1);
    options.shuffle = false;
    options.sequence_length = 10;
    CHECK(build(options).value().warnings == std::vector<std::string>{"every document has more than 10 tokens and was "
                                                                      "cut: what follows its beginning is never seen"});
}

TEST_CASE("trees of turns become conversations") {
    const ScratchFolder folder;
    const auto row = [](const char * id, const char * parent, const char * text, const char * role) {
        return concat("{\"message_id\": \"", id, "\", \"parent_id\": ", *parent ? concat("\"", parent, "\"") : "null",
                      ", \"text\": \"", text, "\", \"role\": \"", role, "\"}\n");
    };
    const std::string path =
        folder.save("a.jsonl", row("1", "", "Why?", "prompter") + row("2", "1", "So.", "assistant") +
                                   row("3", "1", "No.", "assistant") + row("4", "", "Who?", "prompter") +
                                   row("5", "2", "Ah!", "prompter") + row("6", "9", "Lost", "assistant"));
    CHECK(in_order("oasst1@" + path) == asked.substr(0, asked.size() - 1) +
                                            "<|im_start|>user\nAh!<|im_end|>\n|<|im_start|>user\nWho?<|im_end|>\n|" +
                                            "<|im_start|>assistant\nLost<|im_end|>\n|");
    // Rows of another kind are single turns, as before.
    CHECK(in_order("oasst1@" + folder.save("b.jsonl", "{\"text\": \"Why?\", \"role\": \"prompter\"}\n")) ==
          "<|im_start|>user\nWhy?<|im_end|>\n|");
}
