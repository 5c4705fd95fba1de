// What a session gives does not depend on how its text arrives, on threads, or on where its weights are; and how far BF16
// is from the FP32 of the Transformers implementation.
#include "forward/forward_fixture.h"
#include "id_list.h"

#include <doctest/doctest.h>
#include <map>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Run {
    std::vector<float> logits; // [T, vocabulary]
    std::map<std::string, std::vector<uint8_t>> taps;
    bool weights_stay = false;
};

const OpenModel & tiny() {
    static const std::unique_ptr<OpenModel> model = open_model(tiny_folder);
    return *model;
}

std::vector<int32_t> text_ids(size_t count) {
    static const std::vector<int32_t> all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin(), all.begin() + ptrdiff_t(count)};
}

// `cuts`: lengths of the pieces in which the text arrives; the last takes the rest.
Run run(const std::vector<int32_t> & ids, const std::vector<size_t> & cuts = {}, int thread_count = 2,
        uint64_t ram_bytes = 0, Precision precision = Precision::f32, CacheType cache = CacheType::activations) {
    const auto threads = ThreadPool::create(thread_count).take();
    const auto device = open_cpu(*threads);
    SessionOptions options = {1, std::max<int64_t>(256, int64_t(ids.size())), ram_bytes};
    options.cache = cache;
    Result<std::unique_ptr<TextSession>> opened =
        TextSession::create(tiny().variant(precision), *device, *threads, options);
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    Run out;
    out.weights_stay = opened.value()->weights_stay();
    const auto keep = [&](const Tap & tap, const Tensor & tensor) -> Status {
        std::vector<uint8_t> & bytes = out.taps[tap_name(qwen35::names, tap)];
        bytes.insert(bytes.end(), tensor.as<uint8_t>(),
                     tensor.as<uint8_t>() + tensor_bytes(tensor.dtype, tensor.shape));
        return {};
    };
    for (size_t at = 0, piece = 0; at < ids.size(); piece++) {
        const size_t count = piece < cuts.size() ? std::min(cuts[piece], ids.size() - at) : ids.size() - at;
        TextSequence sequence;
        sequence.ids.assign(ids.begin() + ptrdiff_t(at), ids.begin() + ptrdiff_t(at + count));
        Result<std::vector<float>> logits = opened.value()->run(sequence, {true, keep});
        REQUIRE_MESSAGE(logits.ok(), logits.status().message());
        out.logits.insert(out.logits.end(), logits.value().begin(), logits.value().end());
        at += count;
    }
    CHECK(opened.value()->past() == int64_t(ids.size()));
    return out;
}

} // namespace

// Pieces that end at multiples of 64 give the same bits, but a piece of a single position runs the recurrent form.
TEST_CASE("a text that arrives in two pieces") {
    for (const size_t length : {1, 63, 64, 65, 66, 200}) {
        const std::vector<int32_t> ids = text_ids(length);
        const Run whole = run(ids);
        REQUIRE(whole.logits.size() == length * 4096);
        for (const size_t cut : {64, 63, 1, 65}) {
            if (cut >= length) continue;
            CAPTURE(length);
            CAPTURE(cut);
            const Run pieces = run(ids, {cut});
            if (cut % 64 == 0 && length - cut > 1) {
                CHECK(pieces.logits == whole.logits);
                CHECK(pieces.taps == whole.taps);
            } else {
                CHECK(relative_error(pieces.logits, whole.logits) <= 1e-5);
            }
        }
    }
}

TEST_CASE("one token at a time") {
    const std::vector<int32_t> ids = text_ids(70);
    CHECK(relative_error(run(ids, std::vector<size_t>(70, 1)).logits, run(ids).logits) <= 1e-5);
    // After a prompt, as generation does.
    std::vector<size_t> cuts(10, 1);
    cuts.front() = 61;
    CHECK(relative_error(run(ids, cuts).logits, run(ids).logits) <= 1e-5);
}

TEST_CASE("a text that starts anew is as the first one") {
    const auto threads = ThreadPool::create(2).take();
    const auto device = open_cpu(*threads);
    const auto session = TextSession::create(tiny().variant(Precision::f32), *device, *threads, {1, 128}).take();
    TextSequence sequence;
    sequence.ids = text_ids(100);
    const std::vector<float> first = session->run(sequence, {true, {}}).take();
    const Result<std::vector<float>> too_long = session->run(sequence, {true, {}});
    CHECK(too_long.status().code() == Code::invalid_argument);
    CHECK(session->past() == 100);
    session->reset();
    CHECK(session->past() == 0);
    CHECK(session->run(sequence, {true, {}}).take() == first);
}

TEST_CASE("the same bits with any number of threads") {
    const std::vector<int32_t> ids = text_ids(200);
    const Run one = run(ids, {130, 69}, 1);
    for (const int threads : {2, 3, 5}) {
        CAPTURE(threads);
        const Run more = run(ids, {130, 69}, threads);
        CHECK(more.logits == one.logits);
        CHECK(more.taps == one.taps);
    }
    const Run bf16 = run(ids, {}, 1, 0, Precision::bf16);
    CHECK(run(ids, {}, 3, 0, Precision::bf16).taps == bf16.taps);
}

TEST_CASE("the same bits when weights do not stay in memory") {
    const std::vector<int32_t> ids = text_ids(70);
    const Run rich = run(ids, {64, 5});
    CHECK(rich.weights_stay);
    const Run poor = run(ids, {64, 5}, 2, 8 << 20);
    CHECK(!poor.weights_stay);
    CHECK(poor.logits == rich.logits);
    CHECK(poor.taps == rich.taps);
    // Less than one group of weights: refused, with what would do.
    const auto threads = ThreadPool::create(1).take();
    const auto device = open_cpu(*threads);
    const Status refused =
        TextSession::create(tiny().variant(Precision::f32), *device, *threads, {1, 64, 1000}).take_status();
    CHECK(refused.code() == Code::out_of_memory);
    CHECK(refused.message().find("the smallest sufficient one is ") != std::string::npos);
}

// A position where rounding changes which experts the router chooses is far off, and there are a few: so the typical
// position has the tight bound, and all of them together a loose one.
TEST_CASE("BF16 activations: a position's logits within 2 %, mean KL divergence below 1e-3") {
    constexpr size_t vocabulary = 4096;
    const GoldenFile golden("text.safetensors");
    std::vector<double> errors, divergences;
    for (const std::string text : {"text1", "text63", "text70"}) {
        const std::vector<float> expected = golden.floats(text + ".logits");
        const Run bf16 = run(golden.ints(text + ".input_ids"), {}, 2, 0, Precision::bf16);
        REQUIRE(bf16.logits.size() == expected.size());
        for (size_t begin = 0; begin < expected.size(); begin += vocabulary) {
            double error = 0, squares = 0, divergence = 0;
            const std::vector<double> p = log_softmax(expected.data() + begin, vocabulary);
            const std::vector<double> q = log_softmax(bf16.logits.data() + begin, vocabulary);
            for (size_t i = 0; i < vocabulary; i++) {
                error += std::pow(double(bf16.logits[begin + i]) - double(expected[begin + i]), 2);
                squares += std::pow(double(expected[begin + i]), 2);
                divergence += std::exp(p[i]) * (p[i] - q[i]);
            }
            errors.push_back(std::sqrt(error / squares));
            divergences.push_back(divergence);
        }
    }
    REQUIRE(errors.size() == 1 + 63 + 70);
    const auto mean = [](const std::vector<double> & list) {
        double sum = 0;
        for (const double value : list) sum += value / double(list.size());
        return sum;
    };
    std::sort(errors.begin(), errors.end());
    const double median = errors[errors.size() / 2], kl = mean(divergences);
    CAPTURE(median);
    CAPTURE(mean(errors));
    CAPTURE(kl);
    CHECK(median < 0.02);
    CHECK(median > 1e-3); // it does round
    CHECK(mean(errors) < 0.04);
    CHECK(kl < 1e-3);
    CHECK(kl > 0);
}

TEST_CASE("caches in FP8: pieces and threads change no bit, and the memory is a quarter of F32") {
    const std::vector<int32_t> ids = text_ids(200);
    const auto in_fp8 = [&](const std::vector<size_t> & cuts, int threads, Precision precision) {
        return run(ids, cuts, threads, 0, precision, CacheType::fp8);
    };
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        const Run whole = in_fp8({}, 1, precision);
        CHECK(in_fp8({64, 64}, 3, precision).taps == whole.taps);
        // A row is what it is when it is stored: also one by one, except for the order of sums.
        std::vector<size_t> one_by_one(40, 1);
        one_by_one.front() = 161;
        if (precision == Precision::f32)
            CHECK(relative_error(in_fp8(one_by_one, 2, precision).logits, whole.logits) < 0.02);
        CHECK(whole.logits != run(ids, {}, 1, 0, precision).logits);
    }
    const auto bytes_of = [](CacheType cache) {
        return TextStates::layer_bytes(tiny().model->states(3, cache), DType::f32, {1, 4096, 0});
    };
    CHECK(bytes_of(CacheType::activations) == 2 * 4096 * 128 * 4);
    CHECK(bytes_of(CacheType::fp8) == 2 * 4096 * (128 + 2));
}

// What FP8 caches cost: beside BF16's own noise (docs/quality.md), and the recorded greedy ids.
TEST_CASE("caches in FP8: mean KL divergence, and greedy ids") {
    constexpr size_t vocabulary = 4096;
    const std::vector<int32_t> ids = text_ids(700);
    const Run plain = run(ids), fp8 = run(ids, {}, 2, 0, Precision::f32, CacheType::fp8);
    double divergence = 0;
    size_t same = 0;
    for (size_t begin = 0; begin < plain.logits.size(); begin += vocabulary) {
        const float *a = plain.logits.data() + begin, *b = fp8.logits.data() + begin;
        const std::vector<double> p = log_softmax(a, vocabulary), q = log_softmax(b, vocabulary);
        for (size_t i = 0; i < vocabulary; i++) divergence += std::exp(p[i]) * (p[i] - q[i]) / 700;
        same += std::max_element(a, a + vocabulary) - a == std::max_element(b, b + vocabulary) - b;
    }
    MESSAGE("KL ", divergence, ", the same token at ", same, " of 700 positions");
    CHECK(divergence > 1e-6);
    CHECK(divergence < 0.01);
    CHECK(same > 660);

    const JsonDocument golden = JsonDocument::read(GNV_TEST_DATA "/golden/greedy.json", 1 << 20).take();
    int tokens = 0, equal = 0;
    REQUIRE(golden.root()
                .for_each_element([&](size_t, const JsonValue & text) -> Status {
                    std::vector<int32_t> all = read_id_list(text.get("prompt_ids").take());
                    const size_t prompt = all.size();
                    const std::vector<int32_t> expected = read_id_list(text.get("new_ids").take());
                    all.insert(all.end(), expected.begin(), expected.end());
                    std::vector<size_t> cuts(all.size() - prompt + 1, 1);
                    cuts.front() = prompt;
                    const Run found = run(all, cuts, 2, 0, Precision::f32, CacheType::fp8);
                    for (size_t i = 0; i < expected.size(); i++) {
                        const float * const row = found.logits.data() + (prompt + i - 1) * vocabulary;
                        equal += std::max_element(row, row + vocabulary) - row == expected[i];
                        tokens++;
                    }
                    return {};
                })
                .ok());
    MESSAGE(equal, " of ", tokens, " recorded tokens are the likeliest");
    CHECK(tokens > 20);
    CHECK(equal * 20 >= tokens * 19);
}
