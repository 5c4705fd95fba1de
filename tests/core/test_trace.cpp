#include "core/trace.h"

#include <doctest/doctest.h>
#include <string>
#include <vector>

using namespace gnv;

TEST_CASE("spans add up by lane and name, whatever thread they come from") {
    Trace trace;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([&] {
            for (int i = 0; i < 1000; i++)
                trace.add(Trace::this_thread("worker"), std::string_view("write").data(), Clock::now(), 0.5, {2, 3});
        });
    for (std::thread & thread : threads) thread.join();
    trace.add({"compute", {}}, "write", Clock::now(), 1);
    const std::vector<Trace::Total> totals = trace.totals();
    REQUIRE(totals.size() == 2);
    CHECK(totals[0].spans == 4000);
    CHECK(totals[0].seconds == 2000);
    CHECK(totals[0].work.flops == 8000);
    CHECK(totals[0].work.bytes == 12000);
    CHECK(std::string(totals[1].lane) == "compute");
    CHECK(trace.rows().size() == 5);
    CHECK(trace.events().empty()); // nobody asked for a timeline
}

TEST_CASE("a timeline keeps the first spans and counts the others") {
    Trace trace(3);
    for (int i = 0; i < 5; i++) {
        const Span span(&trace, "host", "wait", {0, double(i)});
    }
    REQUIRE(trace.events().size() == 3);
    CHECK(trace.dropped_events() == 2);
    CHECK(trace.totals()[0].spans == 5);
    int64_t last = 0;
    for (const Trace::Event & event : trace.events()) {
        CHECK(event.begin_ns >= last);
        CHECK(event.duration_ns >= 0);
        last = event.begin_ns;
    }
    const Span nothing(nullptr, "host", "wait"); // nobody measures
}

TEST_CASE("more names than there is room for are dropped, not added to others") {
    Trace trace(1000);
    std::vector<std::string> names;
    for (int i = 0; i < 300; i++) names.push_back("name " + std::to_string(i));
    for (const std::string & name : names) trace.add({"lane", {}}, name.c_str(), Clock::now(), 1);
    CHECK(trace.totals().size() < names.size());
    CHECK(trace.totals().size() + trace.dropped_events() == names.size());
    for (const Trace::Total & total : trace.totals()) CHECK(total.spans == 1);
}
