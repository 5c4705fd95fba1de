#include "data/files/byte_stream.h"
#include "data/files/csv.h"
#include "data/files/json_stream.h"
#include "data/files/line_reader.h"
#include "memory_growth.h"
#include "scratch.h"

#include <doctest/doctest.h>
#include <zstd.h>

using namespace gnv;
using gnv::test::ScratchFolder;

namespace {

std::string compressed(const std::string & text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
}

// Everything that a reader gives, joined by "|", or its failure.
std::string lines_of(const std::string & path, uint64_t limit = max_record_bytes) {
    auto reader = LineReader::open(path, limit).take();
    std::string out;
    std::string_view line;
    for (;;) {
        const auto found = reader.next(line);
        if (!found.ok()) return found.status().message();
        if (!found.value()) return out;
        out += std::string(line) + "|";
    }
}

std::string elements_of(const std::string & path, uint64_t limit = max_record_bytes) {
    auto reader = JsonArrayReader::open(path, limit).take();
    std::string out;
    std::string_view element;
    for (;;) {
        const auto found = reader.next(element);
        if (!found.ok()) return found.status().message();
        if (!found.value()) return out;
        out += concat(reader.line(), ":", element, "|");
    }
}

std::string csv_of(const std::string & path, uint64_t limit = max_record_bytes) {
    auto opened = CsvReader::open(path, limit);
    if (!opened.ok()) return opened.status().message();
    CsvReader reader = opened.take();
    std::string out;
    std::vector<std::string> fields;
    for (;;) {
        const auto found = reader.next(fields);
        if (!found.ok()) return found.status().message();
        if (!found.value()) return out;
        out += concat(reader.line(), ":");
        for (const std::string & field : fields) out += "<" + field + ">";
    }
}

} // namespace

TEST_CASE("lines end as they like, and may be cut anywhere by the stream") {
    const ScratchFolder folder;
    CHECK(lines_of(folder.save("a", "\xef\xbb\xbf"
                                    "one\r\ntwo\n\nthree")) == "one|two||three|");
    CHECK(lines_of(folder.save("a", "")) == "");
    CHECK(lines_of(folder.save("a", "\n")) == "|");
    std::string text, expected;
    for (size_t length = 0; text.size() < 2'000'000; length = length * 3 % 70'001 + 1) {
        text += std::string(length, char('a' + length % 26)) + "\n";
        expected += std::string(length, char('a' + length % 26)) + "|";
    }
    CHECK((lines_of(folder.save("long", text)) == expected)); // not to be printed
    CHECK((lines_of(folder.save("long.zst", compressed(text))) == expected));
}

TEST_CASE("a line above the limit is refused with its number") {
    const ScratchFolder folder;
    const std::string path = folder.save("a.jsonl", "short\n" + std::string(1000, 'x') + "\nshort\n");
    CHECK(lines_of(path, 999) == path + ":2: the line is longer than 999 B; this reader expects one record a line");
    CHECK(starts_with(lines_of(path, 1000), "short|x"));
}

TEST_CASE("a line of 1 GB does not take 1 GB of memory") {
    const ScratchFolder folder;
    std::string frames;
    const std::string frame = compressed(std::string(1 << 20, 'x'));
    for (int i = 0; i < 1024; i++) frames += frame;
    const std::string path = folder.save("a.jsonl.zst", frames);
    // The limit twice over, since a string grows by doubling, and some room for the stream.
    test::check_memory_growth(200 << 20, [&] {
        auto reader = LineReader::open(path).take();
        std::string_view line;
        return reader.next(line).status().code() == Code::format;
    });
}

TEST_CASE("zstd: frames one after another, cut, damaged, too wide") {
    const ScratchFolder folder;
    const std::string frame = compressed("one\ntw"), next = compressed("o\n");
    const std::string skippable("\x50\x2a\x4d\x18\x03\0\0\0abc", 11);
    CHECK(lines_of(folder.save("a.zst", frame + skippable + next)) == "one|two|");
    const std::string path = folder.save("a.zst", frame + next.substr(0, next.size() - 1));
    CHECK(lines_of(path) ==
          concat(path, ": compressed byte ", frame.size() + next.size() - 1,
                 ": zstd: the file ends inside a frame; if it was damaged or cut, copy or download it again"));
    CHECK(lines_of(folder.save("a.zst", frame + "garbage!")).find("zstd: Unknown frame descriptor") !=
          std::string::npos);
    std::string wide(1 << 10, '\0');
    ZSTD_CCtx * const context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 30);
    ZSTD_inBuffer in{"abc", 3, 0};
    ZSTD_outBuffer out{wide.data(), wide.size(), 0};
    ZSTD_compressStream2(context, &out, &in,
                         ZSTD_e_flush); // the size stays unknown, so the window is announced in full
    ZSTD_freeCCtx(context);
    CHECK(lines_of(folder.save("a.zst", wide.substr(0, out.pos))).find("too much memory") != std::string::npos);
}

TEST_CASE("JSON arrays are cut into their elements") {
    const ScratchFolder folder;
    CHECK(elements_of(folder.save("a", "\xef\xbb\xbf [ {\"a\": \"]},\\\"\"} ,\n[1, 2], \"x\",3\n]\n")) ==
          "1:{\"a\": \"]},\\\"\"}|2:[1, 2]|2:\"x\"|2:3|");
    CHECK(elements_of(folder.save("a", "[]")) == "");
    CHECK(
        elements_of(folder.save("a", "{\"v\": {\"x\": [1]}, \"n\": null,\n\"rows\": [{\"a\": 1}\n, {}], \"w\": 2}")) ==
        "2:{\"a\": 1}|3:{}|");
    const std::string path = folder / "a";
    const auto failure = [&](const std::string & text) { return elements_of(folder.save("a", text)); };
    const std::string at = path + ":1: not valid JSON: expected ",
                      remedy =
                          "; mend the file, or copy it again if it was cut; a file of one record a line must be named "
                          ".jsonl";
    CHECK(failure("") == at + "\"[\" or \"{\", the file ends" + remedy);
    CHECK(failure("[1 2]") == at + "\",\" or \"]\", found '2'" + remedy);
    CHECK(failure("[1,]") == at + "a record, found ']'" + remedy);
    CHECK(failure("[,1]") == at + "a value, found ','" + remedy);
    CHECK(failure("[{\"a\": 1}") == at + "\",\" or \"]\", the file ends" + remedy);
    CHECK(failure("[{\"a\": 1") == at + "the end of a record, the file ends" + remedy);
    CHECK(failure("[\"a") == at + "the end of a string, the file ends" + remedy);
    CHECK(failure("{\"a\" 1}") == at + "\":\", found '1'" + remedy);
    CHECK(failure("{\"a\": 1 \"b\"}") == at + "\",\" or \"}\", found '\"'" + remedy);
    CHECK(failure("{1: 2}") == at + "the name of a member, found '1'" + remedy);
    CHECK(failure("{\"a\": [1], \"b\": [2]}").find("a second array, \"b\"") != std::string::npos);
    CHECK(failure("{\"a\": 1}\n{\"a\": 2}").find("must be named .jsonl") != std::string::npos);
    CHECK(failure("[1]\n\n[2]") ==
          path + ":3: more content after the end of the JSON document; a file of one record a line "
                 "must be named .jsonl");
    CHECK(elements_of(folder.save("a", "[1,\n\"abcd\"]"), 5) ==
          path + ":2: the record is longer than 5 B; split the record, or leave it out");
}

TEST_CASE("CSV after RFC 4180") {
    const ScratchFolder folder;
    CHECK(csv_of(folder.save("a", "\xef\xbb\xbf"
                                  "a,b\r\n1,2\r\n\r\n\"x,\"\"y\"\"\nz\",\n,\"\"")) == "2:<1><2>4:<x,\"y\"\nz><>6:<><>");
    CHECK(csv_of(folder.save("a", "a\nlast")) == "2:<last>");
    CHECK(csv_of(folder.save("a", "a\n1\r2\n")) == "2:<1\r2>"); // a carriage return inside a line is text
    CHECK(csv_of(folder.save("a", "a\n")) == "");
    const std::string path = folder / "a";
    const auto failure = [&](const std::string & text) { return csv_of(folder.save("a", text)); };
    CHECK(failure("") == path + ": the file is empty; a CSV file starts with a line of field names");
    CHECK(failure("a,b,a\n") == path + ":1: the field name \"a\" occurs twice; give one of them another name");
    CHECK(failure("a,b\n1\n") == path + ":2: 1 fields; the header has 2");
    CHECK(failure("a,b\n1,2,3\n") == path + ":2: more than the 2 fields of the header");
    CHECK(failure("a\n\"x\ny\n") ==
          path + ":2: a quote of this record is never closed; close it, and double the quotes inside a quoted field");
    CHECK(failure("a\n\"x\"y\n") ==
          path + ":2: text between a closing quote and the next comma; double the quotes inside a quoted field");
    CHECK(starts_with(failure("a\nx\"y\n"), path + ":2: a quote inside an unquoted field"));
    CHECK(csv_of(folder.save("a", "a,b\n12,345\n"), 70) == "2:<12><345>");
    CHECK(csv_of(folder.save("a", "a\n" + std::string(100, 'x')), 70) ==
          path + ":2: the record is longer than 70 B; split the record, or leave it out");
}
