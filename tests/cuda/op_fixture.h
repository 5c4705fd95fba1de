// One op on the CPU and on a CUDA device, from the same inputs: a graph of one node on each backend.
#pragma once

#include "codec/nvfp4.h"
#include "exec/prepared.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace gnv::test {

inline float to_bf16(float value) { return nvfp4::bf16_to_float(nvfp4::bf16_from_float(value)); }

// Numbers of one tensor, in a form that every dtype can be made from.
struct OpInput {
    enum class Role : uint8_t { activation, weight, fixed, state, cache } role = Role::activation;
    DType dtype = DType::f32; // of weights, fixed inputs and states
    Shape shape;
    std::vector<float> numbers;             // activations, f32 and bf16
    std::vector<int32_t> indices;           // i32
    std::vector<uint8_t> bytes;             // u8, i64 (zeros), codes of f4
    std::vector<uint8_t> block_scales = {}; // of f4
    std::vector<float> global_scales = {};  // of f4, one for each matrix
};

// What an op gets, in the order of its contract; `present[i]` false leaves an optional one out.
struct OpCase {
    OpParams params;
    std::vector<OpInput> inputs;
    std::vector<bool> present;
};

// Many repeat themselves: those are for measuring.
inline std::vector<float> random_numbers(std::mt19937 & random, int64_t count, float scale) {
    constexpr size_t period = 5000011;
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> numbers(static_cast<size_t>(count));
    for (size_t i = 0; i < numbers.size(); i++) numbers[i] = i < period ? to_bf16(normal(random)) : numbers[i - period];
    return numbers;
}
inline OpInput activation(std::mt19937 & random, Shape shape, float scale = 1) {
    return {OpInput::Role::activation, DType::f32, shape, random_numbers(random, shape.elements(), scale), {}, {}};
}
inline OpInput weight(std::mt19937 & random, DType dtype, Shape shape, float scale = 1) {
    return {OpInput::Role::weight, dtype, shape, random_numbers(random, shape.elements(), scale), {}, {}};
}
// Random codes and block scales from 2^-4 to 16. `global`: the first matrix's scale, the next ones' grow by a tenth.
inline OpInput nvfp4_weight(std::mt19937 & random, Shape shape, float global) {
    OpInput input = {OpInput::Role::weight, DType::f4, shape, {}, {}, {}};
    input.bytes.resize(size_t(tensor_bytes(DType::f4, shape)));
    for (uint8_t & pair : input.bytes) pair = uint8_t(random());
    input.block_scales.resize(size_t(shape.elements() / nvfp4::block_size));
    for (uint8_t & scale : input.block_scales) scale = uint8_t(0x18 + random() % 0x41);
    for (int64_t matrix = 0; matrix < (shape.rank == 3 ? shape[0] : 1); matrix++)
        input.global_scales.push_back(global * (1 + 0.1f * float(matrix)));
    return input;
}
inline OpInput indices(Shape shape, std::vector<int32_t> values) {
    return {OpInput::Role::fixed, DType::i32, shape, {}, std::move(values), {}};
}
inline OpInput numbers(Shape shape, std::vector<float> values) {
    return {OpInput::Role::fixed, DType::f32, shape, std::move(values), {}, {}};
}
inline OpInput mask(std::vector<uint8_t> values) {
    return {OpInput::Role::fixed, DType::u8, {int64_t(values.size())}, {}, {}, std::move(values)};
}
// A state that holds activations.
inline OpInput cache(Shape shape, std::vector<float> values) {
    return {OpInput::Role::cache, DType::f32, shape, std::move(values), {}, {}};
}
inline bool is_state(const OpInput & input) {
    return input.role == OpInput::Role::state || input.role == OpInput::Role::cache;
}
inline OpInput zero_state(DType dtype, Shape shape) {
    OpInput input = {OpInput::Role::state, dtype, shape, {}, {}, {}};
    input.bytes.assign(size_t(tensor_bytes(dtype, shape)), 0);
    return input;
}

// Outputs and, after them, states; as numbers.
struct OpResult {
    std::vector<std::vector<float>> tensors;
    double seconds = 0; // of one run, when asked for
};

class OpRunner {
  public:
    explicit OpRunner(Backend & backend) : backend_(backend) {}

    // `replayed`: results are those of a second run from the same states, which a device that records replays.
    OpResult run(const OpCase & op, int repeats = 0, bool replayed = false) {
        exact.clear();
        Graph graph(Precision::bf16, backend_.activation_dtype());
        std::vector<ValueId> ids;
        std::vector<DeviceMemory> memory;
        std::vector<Tensor> tensors;
        for (size_t i = 0; i < op.inputs.size(); i++) {
            const OpInput & input = op.inputs[i];
            if (!op.present.empty() && !op.present[i]) {
                ids.push_back(no_value);
                tensors.emplace_back();
                continue;
            }
            const bool is_activation = input.role == OpInput::Role::activation || input.role == OpInput::Role::cache;
            const DType dtype = is_activation ? graph.activation_dtype() : input.dtype;
            const std::string name = "input " + std::to_string(i);
            ids.push_back(input.role == OpInput::Role::weight ? graph.weight(name, dtype, input.shape)
                          : is_state(input)                   ? graph.state(name, dtype, input.shape)
                                                              : graph.input(name, dtype, input.shape));
            memory.push_back(upload(input, dtype));
            Tensor tensor;
            tensor.dtype = dtype;
            tensor.shape = input.shape;
            tensor.data = memory.back().get();
            if (dtype == DType::f4) {
                memory.push_back(upload_bytes(input.block_scales.data(), input.block_scales.size()));
                tensor.block_scales = static_cast<const uint8_t *>(memory.back().get());
                memory.push_back(upload_bytes(input.global_scales.data(), input.global_scales.size() * sizeof(float)));
                tensor.global_scales = static_cast<const float *>(memory.back().get());
                tensor.global_scale_rows = input.shape[input.shape.rank - 2];
            }
            tensors.push_back(tensor);
        }
        graph.add(op.params, ids, "op");
        REQUIRE_MESSAGE(graph.status().ok(), graph.status().message());
        const Node & node = graph.nodes().front();
        for (const ValueId output : node.outputs)
            if (output != no_value) graph.keep(output);
        Result<PreparedGraph> created = PreparedGraph::create(backend_, graph);
        REQUIRE_MESSAGE(created.ok(), created.status().message());
        PreparedGraph prepared = created.take();
        const DeviceMemory arena = backend_.allocate(prepared.plan().bytes + 64).take();
        prepared.bind_arena(arena.get());
        for (size_t i = 0; i < ids.size(); i++)
            if (ids[i] != no_value) prepared.bind(ids[i], tensors[i]);
        const auto once = [&] {
            const Status status = prepared.run();
            REQUIRE_MESSAGE(status.ok(), status.message());
        };
        once();
        if (replayed) {
            for (size_t i = 0; i < ids.size(); i++)
                if (ids[i] != no_value && is_state(op.inputs[i])) {
                    const DeviceMemory before = upload(op.inputs[i], tensors[i].dtype);
                    backend_.copy(tensors[i].data, before.get(), tensor_bytes(tensors[i].dtype, tensors[i].shape));
                    REQUIRE(backend_.synchronize().ok());
                }
            once();
            CHECK(prepared.replays() == (backend_.can_record() ? 1 : 0));
        }
        OpResult result;
        for (const ValueId output : node.outputs)
            if (output != no_value) result.tensors.push_back(download(prepared.tensor_of(output)));
        for (size_t i = 0; i < ids.size(); i++)
            if (ids[i] != no_value && is_state(op.inputs[i])) result.tensors.push_back(download(tensors[i]));
        if (repeats > 0) {
            once();
            REQUIRE(backend_.synchronize().ok());
            const auto start = std::chrono::steady_clock::now();
            for (int i = 0; i < repeats; i++) once();
            REQUIRE(backend_.synchronize().ok());
            result.seconds =
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / double(repeats);
        }
        flops = node_flops(graph, node);
        bytes = node_bytes(graph, node);
        return result;
    }

    double flops = 0, bytes = 0; // of the last case
    std::vector<double> exact;   // what it downloaded in F64

  private:
    DeviceMemory upload(const OpInput & input, DType dtype) {
        std::vector<uint8_t> data(size_t(tensor_bytes(dtype, input.shape)));
        if (dtype == DType::bf16) {
            for (size_t i = 0; i < input.numbers.size(); i++) {
                const uint16_t bits = nvfp4::bf16_from_float(input.numbers[i]);
                memcpy(data.data() + i * 2, &bits, 2);
            }
        } else if (!input.numbers.empty() && dtype_traits(dtype).bits == 8) { // bytes as numbers
            for (size_t i = 0; i < data.size(); i++) data[i] = uint8_t(input.numbers[i]);
        } else if (!input.numbers.empty()) {
            memcpy(data.data(), input.numbers.data(), data.size());
        } else if (!input.indices.empty()) {
            memcpy(data.data(), input.indices.data(), data.size());
        } else {
            memcpy(data.data(), input.bytes.data(), data.size());
        }
        return upload_bytes(data.data(), data.size());
    }
    DeviceMemory upload_bytes(const void * data, size_t size) {
        DeviceMemory memory = backend_.allocate(size).take();
        backend_.upload(memory.get(), data, size);
        REQUIRE(backend_.synchronize().ok());
        return memory;
    }

    std::vector<float> download(const Tensor & tensor) {
        std::vector<uint8_t> data(size_t(tensor_bytes(tensor.dtype, tensor.shape)));
        backend_.download(data.data(), tensor.data, data.size());
        const Status status = backend_.synchronize();
        REQUIRE_MESSAGE(status.ok(), status.message());
        std::vector<float> numbers(size_t(tensor.shape.elements()));
        for (size_t i = 0; i < numbers.size(); i++) {
            switch (tensor.dtype) {
            case DType::bf16: {
                uint16_t bits;
                memcpy(&bits, data.data() + i * 2, 2);
                numbers[i] = nvfp4::bf16_to_float(bits);
                break;
            }
            case DType::i32: {
                int32_t value;
                memcpy(&value, data.data() + i * 4, 4);
                numbers[i] = float(value);
                break;
            }
            case DType::i64: {
                int64_t value;
                memcpy(&value, data.data() + i * 8, 8);
                numbers[i] = float(value);
                break;
            }
            case DType::f64: {
                double value;
                memcpy(&value, data.data() + i * 8, 8);
                numbers[i] = float(value);
                exact.push_back(value);
                break;
            }
            case DType::f8_e4m3:
            case DType::f8_e8m0: numbers[i] = float(data[i]); break; // bytes
            default: memcpy(&numbers[i], data.data() + i * 4, 4); break;
            }
        }
        return numbers;
    }

    Backend & backend_;
};

} // namespace gnv::test
