// Parquet files made to take time and memory.
#include "budget_message.h"
#include "dataset/dataset_fixture.h"
#include "memory_growth.h"

#include <zstd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

// Thrift's compact protocol, as far as Parquet's footers and page headers need it.
class Thrift {
  public:
    Thrift & varint(uint64_t value) {
        for (; value >= 0x80; value >>= 7) bytes += char(value | 0x80);
        bytes += char(value);
        return *this;
    }
    Thrift & zigzag(int64_t value) { return varint(uint64_t(value) << 1 ^ uint64_t(value >> 63)); }
    Thrift & field(int id, int type) {
        bytes += char(type);
        return zigzag(id);
    }
    Thrift & number(int id, int64_t value) { return field(id, 6).zigzag(value); } // i64, which readers take for i32
    Thrift & text(int id, const std::string & value) {
        field(id, 8).varint(value.size());
        bytes += value;
        return *this;
    }
    Thrift & structure(int id, const Thrift & inner) {
        field(id, 12);
        bytes += inner.bytes + '\0';
        return *this;
    }
    Thrift & list(int id, const std::vector<Thrift> & items) {
        field(id, 9);
        bytes += char(0xfc);
        varint(items.size());
        for (const Thrift & item : items) bytes += item.bytes + '\0';
        return *this;
    }
    std::string bytes;
};

enum Codec { none = 0, zstd = 6 };

Thrift group(const std::string & name, int64_t children) { return Thrift().text(4, name).number(5, children); }
Thrift optional_text(const std::string & name) { return Thrift().number(1, 6).number(3, 1).text(4, name); }

std::string u32(size_t value) {
    std::string out;
    for (int i = 0; i < 4; i++) out += char(value >> 8 * i & 0xff);
    return out;
}

// A data page, PLAIN, of `entries` that are all there or all null.
std::string page(Codec codec, uint64_t entries, bool null, const std::vector<std::string> & values) {
    const std::string levels = Thrift().varint(entries << 1).bytes + char(!null); // one run
    std::string body = u32(levels.size()) + levels;
    for (const std::string & value : values) body += u32(value.size()) + value;
    std::string stored = body;
    if (codec == zstd) {
        stored.resize(ZSTD_compressBound(body.size()));
        stored.resize(ZSTD_compress(stored.data(), stored.size(), body.data(), body.size(), 1));
    }
    const Thrift data = Thrift().number(1, int64_t(entries)).number(2, 0).number(3, 3).number(4, 3);
    const Thrift header = Thrift().number(1, 0).number(2, int64_t(body.size())).number(3, int64_t(stored.size()));
    return Thrift(header).structure(5, data).bytes + '\0' + stored;
}

std::string file_of(const std::vector<Thrift> & schema, int64_t rows, const std::vector<Thrift> & row_groups,
                    const std::string & pages) {
    const std::string footer = Thrift().number(1, 1).list(2, schema).number(3, rows).list(4, row_groups).bytes + '\0';
    return "PAR1" + pages + footer + u32(footer.size()) + "PAR1";
}

// A file of the column "text".
std::string text_file(Codec codec, uint64_t rows, const std::string & pages) {
    const Thrift meta =
        Thrift().number(4, codec).number(5, int64_t(rows)).number(7, int64_t(pages.size())).number(9, 4);
    const Thrift chunk = Thrift().structure(3, meta);
    const Thrift row_group = Thrift().list(1, {chunk}).number(3, int64_t(rows));
    return file_of({group("schema", 1), optional_text("text")}, int64_t(rows), {row_group}, pages);
}

Result<CalibrationSet> build_within(const std::string & path, uint64_t ram_bytes, int threads) {
    CalibrationOptions options = from(path, 24);
    options.sequence_length = 64;
    options.ram_bytes = ram_bytes;
    return build(options, threads);
}

} // namespace

TEST_CASE("pages and rows of Parquet stay within the budget") {
    const ScratchFolder folder;
    std::string text, pages;
    while (text.size() < 3'000'000) text += "a row of words, ";
    for (int i = 0; i < 6; i++) pages += page(zstd, 2, false, {text, text + std::to_string(i)});
    const std::string path = folder.save("a.parquet", text_file(zstd, 12, pages));
    constexpr uint64_t slack = 24'000'000;
    uint64_t budget = 20'000'000;
    for (int refusals = 0;; refusals++) { // a page first, then a row beside it
        const Status refused = build_within(path, budget, 4).take_status();
        if (refused.ok()) break;
        REQUIRE(refusals < 4);
        REQUIRE_MESSAGE(refused.code() == Code::out_of_memory, refused.message());
        CHECK(refused.message().find(path) == 0);
        REQUIRE(smallest_budget(refused.message()) > budget);
        budget = smallest_budget(refused.message());
    }
    CHECK(budget < 200'000'000);
    check_memory_growth(budget + slack, [&] { return build_within(path, budget, 16).ok(); });
    CHECK(build_within(path, budget, 16).value().sha256 == build_within(path, 0, 1).value().sha256);
    CHECK(build_within(path, budget, 16).value().documents == 12);
}

TEST_CASE("nulls without end") {
    const ScratchFolder folder;
    const std::string nulls = page(none, 30'000'000, true, {});
    if (!sanitized) { // where five millions take a minute
        const std::string path = folder.save("a.parquet", text_file(none, 30'000'000, nulls));
        const Status status = build_within(path, 0, 1).take_status();
        CHECK(status.code() == Code::format);
        CHECK(status.message().find("none of 5,000,000 rows in a row can be used, for one because of empty texts") !=
              std::string::npos);
    }
    const Status more =
        build_within(folder.save("b.parquet", text_file(none, uint64_t(1) << 40, nulls)), 0, 1).take_status();
    CHECK(more.code() == Code::unsupported);
    CHECK(more.message().find("1099511627776 rows; at most 2147483648 are read of one file") != std::string::npos);
    const std::string dictionary =
        Thrift(Thrift().number(1, 2).number(2, 0).number(3, 0)).structure(7, Thrift().number(1, 0).number(2, 0)).bytes +
        '\0';
    const Status twice =
        build_within(
            folder.save("c.parquet", text_file(none, 1, dictionary + dictionary + page(none, 1, false, {"a"}))), 0, 1)
            .take_status();
    CHECK(twice.message().find("a second dictionary at byte ") != std::string::npos);
}

TEST_CASE("names that every column repeats") {
    const ScratchFolder folder;
    std::vector<Thrift> schema = {group("schema", 1), group(std::string(100'000, 'n'), 10'000)};
    std::vector<Thrift> chunks;
    for (int i = 0; i < 10'000; i++) schema.push_back(optional_text("c"));
    const std::string path = folder.save("a.parquet", file_of(schema, 0, {}, ""));
    check_memory_growth(50'000'000, [&] { return !build_within(path, 0, 1).ok(); });
    const Status status = build_within(path, 0, 1).take_status();
    CHECK_MESSAGE(status.message().find("a column's name has 100000 bytes") != std::string::npos, status.message());
}
