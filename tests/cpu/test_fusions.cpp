// Kernels for nodes that follow each other (cpu/fusions.cpp): a run whose activations are tapped launches node by node, so both must
// leave the same bits.
#include "cpu/compact_bf16.h"
#include "cpu/gemm_operands.h"
#include "exec/backend.h"
#include "exec/prepared.h"
#include "graph/graph.h"

#include <deque>
#include <doctest/doctest.h>
#include <memory>
#include <string>

using namespace gnv;
using namespace gnv::test;
using Row = GroupedLinearParams::Row;

namespace {

constexpr int64_t k = 192, experts = 6, chosen = 3;

// A graph on the CPU, with what it needs bound.
class Products {
  public:
    Products(Precision precision, int threads, int64_t rows = 1, bool few = true)
        : graph(precision), few_rows(few), pool_(ThreadPool::create(threads).take()) {
        backend_ = open_cpu(*pool_);
        x = numbers("x", {rows, k});
        std::vector<int32_t> by_expert, first = {0};
        for (int expert = 0; expert < experts; expert++) { // one of them has no rows
            for (int32_t slot = 0; slot < rows * chosen; slot++)
                if (expert != 2 && slot * 7 % 5 == expert - (expert > 2)) by_expert.push_back(slot);
            first.push_back(int32_t(by_expert.size()));
        }
        slots = integers("slots", by_expert), offsets = integers("offsets", first);
    }

    ValueId numbers(const char * name, Shape shape) {
        floats_.push_back(made_up_rows(1, shape.elements(), uint32_t(floats_.size())));
        return bind(graph.input(name, DType::f32, shape), {DType::f32, shape, floats_.back().data()});
    }
    ValueId number(const char * name, float value) {
        const ValueId id = numbers(name, {1});
        floats_.back() = {value};
        bound_.back().second.data = floats_.back().data();
        return id;
    }
    ValueId integers(const char * name, const std::vector<int32_t> & values) {
        integers_.push_back(values);
        const Shape shape = {int64_t(values.size())};
        return bind(graph.input(name, DType::i32, shape), {DType::i32, shape, integers_.back().data()});
    }
    ValueId weight(DType dtype, Shape shape) {
        weights_.emplace_back(dtype, shape.rows(), shape.last(), shape.rows(), uint32_t(weights_.size() + 7));
        if (shape.rank == 3) weights_.back() = {dtype, shape.rows(), shape.last(), shape[1], uint32_t(weights_.size())};
        return bind(graph.weight("w" + std::to_string(weights_.size()), dtype, shape), weights_.back().tensor(shape));
    }
    // In 12 bits a number.
    ValueId compact(int64_t n) {
        const ValueId id = weight(DType::bf16, {n, k});
        REQUIRE(cpu::make_compact(bound_.back().second, *pool_).ok());
        REQUIRE(bound_.back().second.is_compact());
        return id;
    }
    ValueId linear(ValueId from, DType dtype, int64_t n, bool few) {
        return graph.add(LinearParams{few}, {from, weight(dtype, {n, graph.value(from).shape.last()})}, "linear");
    }
    ValueId linear(ValueId from, DType dtype, int64_t n) { return linear(from, dtype, n, few_rows); }
    ValueId grouped(ValueId from, DType dtype, int64_t n, bool cached = false) {
        const ValueId w = weight(dtype, {cached ? experts + 2 : experts, n, k});
        const ValueId places = cached ? integers("places", {7, 0, -1, 5, 2, 3}) : no_value; // the third has no rows
        return graph.add(GroupedLinearParams{Row::token, chosen, few_rows}, {from, w, slots, offsets, no_value, places},
                         "experts");
    }

    size_t fused_from(size_t first) const { return backend_->fusion(graph, first).nodes; }

    // All outputs; `apart`: by a launch of each node.
    std::vector<std::vector<float>> run(bool apart) {
        REQUIRE_MESSAGE(graph.status().ok(), graph.status().message());
        PreparedGraph prepared = PreparedGraph::create(*backend_, graph).take();
        const DeviceMemory arena = backend_->allocate(prepared.plan().bytes + 64).take();
        backend_->clear(arena.get(), prepared.plan().bytes);
        prepared.bind_arena(arena.get());
        for (const auto & [id, tensor] : bound_) prepared.bind(id, tensor);
        PreparedGraph::Hooks hooks;
        if (apart) hooks.on_tap = [](const Tap &, const Tensor &) { return Status(); };
        REQUIRE(prepared.run(hooks).ok());
        std::vector<std::vector<float>> all;
        for (const Node & node : graph.nodes()) {
            const Tensor y = prepared.tensor_of(node.outputs[0]);
            all.emplace_back(y.as<float>(), y.as<float>() + y.shape.elements());
        }
        return all;
    }

    Graph graph;
    const bool few_rows;
    ValueId x, slots, offsets;

  private:
    ValueId bind(ValueId id, Tensor tensor) {
        bound_.push_back({id, tensor});
        return id;
    }
    std::unique_ptr<ThreadPool> pool_;
    std::unique_ptr<Backend> backend_;
    std::deque<WeightData> weights_;
    std::deque<std::vector<float>> floats_;
    std::deque<std::vector<int32_t>> integers_;
    std::vector<std::pair<ValueId, Tensor>> bound_;
};

} // namespace

TEST_CASE("fusions of the CPU: products of the same rows have the same bits together, for any weights and threads") {
    for (const Precision precision : {Precision::f32, Precision::bf16})
        for (const int threads : {1, 2, 5})
            for (const bool few : {false, true})
                for (const int64_t rows : {1, 2, 45, 600}) {
                    if (few && rows == 600) continue;
                    Products p(precision, threads, rows, few);
                    p.graph.add(RmsNormParams{}, {p.x, p.numbers("norm", {k})}, "norm"); // memory of its own
                    for (const auto & [dtype, n] :
                         {std::pair(DType::bf16, 131), {DType::f4, 64}, {DType::f32, 5}, {DType::f4, 1}})
                        p.linear(p.x, dtype, n);
                    p.graph.add(LinearParams{few}, {p.x, p.compact(96)}, "compact"); // from an odd column on
                    p.grouped(p.x, DType::f4, 48), p.grouped(p.x, DType::bf16, 31), p.grouped(p.x, DType::f4, 16, true);
                    for (const Node & node : p.graph.nodes()) p.graph.keep(node.outputs[0]);
                    CHECK(p.fused_from(1) == 5);
                    CHECK(p.fused_from(6) == 3);
                    CHECK(p.run(false) == p.run(true));
                }
}

TEST_CASE("fusions of the CPU: experts with several rows of one token have room for them") {
    Products p(Precision::f32, 3);
    p.slots = p.integers("all slots", {0, 1, 2, 1, 0}), p.offsets = p.integers("two a group", {0, 2, 2, 4, 4, 5, 5});
    for (int i = 0; i < 4; i++) p.grouped(p.x, DType::f4, 32);
    for (const Node & node : p.graph.nodes()) p.graph.keep(node.outputs[0]);
    CHECK(p.fused_from(0) == 4);
    CHECK(p.run(false) == p.run(true)); // AddressSanitizer sees what lies beyond
}

TEST_CASE("fusions of the CPU: what needs another product, other rows or a row of its own goes alone") {
    Products p(Precision::f32, 2);
    const ValueId rows = p.numbers("rows", {2, k}), scale = p.numbers("scale", {1}), bias = p.numbers("bias", {k});
    const ValueId first = p.linear(p.x, DType::bf16, k); // 0
    p.linear(first, DType::bf16, 7);
    p.linear(p.x, DType::bf16, 7, false); // 2: as many rows
    p.linear(p.x, DType::bf16, 7);
    p.linear(rows, DType::bf16, 7); // 4
    const ValueId half = p.graph.add(LinearParams{true}, {p.x, p.weight(DType::f4, {2 * k, k}), scale}, "W4A4");
    p.graph.add(LinearParams{true}, {p.x, p.weight(DType::f4, {16, k}), scale}, "W4A4"); // 6
    p.graph.add(LinearParams{true}, {p.x, p.weight(DType::bf16, {k, k}), no_value, bias}, "bias");
    p.grouped(p.x, DType::bf16, 7); // 8
    p.linear(p.x, DType::bf16, 7);
    p.linear(half, DType::bf16, 7); // 10: the same numbers as one row or as two
    p.linear(p.graph.reshape(half, {2, k}), DType::bf16, 7);
    for (const Node & node : p.graph.nodes()) p.graph.keep(node.outputs[0]);
    for (size_t n = 0; n < p.graph.nodes().size(); n++) CHECK(p.fused_from(n) == 1);
    CHECK(p.run(false) == p.run(true));
}

TEST_CASE("fusions of the CPU: rows that are quantized by one scale are so once, by two scales twice") {
    for (const float other : {9.5f, 4.25f}) {
        Products p(Precision::f32, 3, 70, false);
        const ValueId scales[] = {p.number("scale", 9.5f), p.number("other scale", other)};
        for (const ValueId scale : scales)
            p.graph.add(LinearParams{}, {p.x, p.weight(DType::f4, {48, k}), scale}, "W4A4");
        for (const Node & node : p.graph.nodes()) p.graph.keep(node.outputs[0]);
        CHECK(p.fused_from(0) == 2);
        CHECK(p.run(false) == p.run(true));
    }
}
