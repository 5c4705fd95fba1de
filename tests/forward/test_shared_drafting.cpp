// Drafting for texts that share a session: with or without, beside any others, each has the bits that it has alone.
#include "forward/deferred_device.h"
#include "forward/drafted_pool.h"

using namespace gnv;
using namespace gnv::test;

namespace {

DraftPlace deferred(bool records) {
    return {[records](ThreadPool & threads) -> Result<std::unique_ptr<Backend>> {
        auto device = std::make_unique<DeferredDevice>(threads);
        device->records = records;
        return std::unique_ptr<Backend>(std::move(device));
    }};
}

} // namespace

TEST_CASE("texts that draft beside others are those without drafting, greedy and sampled") {
    DraftCounts sum;
    check_written_together(fitted_folder(), {}, sum);
    check_written_together(fitted_folder(), {DraftPlace::open_on_cpu, Precision::bf16}, sum);
    MESSAGE("drafted ", sum.drafted, ", accepted ", sum.accepted, " in ", sum.passes, " passes");
    CHECK(sum.accepted * 20 > sum.drafted);
    CHECK(sum.accepted < sum.drafted);
    DraftCounts untrained;
    check_written_together(tiny_folder, {}, untrained);
    CHECK(untrained.drafted > 0);
    CHECK(untrained.accepted == 0);
}

TEST_CASE("texts that draft have the bits of texts that do not, whatever is done to them") {
    DraftCounts sum;
    for (const unsigned seed : {1u, 2u}) {
        CAPTURE(seed);
        DraftTwins twins(fitted_folder(), {}, seed);
        twins.act(200);
        sum.drafted += twins.sum().drafted, sum.accepted += twins.sum().accepted;
    }
    MESSAGE("drafted ", sum.drafted, ", accepted ", sum.accepted);
    CHECK(sum.accepted > 30);
    CHECK(sum.accepted < sum.drafted);
}

// Nothing is computed before the host waits, and the device's memory is closed to the host.
TEST_CASE("texts that draft on a device, also where passes are recorded") {
    for (const bool records : {false, true}) {
        CAPTURE(records);
        if (records) { // the longer way: it first runs what it records
            DraftCounts sum;
            check_written_together(fitted_folder(), deferred(records), sum);
            CHECK(sum.accepted * 20 > sum.drafted);
        }
        DraftTwins twins(fitted_folder(), deferred(records), 4);
        twins.act(60);
        CHECK(twins.sum().accepted > 3);
    }
}

TEST_CASE("a draft head guesses for a text of many what it guesses for the session's own") {
    DraftedText alone(fitted_folder());
    DraftedPool pool(fitted_folder(), 2);
    const auto a = pool.open(), b = pool.open();
    pool.draft(*a, 4), pool.draft(*b, 4);
    alone.run(text_ids(200, 130), 0);
    pool.feed(*a, text_ids(200, 130), TextWant::largest), pool.feed(*b, text_ids(0, 20), TextWant::largest);
    pool.run({a.get(), b.get()});
    int found = 0;
    for (int round = 0; round < 20; round++) { // the head follows a text that is not its own
        CAPTURE(round);
        const TokenIds next = text_ids(size_t(330 + round), 1);
        alone.run(next, 4);
        pool.feed(*a, next, TextWant::largest);
        if (b->waiting() == 0) pool.feed(*b, {b->largest.id}, TextWant::largest);
        pool.run({a.get(), b.get()});
        const std::span<const int32_t> expected = alone.session->ahead();
        // The first tokens are timed, and a step of another text drops guesses that are left.
        if (!a->draft->is_ahead() || expected.size() < 4) continue;
        const auto ahead = a->draft->ids.begin() + ptrdiff_t(a->draft->taken);
        CHECK(TokenIds(ahead, a->draft->ids.end()) == TokenIds(expected.begin(), expected.end()));
        found++;
    }
    CHECK(found > 10);
    pool.texts->close(*a), pool.texts->close(*b);
}

TEST_CASE("drafting of texts ends where it gains nothing, and has places for as many as were asked for") {
    DraftedPool pool(tiny_folder, 1);
    const auto text = pool.open(), other = pool.open();
    pool.draft(*text, 8, true);
    CHECK(pool.session->draft_use().texts == 1);
    const Status full = pool.texts->draft(*other, {2, false});
    CHECK(full.code() == Code::out_of_memory);
    CHECK(full.message().find("all 1 texts draft that the model was opened for") != std::string::npos);
    pool.feed(*text, text_ids(0, 40), TextWant::largest);
    for (int i = 0; i < 200; i++) {
        pool.run({text.get()});
        pool.feed(*text, {text->largest.id}, TextWant::largest);
    }
    CHECK(text->draft->plan.end() > 0); // no guess of this head comes true
    CHECK(text->draft->counts.passes < 100);
    CHECK(text->draft->counts.accepted == 0);
    pool.draft(*text, 0);
    CHECK(pool.session->draft_use().texts == 0);
    pool.draft(*other, 2);
    pool.texts->close(*text), pool.texts->close(*other);
    CHECK(pool.session->draft_use().texts == 0);
    DraftedPool plain(tiny_folder, 0);
    const auto without = plain.open();
    CHECK(plain.texts->draft(*without, {2, false}).code() == Code::unsupported);
}

TEST_CASE("texts that draft up to the end of their caches, and of all pages") {
    DraftedPool plain(fitted_folder(), 0, {}, 2, 3 * cache_page), drafting(fitted_folder(), 2, {}, 2, 3 * cache_page);
    const auto write = [](DraftedPool & pool, bool drafts) {
        const auto one = pool.open(), two = pool.open();
        if (drafts) pool.draft(*one, 5), pool.draft(*two, 5);
        pool.feed(*one, text_ids(200, 150), TextWant::largest), pool.feed(*two, text_ids(0, 260), TextWant::largest);
        TokenIds out;
        for (int i = 0; i < 600; i++) { // of the three pages one has one, and no more
            pool.run({one.get(), two.get()});
            for (SharedText * const text : {one.get(), two.get()}) {
                out.push_back(text->largest.id);
                const Status status = pool.texts->feed(*text, {{text->largest.id}}, TextWant::largest);
                if (!status.ok()) CHECK(status.code() == Code::out_of_memory);
            }
        }
        const std::vector<int64_t> ends = {one->state.past, two->state.past};
        pool.texts->close(*one), pool.texts->close(*two);
        CHECK(ends == std::vector<int64_t>{cache_page, 2 * cache_page});
        return out.back();
    };
    CHECK(write(drafting, true) == write(plain, false));
}

TEST_CASE("drafting of texts on a device: within its budget, or refused with what would do") {
    const auto model = open_model(tiny_folder);
    const auto threads = ThreadPool::create(1).take();
    DeferredDevice device(*threads);
    SessionOptions options = {1, 64, 0, 1000};
    options.pool_texts = 3, options.pool_positions = 600;
    options.draft = model->draft.get();
    const auto open = [&] { return TextSession::create(model->variant(Precision::f32), device, *threads, options); };
    const auto least = [&] {
        options.device_bytes = 1000;
        const Status small = open().take_status();
        REQUIRE(small.code() == Code::out_of_memory);
        const std::string before = "and drafting: the smallest sufficient one is ";
        REQUIRE(small.message().find(before) != std::string::npos);
        return uint64_t(std::stoull(small.message().substr(small.message().find(before) + before.size())));
    };
    const uint64_t without = least();
    options.pool_drafts = 2;
    options.device_bytes = least();
    CHECK(options.device_bytes > without);
    {
        const auto session = open().take();
        CHECK(session->draft_use().bytes > 100000);
        CHECK(device.used() <= options.device_bytes);
    }
    options.device_bytes--;
    CHECK(open().status().code() == Code::out_of_memory);
}
