// Arrow's streams and files, as pyarrow writes them, and folders that `datasets` saved.
#include "data/arrow/arrow.h"
#include "dataset/dataset_fixture.h"
#include "output/tree.h"

#include <cstring>

using namespace gnv;
using namespace gnv::test;

namespace {

const std::string samples = data_folder + "/arrow";

std::string content_of(const std::string & name) { return read_file(samples + "/" + name, 1 << 20).take(); }

// A value in the notation of expected.json, which pyarrow read.
std::string shown(const ArrowValue & value) {
    if (value.is_null) return "null";
    if (value.field->kind == ArrowField::Kind::text) return "'" + value.text + "'";
    std::string out;
    for (const ArrowValue & item : value.items) out += shown(item) + ",";
    return "[" + out + "]";
}

std::string shown(const JsonValue & value) {
    if (value.is_null()) return "null";
    if (value.is_string()) return concat("'", value.as_string().value(), "'");
    std::string out;
    if (value.is_object()) {
        for (const char * const key : {"role", "content"}) out += shown(value.get(key).value()) + ",";
    } else {
        (void)value
            .for_each_element([&](size_t, const JsonValue & item) {
                out += shown(item) + ",";
                return Status();
            })
            .ok();
    }
    return "[" + out + "]";
}

std::vector<std::string> expected(const char * column) {
    const JsonDocument document = JsonDocument::read(samples + "/expected.json", 1 << 20).take();
    std::vector<std::string> out;
    (void)document.root()
        .get(column)
        .value()
        .for_each_element([&](size_t, const JsonValue & value) {
            out.push_back(shown(value));
            return Status();
        })
        .ok();
    return out;
}

size_t field_of(const ArrowRows & rows, const char * name) {
    for (size_t i = 0; i < rows.fields().size(); i++)
        if (rows.fields()[i].name == name) return i;
    FAIL("no field " << name);
    return 0;
}

// The status at the end of reading all rows and readable columns.
Status read_all(const std::string & path, const ReadControl & control = {}) {
    GNV_ASSIGN(ArrowRows rows, ArrowRows::open(path, control));
    for (;;) {
        GNV_ASSIGN(const bool found, rows.next());
        if (!found) return {};
        for (size_t i = 0; i < rows.fields().size(); i++) {
            ArrowValue value;
            if (rows.fields()[i].kind != ArrowField::Kind::other) GNV_TRY(rows.read(i, value));
        }
    }
}

std::string in_order(const std::string & source) {
    CalibrationOptions options = from(source);
    options.shuffle = false;
    return texts_of(build(options));
}

} // namespace

TEST_CASE("every form of Arrow's IPC gives the rows that pyarrow reads") {
    for (const char * const name : {"stream.arrow", "old.arrow", "file.arrow", "lz4.arrow", "zstd.arrow", "large.arrow",
                                    "views.arrow", "binary.arrow"}) {
        CAPTURE(name);
        for (const int step : {1, 7}) { // all rows, and with others skipped
            ArrowRows rows = ArrowRows::open(samples + "/" + name).take();
            for (const char * const column : {"text", "tag", "messages"}) (void)field_of(rows, column);
            const std::vector<std::string> texts = expected("text"), tags = expected("tag"),
                                           chats = expected("messages");
            for (size_t row = 0; row < texts.size(); row++) {
                REQUIRE(rows.next().value());
                REQUIRE(rows.row() == row);
                if (row % size_t(step)) continue;
                CAPTURE(row);
                ArrowValue text, tag, chat;
                REQUIRE(rows.read(field_of(rows, "text"), text).ok());
                REQUIRE(rows.read(field_of(rows, "tag"), tag).ok());
                REQUIRE(rows.read(field_of(rows, "messages"), chat).ok());
                REQUIRE(shown(text) == texts[row]);
                REQUIRE(shown(tag) == tags[row]);
                REQUIRE(shown(chat) == chats[row]);
            }
            CHECK_FALSE(rows.next().value());
        }
    }
}

TEST_CASE("dictionaries that are continued or replaced") {
    for (const char * const name : {"deltas.arrow", "replaced.arrow"})
        CHECK_MESSAGE(in_order(samples + "/" + name) == "a|b|c|a|x|", name);
}

TEST_CASE("chats in Arrow files") {
    const auto turns = [](const char * n) {
        return concat("<|im_start|>user\nq", n, "<|im_end|>\n<|im_start|>assistant\na", n, "<|im_end|>\n|");
    };
    CHECK(in_order(samples + "/pairs.arrow") == turns("0") + turns("2"));
    CHECK(in_order(samples + "/columns.arrow") == turns("0") + turns("1"));
    CHECK(in_order(samples + "/parts.arrow") == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n|");
}

TEST_CASE("a folder that save_to_disk wrote: the files that its state names") {
    const ScratchFolder folder;
    CHECK(in_order(samples + "/saved:text") == "row 0|row 1|row 2|row 3|row 4|row 5|");
    CHECK(in_order(samples + "/saved/train:text") == "row 0|row 1|row 2|row 3|row 4|row 5|");
    const std::string state = content_of("saved/train/state.json");
    const std::string shard = content_of("saved/train/data-00000-of-00002.arrow");
    folder.save("state.json", state);
    folder.save("data-00000-of-00002.arrow", shard);
    CHECK(in_order(folder / "").find("data-00001-of-00002.arrow: is missing, state.json names it") !=
          std::string::npos);
    folder.save("state.json", R"({"_data_files": [{"filename": "../data.arrow"}]})");
    CHECK(in_order(folder / "").find("is no file of this folder") != std::string::npos);
    folder.save("state.json", R"({"_data_files": [], "_indices_data_files": [{"filename": "indices.arrow"}]})");
    CHECK(in_order(folder / "").find("flatten_indices()") != std::string::npos);
    folder.save("state.json", R"({"step": 3})"); // of another program
    CHECK(in_order(folder.path() + ":text") == "row 0|row 1|row 2|");
    folder.save("cache-0123456789abcdef.arrow", shard); // as in the cache of `datasets`, where no state names the files
    CHECK(in_order(folder.path() + ":text") == "row 0|row 1|row 2|");
    CHECK(in_order(folder / "data-00000-of-00002.arrow:text") == "row 0|row 1|row 2|");
}

TEST_CASE("damaged Arrow files are refused with the file and the byte") {
    const ScratchFolder folder;
    const auto failure = [&](const std::string & content) { return read_all(folder.save("a.arrow", content)); };
    for (const char * const name : {"stream.arrow", "file.arrow", "zstd.arrow", "lz4.arrow"}) {
        const std::string sound = content_of(name);
        CAPTURE(name);
        REQUIRE(failure(sound).ok());
        // Cut anywhere but between two messages of a stream, which is a sound stream for every reader.
        for (size_t bytes = 0; bytes < sound.size() - 8; bytes += 37) {
            const Status status = failure(sound.substr(0, bytes));
            if (status.ok()) continue;
            CHECK(starts_with(status.message(), folder / "a.arrow: "));
        }
        CHECK(failure(sound.substr(0, sound.size() / 2)).message().find("cut, copy or download it again") !=
              std::string::npos);
        // One byte changed: read, or refused.
        for (size_t at = 0; at < sound.size(); at += 5) {
            std::string damaged = sound;
            damaged[at] = char(damaged[at] ^ 0xff);
            const Status status = failure(damaged);
            if (!status.ok()) CHECK(starts_with(status.message(), folder / "a.arrow: "));
        }
    }
    CHECK(failure("").message().find("0 bytes are no Arrow file") != std::string::npos);
    CHECK(failure("{\"text\": \"no Arrow\"}").message().find("byte 0: no message of Arrow") != std::string::npos);
    CHECK(failure("FEA1    ").code() == Code::unsupported);
}

TEST_CASE("Arrow: memory is charged before it is taken") {
    const ScratchFolder folder;
    for (const char * const name : {"stream.arrow", "zstd.arrow", "views.arrow"}) {
        bool refused = false, read = false;
        for (uint64_t budget = 1 << 10; budget < 64 << 20; budget *= 2) {
            const ReadControl control(budget, {});
            const Status status = read_all(samples + "/" + name, control);
            CHECK(control.most_used() <= budget);
            CHECK(control.left() == budget);
            (status.ok() ? read : refused) = true;
            if (!status.ok()) CHECK(status.code() == Code::out_of_memory);
        }
        CHECK(refused);
        CHECK(read);
    }
}
