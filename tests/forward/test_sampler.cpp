// Choosing tokens: against distributions that can be written down, and edge cases of each option.
#include "core/utf8.h"
#include "formats/file.h"
#include "scratch.h"
#include "session/sampling/generation_config.h"
#include "session/sampling/sampler.h"
#include "session/sampling/stop_text.h"
#include "tokenizer/text_stream.h"

#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

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

namespace {

nlohmann::json recorded(const char * list) {
    return nlohmann::json::parse(read_file(GNV_TEST_DATA "/sampling.json", 1 << 20).take()).at(list);
}

SamplerOptions options_of(const nlohmann::json & recorded, uint64_t seed) {
    SamplerOptions options = {recorded["temperature"], recorded["top_k"], recorded["top_p"], seed};
    options.min_p = recorded["min_p"];
    options.repetition_penalty = recorded["repetition_penalty"];
    options.presence_penalty = recorded["presence_penalty"];
    options.frequency_penalty = recorded["frequency_penalty"];
    for (const auto & [id, bias] : recorded["logit_bias"].items()) options.logit_bias.push_back({std::stoi(id), bias});
    return options;
}

void check_distribution(Sampler & sampler, const std::vector<float> & logits, const nlohmann::json & expected) {
    const std::vector<TokenProbability> found = sampler.distribution(logits).take();
    REQUIRE(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); i++) {
        CHECK(found[i].id == expected[i][0].get<int32_t>());
        CHECK(std::abs(found[i].probability - expected[i][1].get<double>()) < 1e-12);
    }
}

} // namespace

TEST_CASE("recorded probabilities and draws of every option") {
    for (const auto & sample : recorded("sampling")) {
        CAPTURE(sample["name"].get<std::string>());
        const std::vector<float> logits = sample["logits"];
        const std::vector<uint8_t> allowed(logits.size(), 1);
        const SamplerOptions options = options_of(sample["options"], std::stoull(sample["seed"].get<std::string>()));
        REQUIRE(check_sampler_options(options, int64_t(logits.size())).ok());
        Sampler sampler(options, allowed);
        sampler.count_prompt(sample["prompt"].get<std::vector<int32_t>>());
        check_distribution(sampler, logits, sample["first"]);
        for (const int32_t id : sample["chosen"].get<std::vector<int32_t>>()) CHECK(sampler.pick(logits).take() == id);
        check_distribution(sampler, logits, sample["last"]);
    }
}

TEST_CASE("only the plain largest logit is left to a device") {
    const auto takes_largest = [](auto change) {
        SamplerOptions options;
        change(options);
        return Sampler(options, std::vector<uint8_t>(4, 1)).takes_largest();
    };
    CHECK(takes_largest([](SamplerOptions & o) { o.top_k = 3, o.min_p = 0.5, o.top_p = 0.5; }));
    CHECK_FALSE(takes_largest([](SamplerOptions & o) { o.temperature = 1; }));
    CHECK_FALSE(takes_largest([](SamplerOptions & o) { o.repetition_penalty = 1.1; }));
    CHECK_FALSE(takes_largest([](SamplerOptions & o) { o.presence_penalty = -1; }));
    CHECK_FALSE(takes_largest([](SamplerOptions & o) { o.frequency_penalty = 1; }));
    CHECK_FALSE(takes_largest([](SamplerOptions & o) { o.logit_bias = {{1, 2.0}}; }));
}

TEST_CASE("a choice from the largest logits is that from all, or they are not enough") {
    constexpr size_t vocabulary = 3000;
    std::mt19937 random(77);
    std::normal_distribution<float> normal(0, 3);
    std::vector<uint8_t> allowed(vocabulary, 1);
    for (size_t i = 0; i < vocabulary; i += 7) allowed[i] = 0;
    const std::vector<int32_t> prompt = {1, 2, 3, 400, 500};
    struct Case {
        const char * name;
        SamplerOptions options;
        bool may; // pick from the largest
    };
    std::vector<Case> cases = {{"largest", {}, true},
                               {"top_k", {0.8, 20}, true},
                               {"top_k, top_p, min_p", {1.3, 40, 0.9}, true},
                               {"top_k of more than there are", {1, 400}, true},
                               {"min_p", {0.9, 0, 1, 5}, true},
                               {"min_p, top_p", {0.9, 0, 0.9, 5}, false},
                               {"all", {0.8}, false},
                               {"all, top_p", {0.8, 0, 0.9}, false}};
    for (const size_t i : {2, 4, 5}) cases[i].options.min_p = 0.01;
    for (size_t i = 0; i < 2; i++) {
        Case one = cases[i];
        one.options.repetition_penalty = 1.4, one.options.presence_penalty = 1.5, one.options.frequency_penalty = 0.5;
        one.options.logit_bias = {{900, -3}, {1000, -100}};
        cases.push_back(one);
        one.may = false;
        one.options.repetition_penalty = 0.9;
        cases.push_back(one);
        one.options.repetition_penalty = 1, one.options.logit_bias = {{7, 0.5}};
        cases.push_back(one);
        one.options.logit_bias.clear(), one.options.presence_penalty = -0.1;
        cases.push_back(one);
    }
    for (const auto & [name, options, may] : cases) {
        CAPTURE(name);
        Sampler whole(options, allowed), from_some(options, allowed);
        CHECK(whole.may_pick_from_largest() == may);
        whole.count_prompt(prompt), from_some.count_prompt(prompt);
        int enough = 0;
        for (int turn = 0; turn < 200; turn++) {
            std::vector<float> logits(vocabulary);
            for (float & logit : logits) logit = std::round(normal(random) * 16) / 16; // some are equal
            std::vector<float> sorted;
            for (size_t i = 0; i < vocabulary; i++)
                if (allowed[i]) sorted.push_back(logits[i]);
            std::sort(sorted.rbegin(), sorted.rend());
            SomeLogits some;
            for (size_t i = vocabulary; i-- > 0;) // in any order
                if (allowed[i] && logits[i] >= sorted[127])
                    some.ids.push_back(int32_t(i)), some.logits.push_back(logits[i]);
            const bool is_enough = from_some.is_enough(some);
            enough += is_enough;
            if (!is_enough) some = {logits, {}};
            CHECK(from_some.is_enough(some));
            REQUIRE(from_some.pick(some).take() == whole.pick(logits).take());
        }
        CHECK((enough > 0) == (may && options.top_k <= 128));
    }
    // Where penalties lower most of them, the others may be larger now.
    SamplerOptions options;
    options.repetition_penalty = 4;
    Sampler sampler(options, allowed);
    const SomeLogits some = {{8, 7, 6}, {1, 2, 3}};
    CHECK(sampler.is_enough(some));
    sampler.count_prompt(prompt);
    CHECK(!sampler.is_enough(some));
    // NaN is the largest of all, and ends the text as in a choice from all.
    std::vector<float> logits(vocabulary, 0);
    logits[5] = logits[4] = NAN;
    const Status expected = sampler.pick(logits).take_status(),
                 found = sampler.pick(SomeLogits{{NAN, NAN, 0}, {5, 4, 9}}).take_status();
    CHECK(sampler.is_enough({{NAN, NAN, 0}, {5, 4, 9}}));
    CHECK(found.code() == Code::bad_value);
    CHECK(found.message() == expected.message());
}

TEST_CASE("absurd numbers are refused by the name of their option") {
    const auto refused = [](auto change, const std::string & part) {
        SamplerOptions options;
        change(options);
        const Status status = check_sampler_options(options, 4);
        CHECK(status.code() == Code::invalid_argument);
        CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.message());
    };
    for (const double number : {-1.0, double(NAN), double(infinity), -1e308}) {
        refused([=](SamplerOptions & o) { o.temperature = number; }, "a temperature of");
        refused([=](SamplerOptions & o) { o.top_p = number; }, "a top_p of");
        refused([=](SamplerOptions & o) { o.min_p = number; }, "a min_p of");
        refused([=](SamplerOptions & o) { o.repetition_penalty = number; }, "a repetition_penalty of");
    }
    for (const double number : {-2.1, 2.1, double(NAN), double(infinity), 1e308, 0x1p31}) {
        refused([=](SamplerOptions & o) { o.presence_penalty = number; }, "a presence_penalty of");
        refused([=](SamplerOptions & o) { o.frequency_penalty = number; }, "a frequency_penalty of");
        refused([=](SamplerOptions & o) { o.logit_bias = {{1, 50 * number}}; }, "the bias of token 1 is");
    }
    refused([](SamplerOptions & o) { o.min_p = 1.01; }, "a min_p of 1.01");
    refused([](SamplerOptions & o) { o.repetition_penalty = 0; }, "a repetition_penalty of 0");
    refused([](SamplerOptions & o) { o.logit_bias = {{4, 0}}; }, "4 is no id of the vocabulary of 4");
    refused([](SamplerOptions & o) { o.logit_bias = {{-1, 0}}; }, "-1 is no id");
    refused([](SamplerOptions & o) { o.logit_bias = {{2, 1}, {1, 1}, {2, 1}}; }, "token 2 has two entries");
    // The largest that are allowed still choose.
    SamplerOptions extreme = {1e308, INT64_MAX, 1};
    extreme.repetition_penalty = 1e38, extreme.presence_penalty = 2, extreme.frequency_penalty = -2;
    const std::vector<uint8_t> allowed(4, 1);
    Sampler sampler(extreme, allowed);
    for (int i = 0; i < 100; i++) CHECK(sampler.pick(std::vector<float>{3e38f, -3e38f, 0, 1}).ok());
}

TEST_CASE("stop texts: recorded, whatever the pieces") {
    for (const auto & sample : recorded("stops")) {
        const std::vector<std::string> stops = sample["stops"], pieces = sample["pieces"], shown = sample["shown"];
        CAPTURE(sample.dump());
        REQUIRE(check_stop_texts(stops).ok());
        StopText text(stops);
        std::string all;
        for (size_t i = 0; i < pieces.size(); i++) {
            REQUIRE_FALSE(text.found());
            all += text.push(pieces[i]);
            CHECK(all == shown[i]);
        }
        CHECK(text.found().has_value() == !sample["found"].is_null());
        if (text.found()) {
            CHECK(*text.found() == sample["found"].get<size_t>());
            CHECK(text.finish().empty());
            continue;
        }
        std::string whole;
        for (const std::string & piece : pieces) whole += piece;
        CHECK(all + text.finish() == whole);
    }
    StopText none({});
    CHECK(none.push("abc") == "abc");
}

TEST_CASE("stop texts that make no sense are named") {
    const auto refused = [](const std::vector<std::string> & stops, const std::string & part) {
        const Status status = check_stop_texts(stops);
        CHECK(status.code() == Code::invalid_argument);
        CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.message());
    };
    refused({"a", ""}, "stop[1] has 0 bytes");
    refused({std::string(4097, 'a')}, "stop[0] has 4097 bytes");
    refused({"a\xff"}, "stop[0] is no UTF-8 at byte 1");
    refused(std::vector<std::string>(65, "a"), "65 texts are more than the 64");
}

TEST_CASE("SplitMix64: the published first numbers of seed 0") {
    SplitMix64 random(0);
    CHECK(random.next() == 0xe220a8397b1dcdafu);
    CHECK(random.next() == 0x6e789e6aa1b965f4u);
    CHECK(random.next() == 0x06c45d188009454fu);
    CHECK(unit_of(0, 0) == double((0xe220a8397b1dcdafu >> 12) * 2 + 1) / 9007199254740992.0);
    CHECK(unit_of(0, 2) == double((0x06c45d188009454fu >> 12) * 2 + 1) / 9007199254740992.0);
}

TEST_CASE("noise: logarithms as exact as the library's, and none that is passed over could win") {
    SplitMix64 random(11);
    double worst = 0;
    for (int i = 0; i < 200'000; i++) {
        const double unit = unit_of(random.next(), 3), noise = noise_of_unit(unit);
        const double far = std::ldexp(unit, int(random.next() % 600) - 300);
        for (const double x : {unit, far, 1 - unit, -std::log(unit)}) {
            const double expected = std::log(x);
            worst = std::max(worst, std::abs(exact_log(x) - expected) / std::max(1e-300, std::abs(expected)));
        }
        const double gap = double(random.next() % 4000) / 100;
        if (!may_exceed(unit, gap)) CHECK(noise < gap);
        if (noise > gap) CHECK(may_exceed(unit, gap));
    }
    CHECK(worst < 4e-16);
    CHECK(may_exceed(1 - 0x1p-53, 36.7));
    CHECK(!may_exceed(0.5, 1e308));
    CHECK(may_exceed(0.5, -1e308));
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
    check_distribution(count_draws(four, {1, 0, 1e-6, 1}), {{1, 1.0}});  // at least one stays
    check_distribution(count_draws({1, 1}, {1, 0, 0.5, 1}), {{0, 1.0}}); // one half is one half
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

TEST_CASE("top_k of a large vocabulary: those of the whole order") {
    SplitMix64 random(3);
    std::vector<float> logits(5000);
    for (float & logit : logits) logit = float(random.next() % 200) / 16; // many are equal
    const std::vector<uint8_t> allowed(logits.size(), 1);
    std::vector<int32_t> order(logits.size());
    for (size_t id = 0; id < order.size(); id++) order[id] = int32_t(id);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return logits[size_t(a)] > logits[size_t(b)]; });
    for (const size_t top_k : {1, 2, 20, 63, 500, 1249, 1250, 4999, 5000, 6000}) {
        CAPTURE(top_k);
        Sampler sampler({1, int64_t(top_k)}, allowed);
        std::vector<int32_t> kept;
        for (const TokenProbability & token : sampler.distribution(logits).take()) kept.push_back(token.id);
        CHECK(kept == std::vector<int32_t>(order.begin(), order.begin() + ptrdiff_t(std::min(top_k, order.size()))));
    }
    CHECK(pick_one(logits, {}) == order[0]);
    logits[4999] = NAN;
    CHECK(Sampler({1, 20}, allowed).pick(logits).status().code() == Code::bad_value);
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
        read(
            R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.1, "repetition_penalty": 1.05,
                 "eos_token_id": [7, 5], "x": {}})")
            .take();
    CHECK(config.do_sample);
    CHECK(config.temperature == 0.6);
    CHECK(config.top_k == 20);
    CHECK(config.top_p == 0.95);
    CHECK(config.min_p == 0.1);
    CHECK(config.repetition_penalty == 1.05);
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
    refused(R"({"repetition_penalty": 0})", "repetition_penalty of 0");
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
