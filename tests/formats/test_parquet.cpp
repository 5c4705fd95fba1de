#include "data/parquet/parquet.h"
#include "data/parquet/parquet_codecs.h"
#include "formats/json.h"
#include "scratch.h"

#include <cstring>
#include <doctest/doctest.h>
#include <lz4.h>

using namespace gnv;
using gnv::test::ScratchFolder;

namespace {

const std::string samples = GNV_TEST_DATA "/parquet";

uint32_t column_of(const ParquetFile & file, const std::string & name) {
    for (uint32_t i = 0; i < file.columns.size(); i++)
        if (file.columns[i].name() == name) return i;
    FAIL("no column " << name);
    return 0;
}

// The rows of the samples as pyarrow reads them.
struct Expected {
    std::vector<std::optional<std::string>> text, tag;
    std::vector<std::vector<std::optional<std::string>>> roles, contents;
};

std::optional<std::string> string_or_null(const JsonValue & value) {
    if (value.is_null()) return std::nullopt;
    return std::string(value.as_string().value());
}

Expected read_expected() {
    const JsonDocument document = JsonDocument::read(samples + "/expected.json", 1 << 20).take();
    Expected expected;
    const auto visit = [&](const char * key, const auto & append) {
        (void)document.root()
            .get(key)
            .value()
            .for_each_element([&](size_t, const JsonValue & value) {
                append(value);
                return Status();
            })
            .ok();
    };
    visit("text", [&](const JsonValue & value) { expected.text.push_back(string_or_null(value)); });
    visit("tag", [&](const JsonValue & value) { expected.tag.push_back(string_or_null(value)); });
    visit("messages", [&](const JsonValue & list) {
        auto & roles = expected.roles.emplace_back();
        auto & contents = expected.contents.emplace_back();
        if (list.is_null()) return;
        (void)list
            .for_each_element([&](size_t, const JsonValue & message) {
                roles.push_back(string_or_null(message.get("role").value()));
                contents.push_back(string_or_null(message.get("content").value()));
                return Status();
            })
            .ok();
    });
    return expected;
}

// Reads every row whose number `wanted` accepts and compares it.
template <class Wanted>
void check_rows(const std::string & path, const Expected & expected, const Wanted & wanted) {
    CAPTURE(path);
    ParquetFile file = ParquetFile::open(path).take();
    const std::vector<uint32_t> columns = {column_of(file, "text"), column_of(file, "tag"),
                                           column_of(file, "messages.list.element.role"),
                                           column_of(file, "messages.list.element.content")};
    REQUIRE(file.rows == expected.text.size());
    ParquetRows rows = ParquetRows::open(std::move(file), columns).take();
    std::vector<ParquetCell> cells;
    for (size_t row = 0; row < expected.text.size(); row++) {
        REQUIRE(rows.next());
        REQUIRE(rows.row() == row);
        if (!wanted(row)) continue;
        CAPTURE(row);
        const Status status = rows.read(cells);
        REQUIRE_MESSAGE(status.ok(), status.message());
        REQUIRE(cells[0].entries == std::vector{expected.text[row]});
        REQUIRE(cells[1].entries == std::vector{expected.tag[row]});
        REQUIRE(cells[2].entries == expected.roles[row]);
        REQUIRE(cells[3].entries == expected.contents[row]);
    }
    CHECK_FALSE(rows.next());
}

// The failure of reading all text columns.
std::string failure_of(const std::string & path) {
    auto opened = ParquetFile::open(path);
    if (!opened.ok()) return opened.status().message();
    std::vector<uint32_t> columns;
    for (uint32_t i = 0; i < opened.value().columns.size(); i++)
        if (opened.value().columns[i].is_readable_text()) columns.push_back(i);
    ParquetRows rows = ParquetRows::open(opened.take(), columns).take();
    std::vector<ParquetCell> cells;
    while (rows.next()) {
        const Status status = rows.read(cells);
        if (!status.ok()) return status.message();
    }
    return "";
}

} // namespace

TEST_CASE("codecs, page versions, dictionaries, nulls, lists: the rows that pyarrow wrote") {
    const Expected expected = read_expected();
    REQUIRE(expected.text.size() == 300);
    const std::vector<DirectoryEntry> entries = list_directory(samples).take();
    for (const DirectoryEntry & entry : entries) {
        const bool full = entry.name.find("-v") != std::string::npos || entry.name == "format-1.0.parquet";
        if (!full) continue;
        const std::string path = join_path(samples, entry.name);
        check_rows(path, expected, [](size_t) { return true; });
        // Rows in between are skipped: single ones, whole pages, whole row groups.
        check_rows(path, expected, [](size_t row) { return row % 3 == 1; });
        check_rows(path, expected, [](size_t row) { return row % 71 == 70; });
        check_rows(path, expected, [](size_t row) { return row == 299; });
    }
}

TEST_CASE("an old writer's chunks are longer than they say") {
    Expected expected = read_expected();
    expected.text.resize(20), expected.tag.resize(20), expected.roles.resize(20), expected.contents.resize(20);
    const std::string path = samples + "/old-writer.parquet";
    check_rows(path, expected, [](size_t) { return true; });
    check_rows(path, expected, [](size_t row) { return row == 19; });
    // The same from another writer is damage.
    std::string content = read_file(path, 1 << 20).take();
    content.replace(content.rfind("parquet-mr version 1.2.8"), 24, "parquet-mr version 1.2.9");
    const ScratchFolder folder;
    CHECK(failure_of(folder.save("a.parquet", content)) != "");
}

TEST_CASE("what is not supported is named, with the way out") {
    std::string content;
    const Status lzo = decompress_page(ParquetCodec::lzo, "x", 1, content);
    CHECK(lzo.code() == Code::unsupported);
    CHECK(lzo.message().find("compressed with LZO, which this reader does not know: rewrite the file") !=
          std::string::npos);
    ParquetFile deep = ParquetFile::open(samples + "/deep.parquet").take();
    CHECK(ParquetRows::open(std::move(deep), {0}).status().message() ==
          samples +
              "/deep.parquet: column text.list.element.list.element.list.element holds BYTE_ARRAY in lists inside "
              "lists inside lists: this reader takes strings (BYTE_ARRAY), lists of them, and lists inside lists; "
              "write the "
              "rows as JSON lines");
    ParquetFile numbers = ParquetFile::open(samples + "/none-v1-plain.parquet").take();
    CHECK(ParquetRows::open(std::move(numbers), {0}).status().message().find("column id holds INT64: this reader") !=
          std::string::npos);
    CHECK(failure_of(samples + "/empty.parquet") == "");
}

TEST_CASE("lists inside lists: entries with the ends of the inner lists, as pyarrow has the rows") {
    using Entries = std::vector<std::optional<std::string>>;
    const struct {
        Entries entries;
        std::vector<uint32_t> ends;
    } rows_of_file[] = {
        {{"a"}, {1, 1}}, {{}, {}}, {{}, {}}, {{std::nullopt, "b", "c"}, {0, 2, 2, 3}}, {{}, {0}},
    };
    ParquetRows rows = ParquetRows::open(ParquetFile::open(samples + "/nested.parquet").take(), {0}).take();
    for (const auto & expected : rows_of_file) {
        std::vector<ParquetCell> cells;
        REQUIRE(rows.next());
        REQUIRE(rows.read(cells).ok());
        CHECK((cells[0].entries == expected.entries));
        CHECK(cells[0].ends == expected.ends);
    }
    CHECK_FALSE(rows.next());
}

TEST_CASE("every compression and every encoding of strings, checksums looked at") {
    const Expected all = read_expected();
    Expected few = all;
    few.text.resize(20), few.tag.resize(20), few.roles.resize(20), few.contents.resize(20);
    for (const char * name : {"gzip", "brotli", "lz4_raw", "delta"})
        check_rows(concat(samples, "/", name, ".parquet"), few, [](size_t) { return true; });
    for (const char * name : {"deltas-v1", "deltas-v2"})
        for (const size_t every : {1, 7, 100})
            check_rows(concat(samples, "/", name, ".parquet"), all, [every](size_t row) { return row % every == 0; });
}

TEST_CASE("LZ4 as Hadoop frames it, in several blocks, and without frames") {
    const std::string text = std::string(100, 'a') + "bcd" + std::string(50, 'e');
    const auto block = [](const std::string & content) {
        std::string out(size_t(LZ4_compressBound(int(content.size()))), '\0');
        out.resize(size_t(LZ4_compress_default(content.data(), out.data(), int(content.size()), int(out.size()))));
        return out;
    };
    const auto framed = [&](const std::string & content) {
        const std::string compressed = block(content);
        std::string out;
        for (const size_t size : {content.size(), compressed.size()})
            for (int shift = 24; shift >= 0; shift -= 8) out += char(size >> shift & 0xff);
        return out + compressed;
    };
    for (const std::string & stored :
         {framed(text), framed(text.substr(0, 70)) + framed(text.substr(70)), block(text)}) {
        std::string out = "x";
        CHECK(decompress_page(ParquetCodec::lz4, stored, text.size(), out).ok());
        CHECK(out == "x" + text);
        CHECK(decompress_page(ParquetCodec::lz4, stored.substr(1), text.size(), out).code() == Code::format);
        CHECK(decompress_page(ParquetCodec::lz4, stored, text.size() + 1, out).code() == Code::format);
    }
}

TEST_CASE("a page whose checksum does not fit is damage, whatever its content") {
    const ScratchFolder folder;
    std::string bytes = read_file(samples + "/deltas-v1.parquet", 1 << 20).take();
    size_t found = 0;
    for (size_t at = 200; at < 4000; at += 397) { // in the first pages
        std::string damaged = bytes;
        damaged[at] = char(damaged[at] ^ 0x10);
        found += failure_of(folder.save("a.parquet", damaged)).find("the checksum does not fit") != std::string::npos;
    }
    CHECK(found >= 4);
}

TEST_CASE("damaged files") {
    const ScratchFolder folder;
    const std::string good = read_file(samples + "/snappy-v1-dictionary.parquet", 1 << 20).take();
    const auto failure = [&](const std::string & content) { return failure_of(folder.save("a.parquet", content)); };
    CHECK(failure("") != "");
    CHECK(failure(good.substr(0, good.size() - 1)).find("does not end with \"PAR1\"; if it was damaged or cut, copy") !=
          std::string::npos);
    CHECK(failure(good.substr(good.size() / 2)) != ""); // the front is missing
    std::string huge_footer = good;
    memcpy(&huge_footer[huge_footer.size() - 8], "\xff\xff\xff\x7f", 4);
    CHECK(failure(huge_footer).find("a footer of 2147483647 bytes") != std::string::npos);
    // Any changed byte gives other text or a failure, never more.
    for (size_t at = 0; at < good.size(); at += 29) {
        std::string changed = good;
        changed[at] = char(changed[at] ^ (1 << at % 8));
        failure(changed);
    }
}
