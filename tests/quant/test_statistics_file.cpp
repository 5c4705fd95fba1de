// Statistics files: damage, the version before checksums, and counts that cannot be added.
#include "quant/calibration_statistics.h"
#include "scratch.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

constexpr int64_t most = INT64_MAX;

// Tokens of both experts of a layer.
int64_t * counts_of(Statistics & statistics, int32_t layer) {
    const int32_t input = statistics.totals.names()->choices();
    return statistics.totals.insert({Part::text, layer, input, &Statistic::tokens}, {2}).as<int64_t>();
}

Statistics small_statistics(int64_t tokens_of_expert = 30) {
    Statistics statistics;
    statistics.model_fingerprint = "m";
    statistics.data_sha256 = "d";
    statistics.sequences = 3, statistics.positions = 40, statistics.tokens = 38;
    statistics.data = {"{\"seed\":42}"};
    const ModelNames * const names = find_names_with_input("mixer_input");
    statistics.totals.set_names(names);
    statistics.totals.set_layers(2);
    for (int32_t layer = 0; layer < 2; layer++) {
        const int32_t input = names->find_input("mixer_input");
        *statistics.totals.insert({Part::text, layer, input, &Statistic::maximum}, {1}).as<float>() = 12.5f;
        int64_t * const counts = counts_of(statistics, layer);
        counts[0] = 8, counts[1] = tokens_of_expert;
    }
    return statistics;
}

struct Read {
    Code code;
    std::string message, warning;
};

Read read_text(const ScratchFolder & scratch, const std::string & text) {
    const std::string path = scratch.save("statistics.json", text);
    Read out;
    const Result<Statistics> read = read_statistics(path, out.warning);
    out.code = read.status().code();
    out.message = read.status().message();
    REQUIRE(remove_file(path).ok());
    return out;
}

} // namespace

TEST_CASE("what is written is read; one turned bit anywhere is refused") {
    const ScratchFolder scratch;
    const std::string text = statistics_json(small_statistics()).take();
    const Read good = read_text(scratch, text);
    CHECK(good.code == Code::ok);
    CHECK(good.warning.empty());
    for (size_t i = 0; i < text.size(); i += 3) { // test_sealed_json turns every bit
        std::string turned = text;
        turned[i] = char(turned[i] ^ 1 << i % 8);
        const Read read = read_text(scratch, turned);
        CAPTURE(i);
        REQUIRE(read.code == Code::format);
        REQUIRE(read.message.find("statistics.json: ") != std::string::npos);
        REQUIRE(read.warning.empty());
    }
}

TEST_CASE("a file of the version before checksums is read with a warning, one that lost them is not") {
    const ScratchFolder scratch;
    const std::string text = statistics_json(small_statistics()).take();
    std::string bare = text.substr(0, text.rfind(",\n  \"checksums\"")) + "\n}\n";
    CHECK(read_text(scratch, bare).code == Code::format);
    CHECK(read_text(scratch, bare).message.find("\"checksums\" are missing") != std::string::npos);
    bare.replace(bare.find("statistics.2"), 12, "statistics.1");
    const Read earlier = read_text(scratch, bare);
    CHECK(earlier.code == Code::ok);
    CHECK(earlier.warning.find("statistics.json was written by an earlier version and has no checksums") !=
          std::string::npos);
}

TEST_CASE("counts that are too large to be added are refused with layer and expert") {
    Statistics sum = small_statistics(), other = small_statistics();
    counts_of(other, 1)[0] = 8, counts_of(other, 1)[1] = most - 29;
    const Status status = merge_statistics(sum, other);
    CHECK(status.code() == Code::format);
    CHECK(status.message().find("layer 1: expert 1: tokens_per_expert: 30 and 9223372036854775778") == 0);

    const auto merged = [](uint64_t Statistics::*count, uint64_t value) {
        Statistics a = small_statistics(), b = small_statistics();
        b.*count = value;
        return merge_statistics(a, b);
    };
    for (const auto count : {&Statistics::sequences, &Statistics::positions, &Statistics::tokens}) {
        CHECK(merged(count, uint64_t(most)).code() == Code::format);
        CHECK(merged(count, uint64_t(most) - 40).ok());
    }
    // The largest sum that there can be is one that the file of it can hold.
    Statistics largest = small_statistics(most - 30);
    CHECK(merge_statistics(largest, small_statistics()).ok());
    CHECK(largest.totals.tokens_per_expert(0)[0] == 16);
    CHECK(largest.totals.tokens_per_expert(0)[1] == most);
    const ScratchFolder scratch;
    CHECK(read_text(scratch, statistics_json(largest).take()).code == Code::ok);
}
