// Budgets of memory: what is left, what would do, and how they print.
#include "core/budget.h"

#include <doctest/doctest.h>

using namespace gnv;

TEST_CASE("reservations add up by name, and may exceed the budget") {
    Budget budget(1000);
    budget.reserve("weights", 300);
    budget.reserve("rows", 100);
    budget.reserve("weights", 500);
    CHECK(budget.used() == 900);
    CHECK(budget.left() == 100);
    CHECK(budget.reserved("weights") == 800);
    CHECK(budget.reserved("inputs") == 0);
    CHECK(budget.fits());
    budget.reserve("inputs", 101);
    CHECK_FALSE(budget.fits());
    CHECK(budget.left() == 0);
}

TEST_CASE("a budget that is not decided takes what a limit leaves, one that is no more than it has") {
    Budget open;
    open.reserve("packed", 50);
    CHECK_FALSE(open.is_decided());
    open.limit(200);
    CHECK(open.is_decided());
    CHECK(open.total() == 250);
    Budget given(100);
    given.reserve("packed", 50);
    given.limit(200);
    CHECK(given.total() == 100);
    given.limit(30);
    CHECK(given.left() == 30);
    Budget none;
    none.limit(0);
    CHECK(none.is_decided()); // and too small for anything
    CHECK(Budget::of_host(123).total() == 123);
    CHECK(Budget::of_host(0).is_decided());
}

TEST_CASE("the rest of a budget speaks of the whole") {
    Budget whole(1000);
    whole.reserve("figures", 400);
    const Budget rest = whole.rest();
    CHECK(rest.total() == 600);
    CHECK(rest.used() == 0);
    CHECK(rest.whole(600) == 1000);
    CHECK(rest.whole(650) == 1050);
    CHECK(rest.refusal("for this", 700) ==
          "a memory budget of 1.00 kB (1000 bytes) is too small for this: the smallest sufficient one is 1100 bytes "
          "(1.10 kB)");
    Budget full(10);
    full.reserve("figures", 400);
    CHECK(full.rest().total() == 1); // not undecided
}

TEST_CASE("beside a share the rest grows more slowly than the whole") {
    for (const uint64_t total : {uint64_t(100), uint64_t(1001), uint64_t(123'457)}) {
        Budget whole(total);
        const uint64_t least = 30, taken = std::max(least, total / 4);
        whole.reserve_share("buffers", taken, least, 4);
        const Budget rest = whole.rest();
        CHECK(rest.whole(rest.total()) == total);
        for (const uint64_t wanted : {uint64_t(1), uint64_t(89), uint64_t(90), uint64_t(91), uint64_t(100'000)}) {
            const uint64_t enough = rest.whole(wanted);
            if (wanted == rest.total()) continue;
            CHECK(enough - std::max(least, enough / 4) >= wanted);
            if (enough > least + 2) CHECK(enough - 2 - std::max(least, (enough - 2) / 4) < wanted);
        }
    }
}

TEST_CASE("budgets side by side, and a device's in words") {
    Budget host(2'000'000), device(1'000'000, "GPU");
    host.reserve("weights", 1'000'000);
    host.reserve("logits", 0);
    device.reserve("weights", 500'000);
    device.reserve("context", 100'000);
    CHECK(budget_table({{"host", host}, {"device", device}}) == "memory       host   device\n"
                                                                "weights   1.00 MB   500 kB\n"
                                                                "context       0 B   100 kB\n"
                                                                "together  1.00 MB   600 kB\n"
                                                                "budget    2.00 MB  1.00 MB\n");
    CHECK(device.refusal("", 7) == "a budget of 1.00 MB (1000000 bytes) of the memory of GPU is too small: the "
                                   "smallest sufficient one is 7 bytes (7 B)");
}
