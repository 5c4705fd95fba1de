#include "data/row_sampler.h"
#include "dataset/dataset_fixture.h"
#include "memory_growth.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <zstd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

std::string numbered_lines(int count) {
    std::string lines;
    for (int i = 0; i < count; i++) lines += concat("{\"text\": \"", i, "\"}\n");
    return lines;
}

// The rule of row_sampler.h, written anew: sort all rows by key.
std::vector<uint64_t> smallest_keys(uint64_t seed, uint64_t rows, size_t samples) {
    std::vector<uint64_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](uint64_t a, uint64_t b) { return row_key(seed, a) < row_key(seed, b); });
    order.resize(samples);
    std::sort(order.begin(), order.end());
    return order;
}

} // namespace

TEST_CASE("keys are the outputs of SplitMix64") {
    // The published generator's first outputs for seed 1234567.
    CHECK(row_key(1234567, 0) == 6457827717110365317u);
    CHECK(row_key(1234567, 1) == 3203168211198807973u);
    CHECK(row_key(1234567, 2) == 9817491932198370423u);
    CHECK(row_key(1234567, 3) == 4593380528125082431u);
    CHECK(row_key(1234567, 4) == 16408922859458223821u);
}

TEST_CASE("the rows with the smallest keys are chosen, whatever the number of threads") {
    const ScratchFolder folder;
    const std::string path = folder.save("a.jsonl", numbered_lines(5000));
    for (const uint64_t seed : {42, 43}) {
        CalibrationOptions options = from(path, 40);
        options.seed = seed;
        const CalibrationSet set = build(options, 1).take();
        CHECK(rows_of(set) == smallest_keys(seed, 5000, 40));
        CHECK(set.sha256 == build(options, 3).value().sha256);
        CHECK(set.sources[0].rows == 5000);
        CHECK(set.sources[0].rows_parsed < 500); // expected 40 (1 + ln(5000 / 40)) = 233
        CHECK(starts_with(texts_of(build(options)), concat(rows_of(set)[0], "|")));
    }
}

TEST_CASE("samples are dealt out by weight") {
    const ScratchFolder folder;
    const std::string a = folder.save("a.jsonl", numbered_lines(100)), b = folder.save("b.jsonl", numbered_lines(100));
    const auto counts = [&](const std::vector<std::string> & sources, uint64_t samples) {
        CalibrationOptions options;
        options.sources = sources;
        options.samples = samples;
        const auto set = build(options);
        if (!set.ok()) return set.status().message();
        std::string text;
        for (const CalibrationSourceReport & source : set.value().sources) text += concat(source.rows_chosen, " ");
        return text;
    };
    CHECK(counts({a + "=3", b}, 8) == "6 2 ");
    CHECK(counts({a, b, a}, 8) == "3 3 2 ");
    CHECK(counts({a + "=0.1", b + "=0.2"}, 30) == "10 20 ");
    CHECK(counts({a + "=99", b}, 10).find("leaves it none of the 10 samples") != std::string::npos);
    // The second source has its own stream of keys.
    CalibrationOptions options;
    options.sources = {a, b};
    options.samples = 20;
    const CalibrationSet set = build(options).take();
    const std::vector<uint64_t> rows = rows_of(set);
    CHECK(std::vector(rows.begin(), rows.begin() + 10) == smallest_keys(42, 100, 10));
    CHECK(std::vector(rows.begin() + 10, rows.end()) == smallest_keys(43, 100, 10));
    CHECK(set.sequences.back().documents[0].source == 1);
}

TEST_CASE("packing fills every sequence and marks where documents begin") {
    CalibrationOptions options = from(data_folder + "/calibration.jsonl.zst", 12);
    options.sequence_length = 700;
    options.pack = true;
    const CalibrationSet set = build(options).take();
    REQUIRE(set.sequences.size() == 12);
    CHECK(set.packed);
    CHECK(set.tokens == 12 * 700);
    CalibrationOptions single = options;
    single.pack = false;
    single.samples = 320; // every row, to compare with
    const CalibrationSet whole = build(single).take();
    size_t continued = 0; // tokens of a document that earlier sequences hold
    for (const CalibrationSequence & sequence : set.sequences) {
        CHECK(sequence.ids.size() == 700);
        CHECK(sequence.mask.empty());
        for (size_t i = 0; i < sequence.documents.size(); i++) {
            const CalibrationDocument & document = sequence.documents[i];
            const std::vector<TokenId> & ids = whole.sequences[document.row].ids;
            const size_t end = i + 1 < sequence.documents.size() ? sequence.documents[i + 1].begin : 700;
            const size_t length = end - document.begin;
            REQUIRE(continued + length <= ids.size());
            CHECK(std::equal(ids.begin() + ptrdiff_t(continued), ids.begin() + ptrdiff_t(continued + length),
                             sequence.ids.begin() + document.begin));
            const bool goes_on = end == 700 && continued + length < ids.size();
            CHECK((goes_on || continued + length == ids.size()));
            continued = goes_on ? continued + length : 0;
        }
    }
    // The rows are the shortest prefix of the order of keys that fills the budget.
    std::set<uint64_t> rows;
    for (const uint64_t row : rows_of(set)) rows.insert(row);
    const std::vector<uint64_t> expected = smallest_keys(42, 320, rows.size());
    CHECK(std::vector(rows.begin(), rows.end()) == expected);
}

TEST_CASE("a ragged rest is kept when packing runs out of text") {
    const ScratchFolder folder;
    CalibrationOptions options = from(folder.save("a.jsonl", numbered_lines(10)), 3);
    options.sequence_length = 8;
    options.pack = true;
    const CalibrationSet set = build(options).take();
    CHECK(set.sequences.size() == 2); // ten documents of one token
    CHECK(set.sequences[1].ids.size() == 2);
    REQUIRE(set.warnings.size() == 1);
    CHECK(set.warnings[0].find(": 10 tokens, fewer than the 24 asked for") != std::string::npos);
}

TEST_CASE("what a set counts") {
    const ScratchFolder folder;
    const std::string path = folder.save("a.jsonl", "{\"text\": \"1 2 3\"}\n{\"text\": \"1 2 3\"}\n{\"text\": \"7\"}\n"
                                                    "{\"text\": \"1 2 3 4 5 6 7\"}\n");
    CalibrationOptions options = from(path, 4);
    options.sequence_length = 8;
    options.pad = true;
    const CalibrationSet set = build(options).take();
    CHECK(set.positions == 32);
    CHECK(set.documents == 4);
    CHECK(set.truncated == 1);
    CHECK(set.duplicates == 1);
    CHECK(set.lengths == std::vector<uint64_t>{1, 0, 2, 1}); // 1, 5, 5 and 8 tokens
    CHECK(set.tokens == 19);
    CHECK(set.sequences[2].mask == std::vector<uint8_t>{1, 0, 0, 0, 0, 0, 0, 0});
    CHECK(set.sequences[3].mask.empty());
    CHECK(calibration_text(set).find("13 of 32 positions, 40.6 %") != std::string::npos);
    const JsonDocument json = JsonDocument::parse(calibration_json(set), "summary").take();
    CHECK(json.root().get("pad_share").value().as_double().value() == 13.0 / 32);
    CHECK(json.root().get("sha256").value().as_string().value() == set.sha256);
}

TEST_CASE("requests that make no sense") {
    const auto failure = [](CalibrationOptions options) { return build(options).status().message(); };
    CHECK(failure({}).find("no calibration data") != std::string::npos);
    CalibrationOptions options = from(data_folder + "/dataset/rows.jsonl");
    options.tokens_file = "x";
    CHECK(failure(options).find("both data files and a file of tokens") != std::string::npos);
    options.tokens_file.clear();
    options.pad = options.pack = true;
    CHECK(failure(options).find("exclude each other") != std::string::npos);
    options = from("x");
    options.sequence_length = 0;
    CHECK(failure(options).find("must be at least 1") != std::string::npos);
    options = from("x", uint64_t(1) << 40);
    CHECK(failure(options).find("positions") != std::string::npos);
}

TEST_CASE("memory does not grow with the file") {
    const ScratchFolder folder;
    // 64 MB of lines in 600 kB: 64 times the same frame of 1 MB.
    std::string lines;
    while (lines.size() < 1'000'000)
        lines += concat("{\"text\": \"", std::string(1000, 'x'), " ", lines.size(), "\"}\n");
    std::string frame(ZSTD_compressBound(lines.size()), '\0');
    frame.resize(ZSTD_compress(frame.data(), frame.size(), lines.data(), lines.size(), 3));
    std::string frames;
    for (int i = 0; i < 64; i++) frames += frame;
    const std::string path = folder.save("a.jsonl.zst", frames);
    const Tokenizer & tokenizer = tiny_tokenizer();
    check_memory_growth(24 << 20, [&] { // an encoder takes 4 MB
        const auto pool = ThreadPool::create(1).take();
        const auto set = build_calibration_set(from(path, 64), tokenizer, *pool);
        return set.ok() && set.value().sequences.size() == 64 && set.value().sources[0].rows > 60'000;
    });
}
