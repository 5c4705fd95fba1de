#include "cpu/few_rows.h"
#include "cpu/linear_kernels.h"
#include "cpu/row_kernels.h"

namespace gnv::cpu {

namespace {

// Inputs: x [.., K], weight [N, K], optional input_scale [1], optional bias [N].
GemmProblem problem_of_linear(const KernelCall & call) {
    const Tensor &x = call.inputs[0], &weight = call.inputs[1], &input_scale = call.inputs[2];
    GemmProblem problem;
    problem.n = weight.shape[0];
    problem.k = weight.shape[1];
    problem.m = call.outputs[0].shape.rows();
    problem.a = x.as<const float>();
    problem.a_stride = problem.k;
    problem.weight = weight;
    problem.input_scale = input_scale.as<const float>();
    problem.c = call.outputs[0].as<float>();
    problem.c_stride = problem.n;
    const bool has_bias = call.inputs[3].exists();
    problem.precision = has_bias ? Precision::f32 : call.precision; // the sum is rounded with its bias
    problem.bf16_rows = call.precision == Precision::bf16;
    return problem;
}

} // namespace

Status multiply(std::span<KernelCall> calls) {
    return guard_exceptions([&] {
        std::vector<GemmProblem> problems;
        const KernelCall & first = calls[0];
        bool is_few = false;
        if (const auto * const grouped = std::get_if<GroupedLinearParams>(&first.params)) {
            is_few = grouped->few_rows;
            for (int64_t group = 0; group < groups_of(first); group++) // those of the same rows together
                for (const KernelCall & call : calls) add_problem_of_group(call, group, problems);
        } else {
            is_few = first.as<LinearParams>().few_rows;
            for (const KernelCall & call : calls) problems.push_back(problem_of_linear(call));
        }
        return (is_few ? few_rows : gemm)(problems.data(), int64_t(problems.size()), first.scratch, *first.threads);
    });
}

namespace {

Status run_linear(KernelCall & call) {
    GNV_TRY(multiply({&call, 1}));
    const auto * const bias = call.inputs[3].as<const float>();
    if (!bias) return {};
    const Tensor & y = call.outputs[0];
    const int64_t n = y.shape.last();
    return for_blocks(*call.threads, y.shape.rows(), n, [&](int64_t first, int64_t last, int) {
        for (int64_t r = first; r < last; r++) {
            float * const row = y.as<float>() + r * n;
            loops(call).rows.add(row, bias, n, rounds(call), row);
        }
    });
}

uint64_t linear_scratch_bytes(const KernelCall & call) {
    const int64_t rows = call.outputs[0].shape.rows();
    if (call.as<LinearParams>().few_rows) return few_rows_scratch_bytes(rows, call.inputs[1].shape.last());
    return gemm_scratch_bytes(call, rows, call.inputs[2]);
}

} // namespace

const KernelEntry linear_entry = {run_linear, linear_scratch_bytes};

} // namespace gnv::cpu
