// A session on a device with memory of its own: what the CPU gives, to the bit, whether weights stay or stream, within both
// budgets. The device is made of the CPU (deferred_device.h); test_cuda runs sessions on a GPU.
#include "forward/deferred_device.h"
#include "forward/forward_fixture.h"
#include "session/sampling/sampler.h"
#include "session/texts/shared_texts.h"
#include "verify/verify_fixture.h"

#include <map>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

const OpenModel & small() {
    static const std::unique_ptr<OpenModel> model = open_model(tiny_folder);
    return *model;
}

std::vector<int32_t> text_ids(size_t begin, size_t count) {
    static const std::vector<int32_t> all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin() + ptrdiff_t(begin), all.begin() + ptrdiff_t(begin + count)};
}

struct Outcome {
    std::vector<float> logits;
    std::map<std::string, std::vector<uint8_t>> taps;
    bool operator==(const Outcome & other) const { return logits == other.logits && taps == other.taps; }
};

// A prompt and some tokens, one after another.
Outcome generate_on(TextSession & session, bool all_logits = true) {
    Outcome out;
    TextSession::Request request;
    request.all_logits = all_logits;
    request.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
        std::vector<uint8_t> & bytes = out.taps[tap_name(qwen35::names, tap)];
        bytes.insert(bytes.end(), tensor.as<uint8_t>(),
                     tensor.as<uint8_t>() + tensor_bytes(tensor.dtype, tensor.shape));
        return {};
    };
    session.reset();
    for (const size_t count : {64, 3, 1, 1}) {
        TextSequence sequence;
        sequence.ids = text_ids(size_t(session.past()), count);
        const Result<std::vector<float>> logits = session.run(sequence, request);
        REQUIRE_MESSAGE(logits.ok(), logits.status().message());
        out.logits.insert(out.logits.end(), logits.value().begin(), logits.value().end());
    }
    return out;
}

struct Fixture {
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(2).take();
    std::unique_ptr<Backend> cpu = open_cpu(*threads);
    DeferredDevice device{*threads};

    Result<std::unique_ptr<TextSession>> open(const SessionOptions & options) {
        return TextSession::create(small().variant(Precision::f32), device, *threads, options);
    }
    Outcome expected(bool all_logits = true) {
        return generate_on(*TextSession::create(small().variant(Precision::f32), *cpu, *threads, {1, 256}).take(),
                           all_logits);
    }
};

SessionOptions shared_options() {
    SessionOptions options = {1, 256};
    options.pool_texts = 3, options.pool_positions = 1000;
    return options;
}

// The number that a refusal names.
uint64_t least_of(const Status & refused) {
    CAPTURE(refused.message());
    REQUIRE(refused.code() == Code::out_of_memory);
    const std::string words = "the smallest sufficient one is ";
    const size_t at = refused.message().find(words);
    REQUIRE(at != std::string::npos);
    return std::stoull(refused.message().substr(at + words.size()));
}

} // namespace

TEST_CASE("a session on a device: logits and activations are the CPU's") {
    Fixture f;
    {
        Result<std::unique_ptr<TextSession>> opened = f.open({1, 256});
        REQUIRE_MESSAGE(opened.ok(), opened.status().message());
        CHECK(opened.value()->weights_stay());
        CHECK(opened.value()->piece() == 8192);
        const Outcome found = generate_on(*opened.value());
        CHECK(found == f.expected());
        CHECK(generate_on(*opened.value()) == found);
    }
    CHECK(f.device.used() == 0);
}

TEST_CASE("weights stream through a device within both budgets") {
    Fixture f;
    const uint64_t least = least_of(f.open({1, 256, 0, 1000}).take_status());
    const uint64_t least_host = least_of(f.open({1, 256, 1000}).take_status());
    CHECK(f.open({1, 256, 0, least - 1}).status().code() == Code::out_of_memory);
    CHECK(f.open({1, 256, least_host - 1}).status().code() == Code::out_of_memory);
    const Outcome expected = f.expected(false);
    f.device.reset_peaks();
    Result<std::unique_ptr<TextSession>> opened = f.open({1, 256, least_host, least});
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    CHECK(!opened.value()->weights_stay());
    CHECK(opened.value()->piece() == 64);
    for (int round = 0; round < 2; round++)
        CHECK(generate_on(*opened.value(), false) == expected); // the last group was followed by the first
    CHECK(f.device.peak() <= least - device_context_bytes);
    CHECK(f.device.host_peak() <= least_host + (64 << 10)); // and inputs
    // Longer than what was planned: refused before anything is touched.
    TextSequence sequence;
    sequence.ids = text_ids(0, 200);
    opened.value()->reset();
    const Status refused = opened.value()->run(sequence, {true}).take_status();
    CHECK(refused.code() == Code::out_of_memory);
    CHECK(refused.message().find("give the text in shorter pieces") != std::string::npos);
    CHECK(generate_on(*opened.value(), false) == expected);
}

TEST_CASE("a session that is stopped, while weights are loaded or in a pass, and what comes after it") {
    Fixture f;
    const Outcome expected = f.expected(false);
    uint64_t calls = 0, stop_at = 0;
    SessionOptions options = {1, 256};
    options.on_load = [&](const SessionLoad & load) {
        CHECK(load.groups <= load.groups_total);
        return calls++ != stop_at;
    };
    for (stop_at = 0; stop_at < 11; stop_at++) { // 10 groups
        calls = 0;
        CHECK(f.open(options).status().code() == Code::cancelled);
        CHECK(f.device.used() == 0);
    }
    const uint64_t least = least_of(f.open({1, 256, 0, 1000}).take_status());
    for (const uint64_t device_bytes : {uint64_t(0), least}) { // weights stay, or stream
        const auto session = f.open({1, 256, 0, device_bytes}).take();
        TextSequence sequence;
        sequence.ids = text_ids(0, 64);
        TextSession::Request request;
        request.on_progress = [&](int64_t done, int64_t total) {
            CHECK(done <= total);
            return calls++ != stop_at;
        };
        for (stop_at = 0; stop_at < 11; stop_at += 3) {
            calls = 0;
            session->reset();
            CHECK(session->run(sequence, request).status().code() == Code::cancelled);
            if (stop_at == 6) CHECK(generate_on(*session, false) == expected); // else stopped again
        }
        CHECK(generate_on(*session, false) == expected);
    }
}

namespace {

// Three texts, one of which goes on as a copy and one as saved bytes: all that a device copies.
std::vector<std::vector<float>> share_on(TextSession & session) {
    SharedTexts texts(session);
    std::vector<std::vector<float>> out;
    const auto go_on = [&](const std::vector<SharedText *> & some,
                           const std::vector<std::pair<size_t, size_t>> & pieces) {
        for (size_t i = 0; i < some.size(); i++) {
            const TextWant want = out.size() % 2 == 0 ? TextWant::logits : TextWant::embedding;
            REQUIRE(texts.feed(*some[i], text_ids(pieces[i].first, pieces[i].second), want).ok());
        }
        for (int64_t waiting = 1; waiting > 0;) {
            const Result<SharedTexts::Step> step = texts.step(some, {});
            REQUIRE_MESSAGE(step.ok(), step.status().message());
            waiting = step.value().waiting;
        }
        for (const SharedText * text : some) out.push_back(text->numbers);
    };
    const auto a = texts.open().take(), b = texts.open().take();
    go_on({a.get(), b.get()}, {{0, 200}, {3, 70}});
    go_on({b.get(), a.get()}, {{80, 1}, {90, 3}});
    const auto c = texts.copy(*a).take();
    go_on({a.get(), b.get(), c.get()}, {{100, 1}, {101, 1}, {102, 1}});
    const std::string saved = texts.save(*c, "tiny").take();
    texts.close(*b);
    const auto d = texts.restore({reinterpret_cast<const uint8_t *>(saved.data()), saved.size()}, "tiny").take();
    REQUIRE(texts.assign(*a, *c).ok());
    go_on({d.get(), a.get(), c.get()}, {{110, 2}, {110, 2}, {110, 2}});
    out.push_back({float(saved.size())});
    return out;
}

} // namespace

TEST_CASE("texts that share a session on a device: the CPU's bits, whether weights stay or stream") {
    Fixture f;
    SessionOptions options = shared_options();
    const auto cpu = TextSession::create(small().variant(Precision::f32), *f.cpu, *f.threads, options).take();
    const auto expected = share_on(*cpu);
    CHECK(expected[expected.size() - 2] == expected[expected.size() - 3]); // copies
    options.device_bytes = 1000;
    const uint64_t least = least_of(f.open(options).take_status());
    for (const uint64_t device_bytes : {uint64_t(0), least}) {
        options.device_bytes = device_bytes;
        f.device.reset_peaks();
        const auto session = f.open(options).take();
        CHECK(session->weights_stay() == (device_bytes == 0));
        CHECK(share_on(*session) == expected);
        if (device_bytes > 0) CHECK(f.device.peak() <= least - device_context_bytes);
    }
    CHECK(f.device.used() == 0);
}

// --- Experts in host memory ---------------------------------------------------------------------------------------------------

namespace {

// What budgets between the least and one for all weights make of a session, and whether each gives what `expected` is.
struct Budgets {
    std::set<int64_t> cached; // experts of a layer
    bool streamed = false;
};
Budgets try_budgets(DeferredDevice & device, const TextVariant & variant, ThreadPool & threads, SessionOptions options,
                    const std::function<void(TextSession &)> & check) {
    const auto open = [&] { return TextSession::create(variant, device, threads, options); };
    options.device_bytes = 1000;
    const uint64_t least = least_of(open().take_status());
    Budgets budgets;
    for (options.device_bytes = least;; options.device_bytes += 5 << 19) {
        CAPTURE(options.device_bytes);
        device.reset_peaks();
        const auto made = open();
        REQUIRE_MESSAGE(made.ok(), made.status().message());
        TextSession & session = *made.value();
        if (session.weights_stay()) return budgets;
        if (session.cached_experts() > 0) budgets.cached.insert(session.cached_experts());
        budgets.streamed |= session.cached_experts() == 0;
        check(session);
        CHECK(device.peak() <= options.device_bytes - device_context_bytes);
        const SessionShare share = session.shares().front();
        CHECK(share.used <= share.budget);
    }
}

} // namespace

namespace {

// A prompt, and all logits behind it, on a device that may choose every id.
struct Prompt : Fixture {
    std::unique_ptr<TextSession> session = open(shared_options()).take();
    const std::vector<uint8_t> allowed = std::vector<uint8_t>(size_t(session->vocabulary()), 1);
    TextSequence sequence;
    std::vector<float> logits;

    Prompt() {
        REQUIRE(session->allow(allowed).ok());
        REQUIRE(session->allow_in_pool(allowed).ok());
        sequence.ids = text_ids(0, 70);
        logits = session->run(sequence, {}).take();
    }
};

} // namespace

TEST_CASE("draws on a device are those of the sampler from all logits, for one text and for many") {
    const Prompt prompt;
    TextSession * const session = prompt.session.get();
    const TextSequence & sequence = prompt.sequence;
    const std::vector<float> & whole = prompt.logits;
    SharedTexts texts(*session);
    std::vector<std::unique_ptr<SharedText>> list;
    std::vector<SharedText *> all;
    std::vector<int32_t> expected;
    for (size_t i = 0; i < 3; i++) {
        Sampler sampler({0.5 + double(i), 0, 1, 77 + i}, prompt.allowed);
        REQUIRE(sampler.next_draw());
        const Draw draw = *sampler.next_draw();
        expected.push_back(sampler.pick(whole).take());
        session->reset();
        const LargestLogit drawn = session->run_to_draw(sequence, {}, draw).take();
        CHECK(drawn.id == expected[i]);
        CHECK(drawn.logit == whole[size_t(drawn.id)]);
        list.push_back(texts.open().take());
        all.push_back(list.back().get());
        REQUIRE(texts.feed(*all[i], sequence.ids, i == 1 ? TextWant::largest : TextWant::draw, {}, draw).ok());
    }
    while (texts.step(all, {}).take().waiting > 0) {
    }
    CHECK(all[0]->largest.id == expected[0]);
    CHECK(all[1]->largest.id == std::max_element(whole.begin(), whole.end()) - whole.begin());
    CHECK(all[2]->largest.id == expected[2]);
    for (SharedText * const text : all) texts.close(*text);
}

TEST_CASE("picks on a device: of the largest logits, or of all where they are not enough") {
    const Prompt prompt;
    TextSession * const session = prompt.session.get();
    const TextSequence & sequence = prompt.sequence;
    const std::vector<float> & whole = prompt.logits;
    const auto check = [&](const SomeLogits & some, bool is_enough) {
        CHECK(some.all() == !is_enough);
        if (some.all()) CHECK(some.logits == whole);
        REQUIRE(some.logits.size() >= size_t(wanted_top_logits));
        std::vector<float> rest = whole;
        for (size_t i = 0; i < some.ids.size(); i++) {
            CHECK(some.logits[i] == whole[size_t(some.ids[i])]);
            rest[size_t(some.ids[i])] = -INFINITY;
        }
        if (is_enough)
            CHECK(*std::max_element(rest.begin(), rest.end()) <
                  *std::min_element(some.logits.begin(), some.logits.end()));
    };
    for (const bool is_enough : {true, false}) {
        session->reset();
        int asked = 0;
        const IsEnough answer = [&](const SomeLogits & some) {
            asked++;
            CHECK(!some.all());
            return is_enough;
        };
        check(session->run_to_pick(sequence, {}, answer).take(), is_enough);
        CHECK(asked == 1);
        SharedTexts texts(*session);
        std::vector<std::unique_ptr<SharedText>> list;
        std::vector<SharedText *> all;
        for (const TextWant want : {TextWant::pick, TextWant::logits, TextWant::pick}) {
            list.push_back(texts.open().take());
            all.push_back(list.back().get());
            REQUIRE(texts.feed(*all.back(), sequence.ids, want, want == TextWant::pick ? answer : IsEnough()).ok());
        }
        while (texts.step(all, {}).take().waiting > 0) {
        }
        CHECK(asked == 3);
        check(all[0]->some, is_enough), check(all[2]->some, is_enough);
        CHECK(all[1]->numbers == whole);
        for (SharedText * const text : all) texts.close(*text);
    }
}

TEST_CASE("experts in host memory: the bits of experts on the device, with any number of them cached") {
    Fixture f;
    SessionOptions options = shared_options();
    const auto cpu = TextSession::create(small().variant(Precision::f32), *f.cpu, *f.threads, options).take();
    const Outcome expected = generate_on(*cpu, false);
    const auto expected_texts = share_on(*cpu);
    for (const bool records : {false, true}) {
        f.device.records = records, f.device.eager_copies = records;
        const Budgets budgets =
            try_budgets(f.device, small().variant(Precision::f32), *f.threads, options, [&](TextSession & session) {
                for (int round = 0; round < 2; round++) CHECK(generate_on(session, false) == expected);
                CHECK(share_on(session) == expected_texts);
                CHECK(generate_on(session, false) == expected);
            });
        CHECK(budgets.streamed);
        CHECK(budgets.cached.size() > 3);
        CHECK(*budgets.cached.begin() < 16);
        CHECK(*budgets.cached.rbegin() < 33);
        CHECK((f.device.recorded > 0) == records);
    }
    CHECK(f.device.used() == 0);
}

TEST_CASE("experts of an NVFP4 checkpoint in host memory, with input scales and without") {
    Fixture f;
    const std::unique_ptr<OpenModel> model = open_model(untripped_pair().quantized);
    for (const bool quantize_inputs : {true, false}) {
        const TextVariant variant = model->variant(Precision::f32, quantize_inputs);
        const Outcome expected = generate_on(*TextSession::create(variant, *f.cpu, *f.threads, {1, 256}).take(), false);
        const Budgets budgets = try_budgets(f.device, variant, *f.threads, {1, 256}, [&](TextSession & session) {
            CHECK(generate_on(session, false) == expected);
        });
        CHECK(!budgets.cached.empty());
    }
}

TEST_CASE("experts stay in host memory where its budget holds them and the device reads it; else weights stream") {
    Fixture f;
    SessionOptions options = {1, 256};
    options.device_bytes = 1000;
    const uint64_t least = least_of(f.open(options).take_status());
    for (options.device_bytes = least; f.open(options).take()->cached_experts() == 0;) options.device_bytes += 1 << 19;
    {
        SessionOptions named = options; // what a session with a byte less says
        named.device_bytes = least;
        const std::string words = "of the memory of deferred device ", said = f.open(named).take()->placement();
        CAPTURE(said);
        REQUIRE(said.find(words) != std::string::npos);
        named.device_bytes = std::stoull(said.substr(said.find(words) + words.size()));
        CHECK(named.device_bytes <= options.device_bytes);
        CHECK(f.open(named).take()->cached_experts() > 0);
    }
    auto kept = f.open(options).take();
    CHECK(!kept->weights_stay());
    CHECK(kept->placement().find(" experts of each layer") != std::string::npos);
    const uint64_t host = f.device.host_peak();
    kept.reset();

    options.ram_bytes = host / 2; // too little for all experts
    f.device.reset_peaks();
    {
        const auto poor = f.open(options).take();
        CHECK(poor->cached_experts() == 0);
        CAPTURE(poor->placement());
        CHECK(poor->placement().find("experts would stay in host memory if") != std::string::npos);
        CHECK(generate_on(*poor, false) == f.expected(false));
    }
    options.ram_bytes = 0;
    f.device.sees_host = false;
    CHECK(f.open(options).take()->cached_experts() == 0);
    f.device.sees_host = true;

    // Memory that is taken after the plan was made.
    f.device.host_taken = f.device.host_memory - (10 << 20);
    const Status no_host = f.open(options).take_status();
    CAPTURE(no_host.message());
    CHECK(no_host.code() == Code::out_of_memory);
    CHECK(no_host.message().find("experts in host memory: cannot allocate") != std::string::npos);
    CHECK(no_host.message().find("of host memory: if another process took memory") != std::string::npos);
    f.device.host_taken = 0;
    f.device.taken = f.device.memory - f.device.used() - (5 << 20);
    const Status no_device = f.open(options).take_status();
    CAPTURE(no_device.message());
    CHECK(no_device.code() == Code::out_of_memory);
    CHECK(no_device.message().find("are free now") != std::string::npos);
    f.device.taken = 0;
    CHECK(f.open(options).ok());
}

TEST_CASE("a session that is stopped while experts are loaded to host memory leaves nothing") {
    Fixture f;
    SessionOptions options = {1, 256, 0, 1000};
    const uint64_t least = least_of(f.open(options).take_status());
    for (options.device_bytes = least; f.open(options).take()->cached_experts() == 0;) options.device_bytes += 1 << 19;
    uint64_t calls = 0, stop_at = 0, most = 0;
    options.on_load = [&](const SessionLoad & load) {
        CHECK(load.bytes <= load.bytes_total);
        most = std::max(most, load.bytes_total - load.bytes);
        return calls++ != stop_at;
    };
    for (stop_at = 0; stop_at < 11; stop_at += 2) {
        calls = 0;
        CHECK(f.open(options).status().code() == Code::cancelled);
        CHECK(f.device.used() == 0);
    }
    calls = 0;
    CHECK(f.open(options).ok());
}

// --- Several devices ----------------------------------------------------------------------------------------------------------

TEST_CASE("layers divided among devices: the logits, activations and texts of one") {
    Fixture f;
    SessionOptions options = shared_options();
    const auto cpu = TextSession::create(small().variant(Precision::f32), *f.cpu, *f.threads, options).take();
    const Outcome expected = generate_on(*cpu);
    const auto expected_texts = share_on(*cpu);
    for (const int count : {2, 3, 5}) {
        CAPTURE(count);
        std::vector<std::unique_ptr<DeferredDevice>> devices;
        std::vector<Backend *> list;
        for (int i = 0; i < count; i++) {
            devices.push_back(std::make_unique<DeferredDevice>(*f.threads, i));
            devices.back()->records = count == 3;
            list.push_back(devices.back().get());
        }
        {
            Result<std::unique_ptr<TextSession>> made =
                TextSession::create(small().variant(Precision::f32), list, *f.threads, options);
            REQUIRE_MESSAGE(made.ok(), made.status().message());
            TextSession & session = *made.value();
            CHECK(session.weights_stay());
            CHECK(generate_on(session) == expected);
            CHECK(generate_on(session, false).logits == f.expected(false).logits);
            CHECK(share_on(session) == expected_texts);
            // Every layer has one place, in order.
            const std::vector<SessionShare> shares = session.shares();
            REQUIRE(shares.size() >= 2);
            REQUIRE(shares.size() <= size_t(count));
            int32_t next = 0;
            for (size_t i = 0; i < shares.size(); i++) {
                CHECK(shares[i].first_layer == next);
                next += shares[i].layers;
                CHECK(shares[i].embeds == (i == 0));
                CHECK(shares[i].has_head == (i + 1 == shares.size()));
                CHECK(shares[i].used <= shares[i].budget);
                CHECK(devices[i]->used() + device_context_bytes <= shares[i].used);
            }
            CHECK(next == 8);
            for (size_t i = 0; i < devices.size(); i++) CHECK((devices[i]->copied > 0) == (i > 0 && i < shares.size()));
        }
        for (const auto & device : devices) CHECK(device->used() == 0);
    }
}

TEST_CASE("devices that are full one by one hold a model together, or say the budget that is enough") {
    Fixture f;
    SessionOptions options = {1, 256};
    DeferredDevice second(*f.threads, 1);
    const std::vector<Backend *> both = {&f.device, &second};
    const auto open = [&] { return TextSession::create(small().variant(Precision::f32), both, *f.threads, options); };
    options.device_bytes = 1000;
    const Status refused = open().take_status();
    const uint64_t least = least_of(refused);
    CHECK(refused.message().find("on 2 devices") != std::string::npos);
    CHECK(refused.message().find("one device alone (cuda:N)") != std::string::npos);
    options.device_bytes = least - 1;
    CHECK(least_of(open().take_status()) == least);
    options.device_bytes = least;
    const auto session = open();
    REQUIRE_MESSAGE(session.ok(), session.status().message());
    CHECK(generate_on(*session.value(), false).logits == f.expected(false).logits);
    for (const Backend * const device : both)
        CHECK(static_cast<const DeferredDevice *>(device)->peak() <= least - device_context_bytes);
    // One of them alone cannot keep the weights.
    const auto alone = f.open(options);
    REQUIRE(alone.ok());
    CHECK_FALSE(alone.value()->weights_stay());
}

TEST_CASE("a device that is full says what it lacks room for") {
    Fixture f;
    f.device.taken = f.device.memory - (1 << 20); // after free_bytes() was asked
    const Status refused = f.open({1, 256}).take_status();
    CHECK(refused.code() == Code::out_of_memory);
    CAPTURE(refused.message());
    CHECK(refused.message().find("activations: cannot allocate") != std::string::npos);
    CHECK(f.device.used() == 0);
}
