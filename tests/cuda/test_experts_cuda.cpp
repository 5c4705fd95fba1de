// Which experts chose what, and rows of the chosen: on a CUDA device exactly what the CPU gives, beyond the shapes of
// test_ops_cuda.cpp.
#include "cuda/device_fixture.h"
#include "ops/gathered_tiles.h"

#include <numeric>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Choices {
    int64_t tokens, chosen;
    std::vector<int32_t> experts; // [tokens, chosen]
};

// Different experts of [0, count) for each token.
Choices different(std::mt19937 & random, int64_t tokens, int64_t chosen, int64_t count) {
    Choices choices = {tokens, chosen, {}};
    std::vector<int32_t> all(static_cast<size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t i = 0; i < chosen; i++) // a few of them change places with any
            std::swap(all[size_t(i)], all[size_t(i) + random() % (all.size() - size_t(i))]);
        choices.experts.insert(choices.experts.end(), all.begin(), all.begin() + chosen);
    }
    return choices;
}
// One for each token, of as few experts as `most`, in runs of any length.
Choices in_runs(std::mt19937 & random, int64_t tokens, uint32_t most) {
    Choices choices = {tokens, 1, {}};
    int32_t expert = 0;
    for (int64_t t = 0; t < tokens; t++) {
        if (random() % 13 == 0) expert = int32_t(random() % most);
        choices.experts.push_back(expert);
    }
    return choices;
}

struct Order {
    std::vector<int32_t> slots, offsets; // slots: those in use

    bool operator==(const Order & other) const { return slots == other.slots && offsets == other.offsets; }
};

// Without a graph, whose values have at least one element. Scratch memory and results begin as rubbish.
Order order_on(Backend & backend, const Choices & choices, int64_t first, int64_t count) {
    const OpParams params = ExpertOrderParams{first, count};
    const int64_t room = choices.tokens * std::min(choices.chosen, count);
    std::vector<DeviceMemory> memory;
    const auto tensor = [&](Shape shape, const std::vector<int32_t> & values) {
        memory.push_back(backend.allocate(values.size() * 4 + 4).take());
        if (!values.empty()) backend.upload(memory.back().get(), values.data(), values.size() * 4);
        REQUIRE(backend.synchronize().ok());
        return Tensor{DType::i32, shape, memory.back().get()};
    };
    const Tensor indices = tensor({choices.tokens, choices.chosen}, choices.experts);
    Tensor outputs[2] = {tensor({room}, std::vector<int32_t>(size_t(room), -7)),
                         tensor({count + 1}, std::vector<int32_t>(size_t(count + 1), -7))};
    KernelCall call{params, Precision::bf16, &indices, outputs};
    const std::vector<int32_t> rubbish(size_t(backend.scratch_bytes(call) / 4), -7);
    const Tensor scratch = tensor({int64_t(rubbish.size())}, rubbish);
    call.scratch = scratch.data;
    const Status status = backend.launch(call);
    REQUIRE_MESSAGE(status.ok(), status.message());
    const auto read = [&](const Tensor & from) {
        std::vector<int32_t> values(size_t(from.shape.elements()));
        if (!values.empty()) backend.download(values.data(), from.data, values.size() * 4);
        const Status done = backend.synchronize();
        REQUIRE_MESSAGE(done.ok(), done.message());
        return values;
    };
    Order order = {read(outputs[0]), read(outputs[1])};
    REQUIRE(order.offsets.back() >= 0);
    REQUIRE(order.offsets.back() <= room);
    order.slots.resize(size_t(order.offsets.back()));
    return order;
}

} // namespace

TEST_CASE("experts: order of slots") {
    Devices devices;
    std::mt19937 random(20);
    const auto check = [&](const Choices & choices, int64_t first, int64_t count) {
        CAPTURE(choices.tokens);
        CAPTURE(choices.chosen);
        CAPTURE(first);
        CAPTURE(count);
        const Order found = order_on(*devices.cuda, choices, first, count);
        CHECK(found == order_on(*devices.cpu, choices, first, count));
        CHECK(found == order_on(*devices.cuda, choices, first, count));
    };
    for (const int64_t tokens : {0, 1, 3, 31, 32, 33, 127, 128, 129, 1000}) {
        const Choices choices = different(random, tokens, 8, 256);
        for (const auto & [first, count] :
             {std::pair<int64_t, int64_t>{0, 256}, {0, 1}, {255, 1}, {100, 16}, {17, 239}, {300, 10}, {200, 100}})
            check(choices, first, count);
    }
    check(different(random, 16384, 8, 256), 0, 256); // shipped shapes, and a stage of them
    check(different(random, 16384, 8, 256), 128, 64);
    check(different(random, 5000, 10, 512), 0, 512);
    for (const uint32_t most : {1u, 2u, 5u, 40u}) { // the same expert many times among 32 slots
        check(in_runs(random, 3001, most), 0, 40);
        check(in_runs(random, 5439, most), 1, 3);
    }
    check(different(random, 300000, 8, 256), 0, 256); // more slots than chunks of the least size
    check(different(random, 200000, 2, 300), 10, 280);
    for (const int64_t count : {8191, 8192, 8193, 20000, 70000}) { // more experts than go at once
        check(different(random, 600, 8, 70000), 0, count);
        check(different(random, 5000, 2, 70000), 1000, count);
    }
    Choices odd = different(random, 500, 8, 64); // no expert's number
    for (size_t i = 0; i < odd.experts.size(); i += 3) odd.experts[i] = i % 2 ? -1 : i % 4 ? INT32_MIN : INT32_MAX;
    check(odd, 0, 64);
    check(odd, 60, 100);
}

namespace {

// Calls of expert_fetch, one after another, with random choices: what every call makes of places, table and caches.
struct Fetches {
    int64_t experts, places, rows, columns, chosen;
    bool coded;

    std::vector<std::vector<uint8_t>> run(Backend & backend) const {
        std::mt19937 random(7);
        const Shape stack_shape = {experts, rows, columns}, cache_shape = {places, rows, columns};
        const DType dtype = coded ? DType::f4 : DType::bf16;
        std::vector<DeviceMemory> memory;
        std::vector<HostMemory> host;
        const auto on_device = [&](uint64_t bytes) {
            memory.push_back(backend.allocate(bytes).take());
            backend.clear(memory.back().get(), bytes);
            return memory.back().get();
        };
        const auto in_host = [&](uint64_t bytes) {
            host.push_back(backend.allocate_host(bytes).take());
            for (uint64_t i = 0; i < bytes; i++) static_cast<uint8_t *>(host.back().get())[i] = uint8_t(random());
            return host.back().get();
        };
        const uint64_t numbers = tensor_bytes(dtype, cache_shape), scales = uint64_t(cache_shape.elements()) / 16;
        std::vector<Tensor> inputs(Node::max_inputs);
        for (const size_t i : {1, 3, 5}) {
            inputs[i] = {dtype, stack_shape, in_host(tensor_bytes(dtype, stack_shape))};
            inputs[i + 1] = {dtype, cache_shape, on_device(numbers)};
            if (!coded) continue;
            inputs[i].block_scales = static_cast<uint8_t *>(in_host(uint64_t(stack_shape.elements()) / 16));
            inputs[i + 1].block_scales = static_cast<uint8_t *>(on_device(scales));
        }
        inputs[0] = {DType::i32, {experts + 1}, on_device(uint64_t(experts + 1) * 4)};
        inputs[7] = {DType::i32, {experts + places}, on_device(uint64_t(experts + places) * 4)};
        Tensor output = {DType::i32, {experts}, on_device(uint64_t(experts) * 4)};
        const OpParams params = ExpertFetchParams{};
        KernelCall call{params, Precision::bf16, inputs.data(), &output};
        REQUIRE(backend.supports(call).ok());
        call.scratch = on_device(backend.scratch_bytes(call) + 1);

        std::vector<std::vector<uint8_t>> results;
        const auto keep = [&](const void * from, uint64_t bytes) {
            results.emplace_back(size_t(bytes));
            backend.download(results.back().data(), from, bytes);
        };
        for (int round = 0; round < 30; round++) {
            const Choices choices = different(random, 1 + round % 2, chosen, experts);
            std::vector<int32_t> offsets(size_t(experts + 1), 0);
            for (const int32_t expert : choices.experts)
                for (size_t g = size_t(expert) + 1; g < offsets.size(); g++) offsets[g]++;
            backend.upload(inputs[0].data, offsets.data(), offsets.size() * 4);
            const Status status = backend.launch(call);
            REQUIRE_MESSAGE(status.ok(), status.message());
            keep(output.data, uint64_t(experts) * 4);
            keep(inputs[7].data, uint64_t(experts + places) * 4);
            for (const size_t i : {2, 4, 6}) {
                keep(inputs[i].data, numbers);
                if (coded) keep(inputs[i].block_scales, scales);
            }
            const Status done = backend.synchronize();
            REQUIRE_MESSAGE(done.ok(), done.message());
        }
        return results;
    }
};

} // namespace

TEST_CASE("experts: those that are chosen come from host memory to a cache") {
    Devices devices;
    REQUIRE(devices.cuda->reads_host());
    for (const Fetches & fetches : {Fetches{256, 27, 16, 512, 8, true},
                                    {256, 16, 48, 2048, 8, true},
                                    {256, 256, 16, 64, 8, false},
                                    {33, 8, 5, 2056, 4, false},
                                    {1000, 64, 2, 128, 32, true}}) {
        CAPTURE(fetches.places);
        CAPTURE(fetches.columns);
        CHECK(fetches.run(*devices.cuda) == fetches.run(*devices.cpu));
    }
    // No part of 16 bytes.
    Tensor inputs[Node::max_inputs] = {};
    inputs[0].dtype = inputs[7].dtype = DType::i32;
    inputs[0].shape = {9}, inputs[7].shape = {12};
    inputs[1].dtype = inputs[2].dtype = DType::bf16;
    inputs[1].shape = {8, 1, 36}, inputs[2].shape = {4, 1, 36};
    const OpParams params = ExpertFetchParams{};
    Tensor output = {DType::i32, {8}, nullptr};
    CHECK(devices.cuda->supports({params, Precision::bf16, inputs, &output}).code() == Code::unsupported);
}

TEST_CASE("experts: rows of the chosen") {
    Devices devices;
    std::mt19937 random(21);
    struct Size {
        int64_t tokens, chosen, experts; // of the order
        int64_t first, count, width;
    };
    for (const Size & size : {Size{1, 4, 32, 0, 32, 64},
                              {70, 4, 32, 5, 7, 64},
                              {300, 8, 100, 96, 4, 72},
                              {300, 3, 40, 0, 40, 1},
                              {129, 8, 9, 8, 1, 13},
                              {257, 8, 64, 20, 16, 100},
                              {500, 2, 16, 3, 5, 300},
                              {16384, 8, 256, 32, 16, 512}}) {
        CAPTURE(size.tokens);
        CAPTURE(size.width);
        Choices choices = different(random, size.tokens, size.chosen, size.experts);
        for (int32_t & expert : choices.experts)
            if (expert == size.first + 1) expert = int32_t(size.experts); // nobody wants that one
        Order order = order_on(*devices.cpu, choices, 0, size.experts);
        const int64_t n = size.tokens * size.chosen;
        order.slots.resize(size_t(n), -1); // not in use
        compare_exactly(devices,
                        {ExpertGatherParams{size.first, size.count, size.chosen},
                         {activation(random, {size.tokens, size.count * size.width}), indices({n}, order.slots),
                          indices({size.experts + 1}, order.offsets), activation(random, {n, size.width})},
                         {}});
    }
    for (const int64_t tile : {1, 16, 24, 64}) // in one place
        for (const int64_t width : {72, 37}) {
            const Choices choices = different(random, 300, 8, 64);
            const GatheredTiles tiles = {
                300, 8, 64, tile, width, choices.experts, random_numbers(random, 300 * 64 * width, 1)};
            for (const bool keeps_first : {false, true})
                CHECK(tiles.run(*devices.cuda, keeps_first) == tiles.expected());
        }
}
