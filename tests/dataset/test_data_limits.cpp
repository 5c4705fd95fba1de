// Data files made to take time and memory: what they hold is far more than their size.
#include "budget_message.h"
#include "dataset/zstd_lines.h"
#include "memory_growth.h"

#include <atomic>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

constexpr uint64_t mb = 1'000'000;
constexpr uint64_t slack = 24 * mb; // stacks, allocators' reserves, the pages of programs

std::string words(size_t bytes) {
    std::string text;
    for (uint32_t i = 0; text.size() < bytes; i++) text += i % 7 == 3 ? "calibration " : i % 3 ? "of data " : "rows, ";
    text.resize(bytes);
    return text;
}

std::string text_row(const std::string & text) { return "{\"text\": \"" + text + "\"}\n"; }

Result<CalibrationSet> build_within(const std::string & path, uint64_t ram_bytes, int threads = 4,
                                    uint64_t samples = 24) {
    CalibrationOptions options = from(path, samples);
    options.sequence_length = 64;
    options.ram_bytes = ram_bytes;
    return build(options, threads);
}

// Reading keeps to the least budget that refusals name, and gives the same rows and ids as with a large one. A refusal
// knows what was read so far: a window first, then a record.
void check_least_budget(const std::string & path, uint64_t too_small) {
    CAPTURE(path);
    uint64_t least = too_small;
    for (int refusals = 0;; refusals++) {
        const Status refused = build_within(path, least).take_status();
        if (refused.ok()) break;
        REQUIRE(refusals < 3);
        REQUIRE_MESSAGE(refused.code() == Code::out_of_memory, refused.message());
        CHECK(refused.message().find(path) == 0);
        const uint64_t named = smallest_budget(refused.message());
        REQUIRE(named > least);
        least = named;
    }
    CHECK(least > too_small);
    check_memory_growth(least + slack, [&] { return build_within(path, least).ok(); });
    const Result<CalibrationSet> large = build_within(path, 8000 * mb, 1), small = build_within(path, least, 8);
    REQUIRE_MESSAGE(large.ok(), large.status().message());
    REQUIRE_MESSAGE(small.ok(), small.status().message());
    CHECK(small.value().sha256 == large.value().sha256);
    CHECK(rows_of(small.value()) == rows_of(large.value()));
    CHECK(small.value().reading_bytes <= least);
}

} // namespace

TEST_CASE("rows of many megabytes stay within the budget, whatever the number of threads") {
    const ScratchFolder folder;
    const std::string text = words(3'000'000);
    for (const char * name : {"a.jsonl.zst", "b.json.zst", "c.csv.zst", "d.txt.zst"}) {
        const std::string ending = name;
        const bool is_json = ending[0] == 'b';
        const std::string row = ending[0] == 'c' ? "\"" + text + "\"\n" : ending[0] == 'd' ? text : text_row(text);
        const std::string before = is_json ? "[" : ending[0] == 'c' ? "text\n" : "";
        const std::string path = save_zstd(folder, name, row + (is_json ? "," : ""), ending[0] == 'd' ? 1 : 6, before,
                                           is_json ? "{\"text\": \"last\"}]" : "");
        check_least_budget(path, 50 * mb);
    }
}

TEST_CASE("many rows, each within the budget") {
    const ScratchFolder folder;
    const std::string path = save_zstd(folder, "a.jsonl.zst", text_row(words(200'000)), 150);
    check_memory_growth(60 * mb + slack, [&] {
        const auto set = build_within(path, 60 * mb, 16, 150);
        return set.ok() && set.value().sequences.size() == 150 && set.value().reading_bytes <= 60 * mb;
    });
    CHECK(build_within(path, 60 * mb, 16, 150).value().sha256 == build_within(path, 0, 2, 150).value().sha256);
    CHECK(build_within(path, 60 * mb, 1, 7).value().sha256 == build_within(path, 0, 16, 7).value().sha256);
}

TEST_CASE("rows that are held, however short, are charged") {
    const ScratchFolder folder;
    std::string lines;
    for (int i = 0; i < 10'000; i++) lines += "{\"text\": \"a\"}\n";
    const std::string path = save_zstd(folder, "a.jsonl.zst", lines, 30);
    check_memory_growth(40 * mb + slack, [&] {
        return build_within(path, 40 * mb, 2, 10'000'000).status().code() == Code::out_of_memory;
    });
    const auto refused = build_within(path, 40 * mb, 2, 10'000'000);
    CHECK_MESSAGE(refused.status().message().find("the tokens of ") == 0, refused.status().message());
    CHECK(smallest_budget(refused.status().message()) > 40 * mb);
}

TEST_CASE("windows of zstd are charged") {
    const ScratchFolder folder;
    const std::string row = text_row(words(3'500'000));
    int rows = 0;
    const std::string path = save_zstd(
        folder, "a.jsonl.zst", [&] { return rows++ < 12 ? row : std::string(); }, 27);
    check_least_budget(path, 110 * mb);
}

TEST_CASE("a JSON row of many values, a CSV file of many fields") {
    const ScratchFolder folder;
    const auto check_bounded = [&](const std::string & path) {
        CAPTURE(path);
        check_memory_growth(50 * mb + slack, [&] { return !build_within(path, 50 * mb).ok(); });
        const Status status = build_within(path, 50 * mb).take_status();
        CHECK((status.code() == Code::out_of_memory || status.code() == Code::format));
    };
    std::string members;
    for (int i = 0; i < 50'000; i++) members += concat("\"", i, "\":0,");
    check_bounded(folder.save("a.jsonl", "{" + members + "\"text\":\"a\"}\n"));
    check_bounded(save_zstd(folder, "b.jsonl.zst", "[0],", 4'000'000, "{\"messages\":[", "0]}\n"));
    check_bounded(save_zstd(folder, "c.csv.zst", std::string(100'000, ','), 300)); // 30 million fields
}

TEST_CASE("files that go on without data") {
    const ScratchFolder folder;
    const std::string lines = save_zstd(folder, "a.jsonl.zst", std::string(1'000'000, '\n'), 101);
    const std::string spaces = save_zstd(folder, "b.json.zst", std::string(1'000'000, ' '), 101, "[");
    for (const std::string & path : {lines, spaces}) {
        const Status status = build(from(path)).take_status();
        CHECK(status.code() == Code::format);
        CHECK(status.message().find(path + ":") == 0);
        CHECK(status.message().find("nothing but blanks for more than 100 MB") != std::string::npos);
    }
    const std::string rows = save_zstd(folder, "c.csv.zst", std::string(1'000'000, '\n'), 60, "text\none\n", "two\n");
    CHECK(texts_of(build(from(rows))) == "one|two|");
}

TEST_CASE("rows that cannot be used, one after another" *
          doctest::skip(sanitized)) { // where five millions take a minute
    const ScratchFolder folder;
    std::string row = "text,x\n";
    std::string empty;
    for (int i = 0; i < 100'000; i++) empty += " ,\n";
    const std::string path = save_zstd(folder, "a.csv.zst", empty, 51, row);
    const Status status = build(from(path)).take_status();
    CHECK(status.code() == Code::format);
    CHECK(status.message().find(path + ":5000002: none of 5,000,000 rows in a row can be used") == 0);
}

TEST_CASE("a text that has no place to cut it is left out, and another row takes its place") {
    const ScratchFolder folder;
    const std::string long_row = text_row(std::string((1 << 20) + 1, 'q'));
    const std::string path = folder.save("a.jsonl", text_row("one") + long_row + text_row("two") + long_row);
    CalibrationOptions options = from(path, 3);
    options.shuffle = false;
    const Result<CalibrationSet> set = build(options);
    REQUIRE_MESSAGE(set.ok(), set.status().message());
    CHECK(texts_of(set) == "one|two|");
    const FaultCount & fault = set.value().sources[0].faults[size_t(RowFault::long_piece)];
    CHECK(fault.rows == 2);
    CHECK(fault.first == path + ":2");
    const Status none = build(from(folder.save("b.jsonl", long_row))).take_status();
    CHECK(none.message().find("no usable row among 1: 1 texts with a piece above 1 MiB, first at ") !=
          std::string::npos);
    CHECK(build(from(folder.save("c.jsonl", text_row(std::string(1 << 20, 'q')))), 1).ok());
}

TEST_CASE("folders that lead to each other through links") {
    const ScratchFolder folder;
    std::string below = folder / "data";
    REQUIRE(make_directory(below).ok());
    folder.save("data/a.jsonl", text_row("a"));
    for (int level = 0; level < 14; level++) { // eight ways down from each
        const std::string next = folder / concat("level", level);
        REQUIRE(make_directory(next).ok());
        for (int link = 0; link < 8; link++)
            REQUIRE(symlink(below.c_str(), join_path(next, concat(link)).c_str()) == 0);
        below = next;
    }
    const Status status = build(from(below)).take_status();
    CHECK(status.code() == Code::invalid_argument);
    CHECK(status.message().find("folders, or links that lead to the same ones") != std::string::npos);
}

TEST_CASE("reading stops when it is asked to") {
    const ScratchFolder folder;
    const std::string blank = save_zstd(folder, "blank.jsonl.zst", std::string(1'000'000, '\n'), 90);
    const std::string rows = save_zstd(folder, "rows.jsonl.zst", text_row("a b c") + text_row(""), 100'000);
    const std::string fields = save_zstd(folder, "fields.csv.zst", "a,b\n", 1'000'000, "text,x\n");
    const std::string large = save_zstd(folder, "large.jsonl.zst", text_row(words(4'000'000)), 4);
    for (const std::string & path : {blank, rows, fields, large}) {
        for (const bool pack : {false, true}) {
            CAPTURE(path);
            CalibrationOptions options = from(path, 2000);
            options.pack = pack;
            std::atomic<int> calls{0}, later{0};
            options.stop = [&] {
                const int call = calls++;
                later += call > 3;
                return call >= 3;
            };
            const Result<CalibrationSet> set = build(options, 3);
            CHECK(set.status().code() == Code::cancelled);
            CHECK(later <= 3); // one of each thread
        }
    }
    CalibrationOptions tokens;
    tokens.tokens_file = folder.save("t.json", "{\"input_ids\": [[1], [2]]}");
    tokens.stop = [] { return true; };
    CHECK(build(tokens).status().code() == Code::cancelled);
}

TEST_CASE("a tokens file that the budget has no room for") {
    const ScratchFolder folder;
    std::string content = "{\"input_ids\": [[1";
    for (int i = 0; i < 1'000'000; i++) content += ",1";
    CalibrationOptions options;
    options.tokens_file = folder.save("t.json", content + "]]}");
    options.ram_bytes = 10 * mb;
    const Status status = build(options).take_status();
    REQUIRE(status.code() == Code::out_of_memory);
    const uint64_t least = options.ram_bytes = smallest_budget(status.message());
    check_memory_growth(least + slack, [&] { return build(options).ok(); });
}
