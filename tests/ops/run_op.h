// Runs one kernel on tensors of a test: with scratch memory of just the size that it asks for, filled with rubbish.
#pragma once

#include "exec/kernel.h"
#include "graph/graph.h"

#include <vector>

namespace gnv::test {

struct OpRun {
    Precision precision = Precision::f32;
    int threads = 1;
    int64_t bad_row = -1; // set by the run
};

inline Tensor tensor_of(std::vector<float> & values, Shape shape) { return {DType::f32, shape, values.data()}; }
inline Tensor tensor_of(std::vector<double> & values, Shape shape) { return {DType::f64, shape, values.data()}; }
inline Tensor tensor_of(std::vector<int32_t> & values, Shape shape) { return {DType::i32, shape, values.data()}; }
inline Tensor tensor_of(std::vector<int64_t> & values, Shape shape) { return {DType::i64, shape, values.data()}; }
inline Tensor tensor_of(std::vector<uint8_t> & values, Shape shape) { return {DType::u8, shape, values.data()}; }
inline Tensor tensor_of(std::vector<uint16_t> & values, Shape shape) { return {DType::bf16, shape, values.data()}; }

inline Status run_op(const KernelEntry & kernel, const OpParams & params, std::vector<Tensor> inputs,
                     std::vector<Tensor> outputs, OpRun & run) {
    GNV_ASSIGN(std::unique_ptr<ThreadPool> threads, ThreadPool::create(run.threads));
    inputs.resize(Node::max_inputs); // absent ones have no data
    KernelCall call{params, run.precision, inputs.data(), outputs.data(), nullptr, threads.get()};
    const uint64_t bytes = kernel.scratch_bytes ? kernel.scratch_bytes(call) : 0;
    std::vector<uint8_t> scratch(bytes + 64, 0xa5);
    call.scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    Status status = kernel.run(call);
    run.bad_row = call.bad_row;
    return status;
}

inline Status run_op(const KernelEntry & kernel, const OpParams & params, std::vector<Tensor> inputs,
                     std::vector<Tensor> outputs, Precision precision = Precision::f32, int threads = 1) {
    OpRun run{precision, threads};
    return run_op(kernel, params, std::move(inputs), std::move(outputs), run);
}

} // namespace gnv::test
