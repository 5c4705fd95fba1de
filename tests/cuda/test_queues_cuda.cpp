// Queues, fences and times of a CUDA device.
#include "exec/backend.h"

#include <cstring>
#include <doctest/doctest.h>
#include <string_view>
#include <thread>
#include <vector>

using namespace gnv;

namespace {

Trace::Total total_of(const Trace & trace, std::string_view lane, std::string_view name) {
    for (const Trace::Total & total : trace.totals())
        if (lane == total.lane && name == total.name) return total;
    return {};
}

} // namespace

TEST_CASE("work passes from queue to queue in order, and a fence tells another thread when it arrived") {
    const auto backend = open_cuda(0).take();
    constexpr size_t bytes = 32 << 20, rounds = 8;
    const DeviceMemory first = backend->allocate(bytes).take(), second = backend->allocate(bytes).take();
    const HostMemory from = backend->allocate_host(bytes).take(), to = backend->allocate_host(bytes * rounds).take();
    for (size_t round = 0; round < rounds; round++) {
        // The host's buffer and the device's are used again: nothing may overtake.
        memset(from.get(), int(round + 1), bytes);
        backend->upload(first.get(), from.get(), bytes, Queue::upload);
        backend->order(Queue::upload, Queue::compute);
        backend->copy(second.get(), first.get(), bytes);
        backend->order(Queue::compute, Queue::download);
        uint8_t * const out = static_cast<uint8_t *>(to.get()) + round * bytes;
        backend->download(out, second.get(), bytes, Queue::download);
        backend->order(Queue::download, Queue::compute);
        const std::unique_ptr<Fence> arrived = backend->fence(Queue::download);
        Status status(Code::internal, "nobody waited");
        std::thread waiter([&] { status = arrived->wait(); });
        waiter.join();
        REQUIRE_MESSAGE(status.ok(), status.message());
        const std::vector<uint8_t> expected(bytes, uint8_t(round + 1));
        CHECK(memcmp(out, expected.data(), bytes) == 0);
    }
    for (const Queue queue : {Queue::compute, Queue::upload, Queue::download}) CHECK(backend->synchronize(queue).ok());
}

TEST_CASE("times of copies and spans: all of them, in order, and none once nobody measures") {
    Trace trace(100'000);
    const auto backend = open_cuda(0).take();
    constexpr size_t bytes = 1 << 20;
    constexpr uint64_t spans = 10'000; // more than are in flight at a time
    const DeviceMemory memory = backend->allocate(2 * bytes).take();
    const HostMemory host = backend->allocate_host(bytes).take();
    backend->copy(memory.get(), static_cast<uint8_t *>(memory.get()) + bytes, bytes); // before
    backend->set_trace(&trace);
    CHECK(backend->trace() == &trace);
    for (uint64_t i = 0; i < spans; i++) {
        const BackendSpan span(*backend, "clear", {3, 5});
        backend->clear(memory.get(), bytes);
    }
    for (int i = 0; i < 3; i++) backend->upload(memory.get(), host.get(), bytes, Queue::upload);
    backend->download(host.get(), memory.get(), bytes, Queue::download);
    backend->set_trace(nullptr);
    backend->copy(memory.get(), static_cast<uint8_t *>(memory.get()) + bytes, bytes); // after
    REQUIRE(backend->synchronize().ok());

    const Trace::Total clears = total_of(trace, "compute", "clear");
    CHECK(clears.spans == spans);
    CHECK(clears.work.flops == 3.0 * spans);
    CHECK(clears.work.bytes == 5.0 * spans);
    CHECK(clears.seconds > 0);
    CHECK(total_of(trace, "upload", "upload").spans == 3);
    CHECK(total_of(trace, "upload", "upload").work.bytes == 3.0 * bytes);
    CHECK(total_of(trace, "download", "download").spans == 1);
    CHECK(total_of(trace, "compute", "copy").spans == 0);
    std::vector<int64_t> end(trace.rows().size(), 0);
    for (const Trace::Event & event : trace.events()) {
        CHECK(event.duration_ns >= 0);
        CHECK(event.begin_ns >= end[event.row] - 2000); // one after another, as exact as events are
        end[event.row] = event.begin_ns + event.duration_ns;
    }
}
