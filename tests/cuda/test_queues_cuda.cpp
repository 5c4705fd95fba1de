// Queues, fences, times and pinned memory of a CUDA device. With --bench (test_nvfp4_pack_cuda.cpp has the main) it measures
// how long pinned memory takes.
#include "cuda/pinned_memory.h"
#include "exec/backend.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace gnv;

namespace {

Trace::Total total_of(const Trace & trace, std::string_view lane, std::string_view name) {
    for (const Trace::Total & total : trace.totals())
        if (lane == total.lane && name == total.name) return total;
    return {};
}

cudaMemoryType memory_type(const void * memory) {
    cudaPointerAttributes attributes;
    REQUIRE(cudaPointerGetAttributes(&attributes, memory) == cudaSuccess);
    return attributes.type;
}

// Of this process, by the system's count.
size_t resident_bytes() {
    FILE * const file = fopen("/proc/self/statm", "r");
    REQUIRE(file);
    unsigned long long all = 0, resident = 0;
    CHECK(fscanf(file, "%llu %llu", &all, &resident) == 2);
    fclose(file);
    return size_t(resident) * size_t(sysconf(_SC_PAGESIZE));
}

void fill(void * memory, size_t bytes, uint32_t seed) {
    for (size_t i = 0; i < bytes / sizeof seed; i++) {
        seed = seed * 1664525 + 1013904223;
        memcpy(static_cast<uint8_t *>(memory) + i * sizeof seed, &seed, sizeof seed);
    }
}

double milliseconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
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

TEST_CASE("pinned memory of any size: copies from it and to it, and it goes when it is freed") {
    const auto backend = open_cuda(0).take();
    constexpr size_t large = 64 << 20; // from here on blocks are made in another way
    std::vector<std::pair<size_t, HostMemory>> kept;
    for (const size_t bytes : {size_t(1000), large - 4, large, large + 4, 3 * large + 12345 * 4}) {
        CAPTURE(bytes);
        const DeviceMemory there = backend->allocate(bytes).take();
        HostMemory from = backend->allocate_host(bytes).take();
        const HostMemory to = backend->allocate_host(bytes).take();
        for (const void * const memory : {from.get(), to.get()}) {
            CHECK(memory_type(memory) == cudaMemoryTypeHost);
            CHECK(memory_type(static_cast<const uint8_t *>(memory) + bytes - 1) == cudaMemoryTypeHost);
            CHECK(reinterpret_cast<uintptr_t>(memory) % device_alignment == 0);
        }
        fill(from.get(), bytes, uint32_t(bytes));
        memset(to.get(), 0, bytes);
        const size_t half = bytes / 2 / 4 * 4; // from the middle of a block as from its start
        const auto * const source = static_cast<const uint8_t *>(from.get());
        auto * const target = static_cast<uint8_t *>(there.get());
        backend->upload(target + half, source + half, bytes - half, Queue::upload);
        backend->upload(target, source, half, Queue::upload);
        backend->order(Queue::upload, Queue::download);
        backend->download(to.get(), there.get(), bytes, Queue::download);
        REQUIRE(backend->synchronize(Queue::download).ok());
        CHECK(memcmp(from.get(), to.get(), bytes) == 0);
        kept.emplace_back(bytes, std::move(from));
    }
    // In another order than they came.
    std::swap(kept[1], kept[3]);
    for (auto & [bytes, memory] : kept) {
        const void * const address = memory.get();
        memory.reset();
        if (bytes >= large) CHECK(memory_type(address) == cudaMemoryTypeUnregistered); // the driver may keep small ones
    }
    const size_t before = resident_bytes();
    for (int round = 0; round < 8; round++) {
        const HostMemory memory = backend->allocate_host(4 * large).take();
        memset(memory.get(), round, 4 * large);
    }
    CHECK(resident_bytes() < before + 4 * large);
    cuda::PinnedBlocks blocks;
    CHECK(blocks.allocate(large - 1) == nullptr);
    CHECK(blocks.allocate(size_t(1) << 46) == nullptr); // more than there is: nothing is touched
    CHECK(!blocks.free(nullptr));
    void * const block = blocks.allocate(large);
    if (!block) MESSAGE("memory of the process cannot be pinned here: cudaHostAlloc makes all blocks");
    CHECK(blocks.free(block) == (block != nullptr));
}

TEST_CASE("bench of pinned memory" * doctest::skip()) {
    const auto backend = open_cuda(0).take();
    constexpr size_t bytes = 1'600'000'000; // a block of the 35B model
    const DeviceMemory there = backend->allocate(bytes).take();
    cuda::PinnedBlocks blocks;
    for (int round = 0; round < 3; round++) {
        const auto start = std::chrono::steady_clock::now();
        HostMemory memory = backend->allocate_host(bytes).take();
        const double allocated = milliseconds_since(start);
        const auto copying = std::chrono::steady_clock::now();
        backend->upload(there.get(), memory.get(), bytes, Queue::upload);
        REQUIRE(backend->synchronize(Queue::upload).ok());
        const double copied = milliseconds_since(copying);
        const auto freeing = std::chrono::steady_clock::now();
        memory.reset();
        const double freed = milliseconds_since(freeing);
        const auto by_driver = std::chrono::steady_clock::now();
        void * plain = nullptr;
        REQUIRE(cudaHostAlloc(&plain, bytes, cudaHostAllocDefault) == cudaSuccess);
        const double plainly = milliseconds_since(by_driver);
        REQUIRE(cudaFreeHost(plain) == cudaSuccess);
        printf("  pinned memory, 1.6 GB: allocated in %.0f ms (cudaHostAlloc %.0f), uploaded in %.1f (%.1f GB/s), "
               "freed in "
               "%.0f\n",
               allocated, plainly, copied, double(bytes) / copied * 1e-6, freed);
    }
    void * const block = blocks.allocate(bytes);
    printf("  pinned memory: %s\n", block ? "mapped and registered" : "cudaHostAlloc, this system registers none");
    (void)blocks.free(block);
}
