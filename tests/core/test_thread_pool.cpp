#include "core/thread_pool.h"

#include <atomic>
#include <doctest/doctest.h>
#include <new>
#include <thread>
#include <vector>

using namespace gnv;

TEST_CASE("every index runs once, whatever the number of threads") {
    for (const int threads : {1, 2, 3, 8}) {
        auto pool = ThreadPool::create(threads).take();
        CHECK(pool->size() == threads);
        for (int round = 0; round < 50; round++) {
            std::vector<std::atomic<int>> hits(97);
            CHECK(pool->parallel_for_thread(97,
                                            [&](int64_t i, int thread) {
                                                hits[size_t(i)]++;
                                                return thread >= 0 && thread < threads
                                                           ? Status()
                                                           : Status(Code::internal, "thread number");
                                            })
                      .ok());
            for (const auto & hit : hits) REQUIRE(hit == 1);
        }
    }
}

TEST_CASE("the failure with the lowest index is reported and exceptions become failures") {
    auto pool = ThreadPool::create(4).take();
    const Status failed =
        pool->parallel_for(1000, [](int64_t i) { return i >= 3 ? fail(Code::io, "index ", i) : Status(); });
    CHECK(failed.message() == "index 3");
    CHECK(pool->parallel_for(10, [](int64_t) -> Status { throw std::bad_alloc(); }).code() == Code::out_of_memory);
    CHECK(pool->parallel_for(10, [](int64_t) -> Status { throw 7; }).code() == Code::internal);
    CHECK(pool->parallel_for(10, [](int64_t) { return Status(); }).ok()); // and the pool goes on working
    CHECK(pool->parallel_for(0, [](int64_t) { return Status(Code::internal, "never"); }).ok());
}

TEST_CASE("thread counts that cannot be") {
    CHECK(ThreadPool::create(-1).status().code() == Code::invalid_argument);
    CHECK(ThreadPool::create(1 << 20).status().code() == Code::invalid_argument);
    CHECK(available_processors() >= 1);
}

TEST_CASE("a watch is asked in the middle of work, on the calling thread, and can end it") {
    for (const int threads : {1, 3}) {
        auto pool = ThreadPool::create(threads).take();
        const auto caller = std::this_thread::get_id();
        int asked = 0;
        bool elsewhere = false;
        {
            const ThreadPool::Watch outer(*pool, [] { return false; }); // rests
            const ThreadPool::Watch watch(*pool, [&] {
                elsewhere = elsewhere || std::this_thread::get_id() != caller;
                return ++asked < 3;
            });
            // More work than anybody waits for.
            const Status status = pool->parallel_for(int64_t(1) << 60, [](int64_t) { return Status(); });
            CHECK(status.code() == Code::cancelled);
            CHECK(asked == 3);
            CHECK_FALSE(elsewhere);
        }
        CHECK(pool->parallel_for(10, [](int64_t) { return Status(); }).ok());
        CHECK(asked == 3);
        const ThreadPool::Watch throws(*pool, []() -> bool { throw 7; });
        CHECK(pool->parallel_for(int64_t(1) << 60, [](int64_t) { return Status(); }).code() == Code::internal);
    }
}
