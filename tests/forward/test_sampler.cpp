// Choosing tokens: against distributions that can be written down, and edge cases of each option.
#include "core/utf8.h"
#include "scratch.h"
#include "session/generation_config.h"
#include "session/sampler.h"
#include "tokenizer/text_stream.h"

#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <map>

using namespace gnv;
using namespace gnv::test;

namespace {

constexpr int draws = 100'000;
constexpr float infinity = std::numeric_limits<float>::infinity();

// How often each id is drawn.
std::map<int32_t, int> count_draws(const std::vector<float> & logits, const SamplerOptions & options,
                                   std::vector<uint8_t> allowed = {}) {
    if (allowed.empty()) allowed.assign(logits.size(), 1);
    Sampler sampler(options, allowed);
    std::map<int32_t, int> counts;
    for (int i = 0; i < draws; i++) counts[sampler.pick(logits).take()]++;
    return counts;
}

// Every id with its probability, and no other; within five standard deviations.
void check_distribution(const std::map<int32_t, int> & counts, const std::map<int32_t, double> & expected) {
    CHECK(counts.size() == expected.size());
    for (const auto & [id, probability] : expected) {
        CAPTURE(id);
        REQUIRE(counts.count(id) == 1);
        const double deviation = std::sqrt(draws * probability * (1 - probability));
        CHECK(std::abs(counts.at(id) - draws * probability) <= 5 * deviation);
    }
}

// Probabilities 0.1, 0.4, 0.2, 0.3.
const std::vector<float> four = {0.0f, std::log(4.0f), std::log(2.0f), std::log(3.0f)};

int32_t pick_one(const std::vector<float> & logits, const SamplerOptions & options, std::vector<uint8_t> allowed = {}) {
    if (allowed.empty()) allowed.assign(logits.size(), 1);
    return Sampler(options, allowed).pick(logits).take();
}

} // namespace

TEST_CASE("SplitMix64: the published first numbers of seed 0") {
    SplitMix64 random(0);
    CHECK(random.next() == 0xe220a8397b1dcdafu);
    CHECK(random.next() == 0x6e789e6aa1b965f4u);
    CHECK(random.next() == 0x06c45d188009454fu);
    SplitMix64 again(0);
    CHECK(again.next_unit() == double(0xe220a8397b1dcdafu >> 11) / 9007199254740992.0);
}

TEST_CASE("draws follow the softmax") {
    check_distribution(count_draws(four, {1, 0, 1, 1}), {{0, 0.1}, {1, 0.4}, {2, 0.2}, {3, 0.3}});
    // Half the temperature squares the weights: 1, 16, 4, 9 of 30.
    check_distribution(count_draws(four, {0.5, 0, 1, 2}), {{0, 1 / 30.}, {1, 16 / 30.}, {2, 4 / 30.}, {3, 9 / 30.}});
    // Far from zero, and far apart.
    check_distribution(count_draws({5000.0f, 5000.0f, -5000.0f}, {1, 0, 1, 3}), {{0, 0.5}, {1, 0.5}});
    check_distribution(count_draws({1, 1, -infinity}, {1, 0, 1, 4}), {{0, 0.5}, {1, 0.5}});
}

TEST_CASE("top_k, then top_p of what is left") {
    check_distribution(count_draws(four, {1, 2, 1, 1}), {{1, 4 / 7.}, {3, 3 / 7.}});
    check_distribution(count_draws(four, {1, 1, 1, 1}), {{1, 1.0}});
    check_distribution(count_draws(four, {1, 100, 1, 1}), {{0, 0.1}, {1, 0.4}, {2, 0.2}, {3, 0.3}});
    // 0.4, then 0.7: the second reaches 0.65. Of the first three (4/9, 3/9, 2/9) the second reaches 0.75, too.
    check_distribution(count_draws(four, {1, 0, 0.65, 1}), {{1, 4 / 7.}, {3, 3 / 7.}});
    check_distribution(count_draws(four, {1, 3, 0.75, 1}), {{1, 4 / 7.}, {3, 3 / 7.}});
    check_distribution(count_draws(four, {1, 0, 0.75, 1}), {{1, 4 / 9.}, {3, 3 / 9.}, {2, 2 / 9.}});
    check_distribution(count_draws(four, {1, 0, 1e-6, 1}), {{1, 1.0}}); // at least one stays
    // The temperature comes first: at 0.5 the largest alone has 16 / 30.
    check_distribution(count_draws(four, {0.5, 0, 0.5, 1}), {{1, 1.0}});
}

TEST_CASE("ties: the lower id first") {
    const std::vector<float> tied = {1, 3, 3, 3, 2};
    CHECK(pick_one(tied, {}) == 1);
    check_distribution(count_draws(tied, {1, 2, 1, 1}), {{1, 0.5}, {2, 0.5}});
    check_distribution(count_draws(tied, {1, 1, 1, 1}), {{1, 1.0}});
    CHECK(pick_one({-0.0f, 0.0f}, {}) == 0);
}

TEST_CASE("ids that are not allowed never come, whatever their logits") {
    CHECK(pick_one({9, 1, 2}, {}, {0, 1, 1}) == 2);
    check_distribution(count_draws({9, 1, 1, infinity}, {1, 2, 1, 1}, {0, 1, 1, 0}), {{1, 0.5}, {2, 0.5}});
    CHECK(pick_one({NAN, 1}, {}, {0, 1}) == 1);
}

TEST_CASE("the same seed draws the same, another one something else") {
    const auto sequence = [](uint64_t seed) {
        const std::vector<uint8_t> allowed(four.size(), 1);
        Sampler sampler({1, 0, 1, seed}, allowed);
        std::vector<int32_t> ids;
        for (int i = 0; i < 64; i++) ids.push_back(sampler.pick(four).take());
        return ids;
    };
    CHECK(sequence(7) == sequence(7));
    CHECK(sequence(7) != sequence(8));
    CHECK(sequence(0) != sequence(uint64_t(-1)));
}

TEST_CASE("nothing to choose from, and options that make no sense") {
    const std::vector<uint8_t> two = {1, 1}, none = {0, 0};
    CHECK(Sampler({}, two).pick(std::vector<float>{1, NAN}).status().code() == Code::bad_value);
    CHECK(Sampler({}, two).pick(std::vector<float>{1, infinity}).status().code() == Code::bad_value);
    CHECK(Sampler({1}, two).pick(std::vector<float>{-infinity, -infinity}).status().code() == Code::bad_value);
    CHECK(Sampler({1}, none).pick(std::vector<float>{1, 2}).status().code() == Code::bad_value);
    CHECK(check_sampler_options({}).ok());
    for (const SamplerOptions & wrong :
         {SamplerOptions{-1}, SamplerOptions{NAN}, SamplerOptions{infinity}, SamplerOptions{1, -1},
          SamplerOptions{1, 0, 0}, SamplerOptions{1, 0, 1.01}, SamplerOptions{1, 0, NAN}})
        CHECK(check_sampler_options(wrong).code() == Code::invalid_argument);
}

TEST_CASE("generation_config.json") {
    const ScratchFolder folder;
    CHECK(read_generation_config(folder.path()).take().do_sample == false); // there is none
    const auto read = [&](const std::string & text) {
        folder.save("generation_config.json", text);
        return read_generation_config(folder.path());
    };
    GenerationConfig config =
        read(R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [7, 5], "x": {}})")
            .take();
    CHECK(config.do_sample);
    CHECK(config.temperature == 0.6);
    CHECK(config.top_k == 20);
    CHECK(config.top_p == 0.95);
    CHECK(config.stop_ids == std::vector<int32_t>{7, 5});
    config = read(R"({"eos_token_id": 9, "top_k": null})").take();
    CHECK(config.stop_ids == std::vector<int32_t>{9});
    CHECK(config.top_k == 50); // as the Transformers library
    CHECK(config.temperature == 1);
    const auto refused = [&](const std::string & text, const std::string & part) {
        const Status status = read(text).take_status();
        CHECK(status.code() == Code::format);
        CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.message());
    };
    refused("[]", "expected an object");
    refused(R"({"do_sample": 1})", "do_sample");
    refused(R"({"temperature": -1})", "temperature of -1");
    refused(R"({"top_p": 2})", "top_p of 2");
    refused(R"({"eos_token_id": [1, -5]})", "-5 is no token id");
    refused(R"({"eos_token_id": "a"})", "eos_token_id");
}

TEST_CASE("text that arrives in pieces is the text of the whole, each piece complete") {
    const std::string bytes = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z\xf0\x9f\x98" // the last one is cut off
                              "b\xff\xe2\x28\xa1\xed\xa0\x80\xc3";
    for (size_t step = 1; step <= 4; step++) {
        TextStream stream;
        std::string all;
        for (size_t at = 0; at < bytes.size(); at += step) {
            const std::string piece = stream.push(std::string_view(bytes).substr(at, step));
            CHECK(utf8_valid_prefix(piece) == piece.size());
            all += piece;
        }
        CHECK(all + stream.finish() == utf8_lossy(bytes));
        CHECK(stream.finish().empty());
    }
    TextStream stream;
    CHECK(stream.push("\xf0\x9f\x98").empty());
    CHECK(stream.push("\x80") == "\xf0\x9f\x98\x80");
}
