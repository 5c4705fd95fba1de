// A session on a CUDA device: against the recorded FP32 outputs of the Transformers implementation, and against itself with
// the text in pieces and with weights that stream.
#include "cuda/several_devices.h"
#include "forward/forward_fixture.h"
#include "id_list.h"
#include "session/sampling/sampler.h"
#include "session/texts/shared_texts.h"

#include <chrono>
#include <cstdio>
#include <doctest/doctest.h>
#include <map>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

constexpr size_t vocabulary = 4096;

struct Fixture {
    std::unique_ptr<OpenModel> model = open_model(tiny_folder);
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(2).take();
    std::unique_ptr<Backend> device = open_cuda(0).take();

    Result<std::unique_ptr<TextSession>> open(const SessionOptions & options) const {
        return TextSession::create(model->variant(Precision::bf16), *device, *threads, options);
    }
    std::unique_ptr<TextSession> session(const SessionOptions & options) const {
        Result<std::unique_ptr<TextSession>> opened = open(options);
        REQUIRE_MESSAGE(opened.ok(), opened.status().message());
        return opened.take();
    }
};

std::vector<float> logits_of(TextSession & session, const std::vector<int32_t> & ids, bool all = true,
                             TextSession::Request request = {}) {
    TextSequence sequence;
    sequence.ids = ids;
    request.all_logits = all;
    Result<std::vector<float>> result = session.run(sequence, request);
    REQUIRE_MESSAGE(result.ok(), result.status().message());
    return result.take();
}

std::vector<int32_t> text_ids(size_t count) {
    static const std::vector<int32_t> all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin(), all.begin() + ptrdiff_t(count)};
}

// Logits of all positions of a text that arrives in pieces; the last takes the rest.
std::vector<float> in_pieces(TextSession & session, const std::vector<int32_t> & ids,
                             const std::vector<size_t> & cuts) {
    session.reset();
    std::vector<float> logits;
    for (size_t at = 0, piece = 0; at < ids.size(); piece++) {
        const size_t count = piece < cuts.size() ? std::min(cuts[piece], ids.size() - at) : ids.size() - at;
        const std::vector<float> some =
            logits_of(session, {ids.begin() + ptrdiff_t(at), ids.begin() + ptrdiff_t(at + count)});
        logits.insert(logits.end(), some.begin(), some.end());
        at += count;
    }
    return logits;
}

// Of positions: relative error of the logits in the root of the mean square, and the KL divergence.
struct Distance {
    double median_error = 0, mean_divergence = 0;
};
Distance distance_of(const std::vector<float> & found, const std::vector<float> & expected) {
    REQUIRE(found.size() == expected.size());
    std::vector<double> errors;
    Distance distance;
    for (size_t begin = 0; begin < expected.size(); begin += vocabulary) {
        double error = 0, squares = 0, divergence = 0;
        const std::vector<double> p = log_softmax(expected.data() + begin, vocabulary);
        const std::vector<double> q = log_softmax(found.data() + begin, vocabulary);
        for (size_t i = 0; i < vocabulary; i++) {
            error += std::pow(double(found[begin + i]) - double(expected[begin + i]), 2);
            squares += std::pow(double(expected[begin + i]), 2);
            divergence += std::exp(p[i]) * (p[i] - q[i]);
        }
        errors.push_back(std::sqrt(error / squares));
        distance.mean_divergence += divergence * double(vocabulary) / double(expected.size());
    }
    std::sort(errors.begin(), errors.end());
    distance.median_error = errors[errors.size() / 2];
    return distance;
}

// Of the logits of all positions of the short texts to those that the reference computed in FP32.
Distance distance_to_recorded(const Fixture & f) {
    const GoldenFile golden("text.safetensors");
    std::vector<float> found, expected;
    for (const std::string text : {"text1", "text63", "text70"}) {
        const std::vector<float> logits = logits_of(*f.session({1, 128}), golden.ints(text + ".input_ids"));
        const std::vector<float> recorded = golden.floats(text + ".logits");
        found.insert(found.end(), logits.begin(), logits.end());
        expected.insert(expected.end(), recorded.begin(), recorded.end());
    }
    return distance_of(found, expected);
}

} // namespace

TEST_CASE("recorded logits: within 2 % at the typical position, mean KL divergence below 1e-3") {
    const Fixture f;
    const Distance distance = distance_to_recorded(f);
    CAPTURE(distance.median_error);
    CAPTURE(distance.mean_divergence);
    CHECK(distance.median_error < 0.02);
    CHECK(distance.median_error > 1e-4); // it does round
    CHECK(distance.mean_divergence < 1e-3);
}

// What BF16 changes is no more than a tie: at most one token in twenty, and there the recorded one is close behind.
TEST_CASE("greedy continuation with caches") {
    const Fixture f;
    const JsonDocument golden = JsonDocument::read(GNV_TEST_DATA "/golden/greedy.json", 1 << 20).take();
    int tokens = 0, same = 0;
    REQUIRE(golden.root()
                .for_each_element([&](size_t, const JsonValue & text) -> Status {
                    std::vector<int32_t> next = read_id_list(text.get("prompt_ids").take());
                    const auto session = f.session({1, 256});
                    for (const int32_t expected : read_id_list(text.get("new_ids").take())) {
                        const std::vector<float> logits = logits_of(*session, next, false);
                        const auto best = std::max_element(logits.begin(), logits.end());
                        tokens++;
                        same += best - logits.begin() == expected;
                        CHECK(*best - logits[size_t(expected)] < 0.1);
                        next = {expected};
                    }
                    return {};
                })
                .ok());
    CAPTURE(tokens);
    CAPTURE(same);
    CHECK(tokens > 20);
    CHECK(same * 20 >= tokens * 19);
}

TEST_CASE("a text in pieces is the text at once, but for rounding; twice it is the same") {
    const Fixture f;
    const std::vector<int32_t> ids = text_ids(200);
    const auto session = f.session({1, 256});
    const std::vector<float> whole = in_pieces(*session, ids, {});
    CHECK(in_pieces(*session, ids, {}) == whole);
    std::vector<size_t> one_by_one(40, 1);
    one_by_one.front() = 161;
    for (const std::vector<size_t> & cuts : {std::vector<size_t>{64}, {63, 1, 1}, one_by_one}) {
        CAPTURE(cuts.size());
        const std::vector<float> pieces = in_pieces(*session, ids, cuts);
        CHECK(in_pieces(*session, ids, cuts) == pieces);
        const Distance distance = distance_of(pieces, whole);
        CAPTURE(distance.median_error);
        CAPTURE(distance.mean_divergence);
        CHECK(distance.median_error < 0.02);
        CHECK(distance.mean_divergence < 1e-3);
    }
}

// A session replays the launches of a token; one whose activations are tapped launches op by op.
TEST_CASE("tokens that are replayed have the logits of tokens that are launched op by op") {
    const Fixture f;
    const std::vector<int32_t> ids = text_ids(60);
    const auto logits_with = [&](bool tapped) {
        const auto session = f.session({1, 128});
        TextSession::Request request;
        if (tapped) request.on_tap = [](const Tap &, const Tensor &) { return Status(); };
        std::vector<float> logits;
        for (int text = 0; text < 2; text++) {
            session->reset();
            for (const size_t count : {30, 1, 1, 1, 1, 10, 1, 1, 1}) {
                const auto begin = ids.begin() + session->past();
                const std::vector<float> some =
                    logits_of(*session, {begin, begin + ptrdiff_t(count)}, count > 1, request);
                logits.insert(logits.end(), some.begin(), some.end());
            }
        }
        return logits;
    };
    CHECK(logits_with(false) == logits_with(true));
}

TEST_CASE("texts side by side have the bits that each has alone") {
    const Fixture f;
    const std::vector<int32_t> ids = text_ids(260);
    const auto both = f.session({2, 128}), one = f.session({1, 128});
    std::vector<float> together[2], alone[2]; // logits of the last positions of each piece
    const std::vector<size_t> lengths = {70, 1, 1, 33, 1};
    for (size_t at = 0, piece = 0; piece < lengths.size(); at += lengths[piece++]) {
        TextSequence sequence;
        for (const size_t begin : {size_t(0), size_t(130)})
            sequence.ids.insert(sequence.ids.end(), ids.begin() + ptrdiff_t(begin + at),
                                ids.begin() + ptrdiff_t(begin + at + lengths[piece]));
        sequence.segments = {0, int32_t(lengths[piece])};
        const Result<std::vector<float>> logits = both->run(sequence, {});
        REQUIRE_MESSAGE(logits.ok(), logits.status().message());
        REQUIRE(logits.value().size() == 2 * vocabulary);
        for (size_t text = 0; text < 2; text++) {
            const auto begin = logits.value().begin() + ptrdiff_t(text * vocabulary);
            together[text].insert(together[text].end(), begin, begin + ptrdiff_t(vocabulary));
        }
    }
    for (size_t text = 0; text < 2; text++) {
        one->reset();
        for (size_t at = text * 130, piece = 0; piece < lengths.size(); at += lengths[piece++]) {
            const std::vector<float> logits =
                logits_of(*one, {ids.begin() + ptrdiff_t(at), ids.begin() + ptrdiff_t(at + lengths[piece])}, false);
            alone[text].insert(alone[text].end(), logits.begin(), logits.end());
        }
        CHECK(together[text] == alone[text]);
    }
}

TEST_CASE("weights that stream give the bits of weights that stay; a budget too small is refused with what would do") {
    const Fixture f;
    const std::vector<int32_t> ids = text_ids(150);
    const auto rich = f.session({1, 256});
    REQUIRE(rich->weights_stay());
    const std::vector<float> expected = in_pieces(*rich, ids, {128, 21});
    const Status refused = f.open({1, 256, 0, 1000}).take_status();
    REQUIRE(refused.code() == Code::out_of_memory);
    const std::string at_least = "the smallest sufficient one is ";
    const size_t at = refused.message().find(at_least);
    REQUIRE(at != std::string::npos);
    const uint64_t least = std::stoull(refused.message().substr(at + at_least.size()));
    CHECK(f.open({1, 256, 0, least - 1}).status().code() == Code::out_of_memory);
    const auto poor = f.session({1, 256, 0, least});
    CHECK(!poor->weights_stay());
    CHECK(poor->piece() == 64);
    for (int round = 0; round < 2; round++) { // and again, as the first group was read ahead
        poor->reset();
        rich->reset();
        for (const std::vector<int32_t> & piece :
             {std::vector<int32_t>(ids.begin(), ids.begin() + 64), {ids.begin() + 64, ids.begin() + 150}, {ids[0]}})
            CHECK(logits_of(*poor, piece, false) == logits_of(*rich, piece, false));
    }
    // Experts in host memory, few of them to nearly all on the device too.
    std::set<int64_t> cached;
    for (uint64_t bytes = least;; bytes += 4 << 20) {
        CAPTURE(bytes);
        const auto some = f.session({1, 256, 0, bytes});
        if (some->weights_stay()) break;
        if (some->cached_experts() == 0 || !cached.insert(some->cached_experts()).second) continue;
        for (int round = 0; round < 2; round++) {
            some->reset();
            rich->reset();
            for (const std::vector<int32_t> & piece :
                 {std::vector<int32_t>(ids.begin(), ids.begin() + 64), {ids.begin() + 64, ids.begin() + 120}})
                CHECK(logits_of(*some, piece, false) == logits_of(*rich, piece, false));
            for (size_t i = 120; i < 150; i++)
                CHECK(logits_of(*some, {ids[i]}, false) == logits_of(*rich, {ids[i]}, false));
        }
    }
    CHECK(cached.size() > 3);
    // Less host memory than a group of weights.
    const Status poor_host = f.open({1, 256, 1000}).take_status();
    CHECK(poor_host.code() == Code::out_of_memory);
    CHECK(poor_host.message().find(at_least) != std::string::npos);
    // A pass that is longer than what was planned for.
    TextSequence sequence;
    sequence.ids = ids;
    poor->reset();
    const Status too_long = poor->run(sequence, {true}).take_status();
    CHECK(too_long.code() == Code::out_of_memory);
    CHECK(too_long.message().find("shorter pieces") != std::string::npos);
}

TEST_CASE("activations are seen in F32, in the order of the model") {
    const Fixture f;
    const auto threads = ThreadPool::create(2).take();
    const auto cpu = open_cpu(*threads);
    const auto reference = TextSession::create(f.model->variant(Precision::bf16), *cpu, *threads, {1, 64}).take();
    std::vector<std::pair<std::string, std::vector<float>>> seen[2];
    int side = 0;
    const auto keep = [&](const Tap & tap, const Tensor & tensor) -> Status {
        const auto count = size_t(tensor.shape.elements());
        std::vector<float> numbers(count);
        for (size_t i = 0; i < count; i++)
            numbers[i] = tensor.dtype == DType::f32 ? tensor.as<float>()[i] : float(tensor.as<int32_t>()[i]);
        seen[side].emplace_back(tap_name(qwen35::names, tap), std::move(numbers));
        return {};
    };
    TextSession::Request request;
    request.on_tap = keep;
    const auto session = f.session({1, 64});
    logits_of(*session, text_ids(40), true, request);
    side = 1;
    logits_of(*reference, text_ids(40), true, request);
    REQUIRE(seen[0].size() == seen[1].size());
    REQUIRE(seen[0].size() > 100);
    for (size_t i = 0; i < seen[0].size(); i++) {
        CAPTURE(seen[1][i].first);
        CHECK(seen[0][i].first == seen[1][i].first);
        REQUIRE(seen[0][i].second.size() == seen[1][i].second.size());
        if (seen[0][i].first == "layer.0.linear_attn.in_proj_qkv") // before routing can differ
            CHECK(relative_error(seen[0][i].second, seen[1][i].second) < 0.02);
    }
    // Those asked for alone.
    side = 0;
    seen[0].clear();
    request.taps = {parse_tap(qwen35::names, "layer.3", 8).take()};
    session->reset();
    logits_of(*session, text_ids(40), true, request);
    REQUIRE(seen[0].size() == 1);
    CHECK(seen[0][0].first == "layer.3");
}

TEST_CASE("several devices: layers divided among them give the logits of one, in pieces and token by token") {
    const int most = several_devices();
    if (!most) return;
    const Fixture f;
    const std::vector<size_t> cuts = {64, 1, 1, 1, 30};
    const std::vector<float> expected = in_pieces(*f.session({1, 256}), text_ids(120), cuts);
    for (int count = 2; count <= most; count++) {
        CAPTURE(count);
        std::vector<std::unique_ptr<Backend>> devices;
        std::vector<Backend *> list;
        for (int i = 0; i < count; i++) {
            devices.push_back(open_cuda(i).take());
            list.push_back(devices.back().get());
        }
        Result<std::unique_ptr<TextSession>> session =
            TextSession::create(f.model->variant(Precision::bf16), list, *f.threads, {1, 256});
        REQUIRE_MESSAGE(session.ok(), session.status().message());
        CHECK(session.value()->shares().size() >= 2);
        CHECK(in_pieces(*session.value(), text_ids(120), cuts) == expected);
    }
}

TEST_CASE("FP32 is refused, with what to do") {
    const Fixture f;
    const Status refused =
        TextSession::create(f.model->variant(Precision::f32), *f.device, *f.threads, {1, 64}).take_status();
    CHECK(refused.code() == Code::unsupported);
    CHECK(refused.message().find("use precision bf16, or the CPU") != std::string::npos);
}

TEST_CASE("bench of a session" * doctest::skip()) {
    const Fixture f;
    const auto print = [](const char * name, const Distance & distance) {
        printf("%-44s median error %.5f, mean KL %.3g\n", name, distance.median_error, distance.mean_divergence);
    };
    print("BF16 on the device to recorded FP32", distance_to_recorded(f));
    const auto session = f.session({1, 700});
    const std::vector<int32_t> ids = text_ids(200);
    const std::vector<float> whole = in_pieces(*session, ids, {});
    std::vector<size_t> cuts(100, 1);
    cuts.front() = 101;
    print("prefill and decode to one prefill", distance_of(in_pieces(*session, ids, cuts), whole));
    print("pieces of 64 to one prefill", distance_of(in_pieces(*session, ids, {64, 64, 64}), whole));
    fflush(stdout);
}

// Beside 39 others, in pieces and by single positions: the bits of a session with one text.
TEST_CASE("sampled texts: from the largest logits the tokens of all logits") {
    const Fixture f;
    const auto session = f.session({1, 300});
    const auto vocabulary = size_t(session->vocabulary());
    const std::vector<uint8_t> allowed(vocabulary, 1);
    REQUIRE(session->allow(allowed).ok());
    std::vector<SamplerOptions> list = {{0.7, 20, 0.9, 1}, {1.5, 50, 1, 2}, {0, 0, 1, 3},
                                        {1, 0, 0.9, 4},    {1, 400, 1, 5},  {1, 0, 1, 6}};
    for (size_t i : {0, 2}) list[i].repetition_penalty = 1.2, list[i].presence_penalty = 0.5;
    for (const SamplerOptions & options : list) {
        CAPTURE(options.seed);
        std::vector<int32_t> texts[2];
        for (const bool from_some : {false, true}) {
            session->reset();
            Sampler sampler(options, allowed);
            TextSequence sequence;
            sequence.ids = text_ids(60);
            sampler.count_prompt(sequence.ids);
            for (int turn = 0; turn < 60; turn++) {
                if (const std::optional<Draw> draw = sampler.next_draw(); draw && from_some) {
                    const LargestLogit drawn = session->run_to_draw(sequence, {}, *draw).take();
                    texts[1].push_back(sampler.drawn(drawn.id, drawn.logit).take());
                    sequence.ids = {texts[1].back()};
                    continue;
                }
                const IsEnough is_enough = [&](const SomeLogits & some) { return sampler.is_enough(some); };
                const Result<SomeLogits> some = session->run_to_pick(
                    sequence, {}, from_some ? is_enough : [](const SomeLogits &) { return false; });
                REQUIRE_MESSAGE(some.ok(), some.status().message());
                if (!from_some) CHECK(some.value().all());
                const Result<int32_t> id = sampler.pick(some.value());
                REQUIRE(id.ok());
                texts[from_some].push_back(id.value());
                sequence.ids = {id.value()};
            }
        }
        CHECK(texts[0] == texts[1]);
    }
}

static void check_shared_texts(CacheType cache) {
    const Fixture f;
    SessionOptions options = {1, 700};
    options.cache = cache;
    constexpr size_t count = 40;
    options.pool_texts = count, options.pool_positions = int64_t(count) * 700;
    const auto session = f.session(options);
    SharedTexts texts(*session);
    const std::vector<int32_t> all = text_ids(700);
    const auto ids_of = [&](size_t text, size_t begin, size_t length) {
        const auto first = all.begin() + ptrdiff_t(5 * text + begin);
        return std::vector<int32_t>(first, first + ptrdiff_t(length));
    };
    const auto length_of = [](size_t text) { return 1 + text * 12; };
    std::vector<std::unique_ptr<SharedText>> shared;
    std::vector<SharedText *> some;
    for (size_t i = 0; i < count; i++) {
        shared.push_back(texts.open().take());
        some.push_back(shared.back().get());
        REQUIRE(texts.feed(*some[i], ids_of(i, 0, length_of(i)), TextWant::logits).ok());
    }
    std::vector<std::vector<std::vector<float>>> found(count);
    for (size_t turn = 0; turn < 4; turn++) {
        for (int64_t waiting = 1; waiting > 0;) {
            const Result<SharedTexts::Step> step = texts.step(some, {});
            REQUIRE_MESSAGE(step.ok(), step.status().message());
            waiting = step.value().waiting;
        }
        for (size_t i = 0; i < count; i++) {
            found[i].push_back(some[i]->numbers);
            REQUIRE(texts.feed(*some[i], ids_of(i, length_of(i) + turn, 1), TextWant::logits).ok());
        }
    }
    for (const size_t i : {0, 1, 7, 39}) {
        CAPTURE(i);
        session->reset();
        for (size_t turn = 0; turn < 4; turn++) {
            const std::vector<int32_t> ids =
                turn == 0 ? ids_of(i, 0, length_of(i)) : ids_of(i, length_of(i) + turn - 1, 1);
            CHECK(found[i][turn] == logits_of(*session, ids, false));
        }
    }
}
TEST_CASE("texts that share a session have the bits of each alone") { check_shared_texts(CacheType::activations); }
TEST_CASE("caches in FP8: texts that share a session have the bits of each alone") {
    check_shared_texts(CacheType::fp8);
}

TEST_CASE("caches in FP8: a text in pieces, tokens that are replayed, close to BF16 and on the CPU") {
    const Fixture f;
    const std::vector<int32_t> ids = text_ids(200);
    SessionOptions options = {1, 256};
    const auto plain = f.session(options);
    options.cache = CacheType::fp8;
    const auto session = f.session(options);
    const std::vector<float> whole = in_pieces(*session, ids, {});
    std::vector<size_t> one_by_one(40, 1);
    one_by_one.front() = 161;
    const std::vector<float> tokens = in_pieces(*session, ids, one_by_one);
    CHECK(in_pieces(*session, ids, one_by_one) == tokens);
    for (const std::vector<float> & pieces : {in_pieces(*session, ids, {64}), tokens}) {
        const Distance distance = distance_of(pieces, whole);
        CAPTURE(distance.mean_divergence);
        CHECK(distance.median_error < 0.03);
        CHECK(distance.mean_divergence < 5e-3);
    }
    const Distance to_plain = distance_of(whole, in_pieces(*plain, ids, {}));
    MESSAGE("KL to caches in BF16 ", to_plain.mean_divergence);
    CHECK(to_plain.mean_divergence > 1e-6);
    CHECK(to_plain.mean_divergence < 0.01);
    const auto cpu = open_cpu(*f.threads);
    const auto twin = TextSession::create(f.model->variant(Precision::bf16), *cpu, *f.threads, options).take();
    const Distance to_cpu = distance_of(whole, in_pieces(*twin, ids, {}));
    CAPTURE(to_cpu.mean_divergence);
    CHECK(to_cpu.median_error < 0.03);
    CHECK(to_cpu.mean_divergence < 5e-3);
}
