#include "cpu/few_rows.h"
#include "cpu/linear_kernels.h"

namespace gnv::cpu {

Tensor weight_of_group(const Tensor & weight, int64_t group, int64_t place) {
    const int64_t rows = weight.shape[1];
    Tensor slice = rows_from(weight, place * rows, {rows, weight.shape[2]});
    if (weight.global_scales) slice.global_scales += group * rows / weight.global_scale_rows;
    return slice;
}

namespace {

// Inputs: x [R, K], weight [G or C, N, K], slots [n], offsets [G + 1], optional input_scales [G], optional places [G].
GemmProblem problem_of_group(const KernelCall & call, int64_t group) {
    using Row = GroupedLinearParams::Row;
    const auto & params = call.as<GroupedLinearParams>();
    const Tensor &x = call.inputs[0], &weight = call.inputs[1], &input_scales = call.inputs[4];
    const auto * const slots = call.inputs[2].as<const int32_t>();
    const auto * const offsets = call.inputs[3].as<const int32_t>();
    const int64_t first = offsets[group];
    GemmProblem problem;
    problem.m = offsets[group + 1] - first;
    problem.n = weight.shape[1];
    problem.k = weight.shape[2];
    problem.a = x.as<const float>();
    problem.a_stride = problem.k;
    if (params.row == Row::own) {
        problem.a += first * problem.k;
    } else {
        problem.a_rows = slots + first;
        problem.a_divisor = int32_t(params.slots_per_token);
    }
    const auto * const places = call.inputs[5].as<const int32_t>();
    problem.weight = weight_of_group(weight, group, places ? places[group] : group);
    if (input_scales.exists()) problem.input_scale = input_scales.as<const float>() + group;
    problem.c = call.outputs[0].as<float>() + first * problem.n;
    problem.c_stride = problem.n;
    problem.precision = call.precision;
    problem.bf16_rows = call.precision == Precision::bf16;
    return problem;
}

Status run_grouped_linear(KernelCall & call) { return multiply({&call, 1}); }

uint64_t grouped_linear_scratch_bytes(const KernelCall & call) {
    const int64_t rows = call.inputs[2].shape.last();
    if (call.as<GroupedLinearParams>().few_rows) return few_rows_scratch_bytes(rows, call.inputs[1].shape.last());
    return gemm_scratch_bytes(call, rows, call.inputs[4]);
}

} // namespace

void add_problem_of_group(const KernelCall & call, int64_t group, std::vector<GemmProblem> & problems) {
    const auto * const offsets = call.inputs[3].as<const int32_t>();
    if (offsets[group] < offsets[group + 1])
        problems.push_back(problem_of_group(call, group)); // else it may have no place
}

const KernelEntry grouped_linear_entry = {run_grouped_linear, grouped_linear_scratch_bytes};

} // namespace gnv::cpu
