// The rows of chosen experts, gathered tile after tile of experts in one graph, as a model does it; on any backend.
#pragma once

#include "codec/nvfp4.h"
#include "exec/prepared.h"

#include <cstring>
#include <doctest/doctest.h>
#include <vector>

namespace gnv::test {

struct GatheredTiles {
    int64_t tokens, chosen, experts, tile, width;
    std::vector<int32_t> choices; // [tokens, chosen]
    std::vector<float> x;         // [tokens, experts, width], values of BF16

    // By expert, then by slot.
    std::vector<float> expected() const {
        std::vector<float> y;
        for (int64_t e = 0; e < experts; e++)
            for (size_t slot = 0; slot < choices.size(); slot++) {
                if (choices[slot] != e) continue;
                const auto row = x.begin() + (int64_t(slot) / chosen * experts + e) * width;
                y.insert(y.end(), row, row + width);
            }
        return y;
    }

    // `keeps_first`: what the first tile left is read at the end, too, so that no other tile may write there. Every choice
    // must be one of the experts.
    std::vector<float> run(Backend & backend, bool keeps_first) const {
        Graph graph(Precision::bf16, backend.activation_dtype());
        const ValueId indices = graph.input("indices", DType::i32, {tokens, chosen});
        const ValueId slots = graph.add(ExpertOrderParams{0, experts}, {indices}, "order");
        std::vector<ValueId> tiles, gathered;
        for (int64_t first = 0; first < experts; first += tile) {
            const int64_t count = std::min(tile, experts - first);
            tiles.push_back(graph.input("tile", graph.activation_dtype(), {tokens, count * width}));
            gathered.push_back(graph.add(
                ExpertGatherParams{first, count, chosen},
                {tiles.back(), slots, graph.second(slots), gathered.empty() ? no_value : gathered.back()}, "gathered"));
        }
        REQUIRE_MESSAGE(graph.status().ok(), graph.status().message());
        if (keeps_first) graph.keep(gathered.front());
        graph.keep(gathered.back());

        PreparedGraph prepared = PreparedGraph::create(backend, graph).take();
        const ArenaPlan & plan = prepared.plan();
        const auto place = [&](size_t i) { return plan.offsets[size_t(gathered[i])]; };
        for (size_t i = 1; i < gathered.size(); i++) {
            CHECK(place(i) == place(std::min<size_t>(gathered.size() - 1, keeps_first ? 1 : 0)));
            if (keeps_first) CHECK(place(i) != place(0));
        }
        std::vector<DeviceMemory> memory;
        const auto bind = [&](ValueId id, const void * data) {
            const uint64_t bytes = tensor_bytes(graph.value(id).dtype, graph.value(id).shape);
            memory.push_back(backend.allocate(bytes).take());
            backend.upload(memory.back().get(), data, bytes);
            REQUIRE(backend.synchronize().ok());
            Tensor tensor;
            tensor.dtype = graph.value(id).dtype;
            tensor.shape = graph.value(id).shape;
            tensor.data = memory.back().get();
            prepared.bind(id, tensor);
        };
        bind(indices, choices.data());
        for (size_t i = 0; i < tiles.size(); i++) {
            const std::vector<uint8_t> numbers = columns_of(int64_t(i) * tile, graph.value(tiles[i]));
            bind(tiles[i], numbers.data());
        }
        const DeviceMemory arena = backend.allocate(plan.bytes).take();
        prepared.bind_arena(arena.get());
        const Status status = prepared.run();
        REQUIRE_MESSAGE(status.ok(), status.message());
        return download(backend, prepared.tensor_of(gathered.back()));
    }

  private:
    // Of x those of the experts from `first` on, as many as the value has.
    std::vector<uint8_t> columns_of(int64_t first, const Value & value) const {
        const size_t element = value.dtype == DType::bf16 ? 2 : 4;
        const int64_t columns = value.shape[1];
        std::vector<uint8_t> bytes(size_t(tokens * columns) * element);
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t c = 0; c < columns; c++) {
                const float number = x[size_t((t * experts + first) * width + c)];
                const uint16_t rounded = nvfp4::bf16_from_float(number);
                memcpy(bytes.data() + size_t(t * columns + c) * element,
                       element == 2 ? static_cast<const void *>(&rounded) : &number, element);
            }
        return bytes;
    }
    static std::vector<float> download(Backend & backend, const Tensor & tensor) {
        std::vector<uint8_t> bytes(size_t(tensor_bytes(tensor.dtype, tensor.shape)));
        backend.download(bytes.data(), tensor.data, bytes.size());
        REQUIRE(backend.synchronize().ok());
        std::vector<float> numbers(size_t(tensor.shape.elements()));
        for (size_t i = 0; i < numbers.size(); i++) {
            uint16_t rounded = 0;
            memcpy(tensor.dtype == DType::bf16 ? static_cast<void *>(&rounded) : &numbers[i],
                   bytes.data() + i * (tensor.dtype == DType::bf16 ? 2 : 4), tensor.dtype == DType::bf16 ? 2 : 4);
            if (tensor.dtype == DType::bf16) numbers[i] = nvfp4::bf16_to_float(rounded);
        }
        return numbers;
    }
};

} // namespace gnv::test
