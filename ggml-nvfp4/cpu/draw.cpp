// Each row in parts, whose results are joined in order.
#include "core/noise.h"
#include "cpu/row_kernels.h"

#include <algorithm>

namespace gnv::cpu {

namespace {

constexpr int64_t part_columns = 1 << 13;

int64_t parts_of(const KernelCall & call) { return (call.inputs[0].shape.last() + part_columns - 1) / part_columns; }

Status run(KernelCall & call) {
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows(), columns = x.shape.last(), parts = parts_of(call);
    const auto * const allowed = call.inputs[1].as<const uint8_t>();
    const auto * const draws = call.inputs[2].as<const Draw>();
    auto * const found = static_cast<Drawn *>(call.scratch); // [rows, parts]
    GNV_TRY(call.threads->parallel_for(rows * parts, [&](int64_t i) -> Status {
        const int64_t first = i % parts * part_columns, last = std::min(columns, first + part_columns);
        const float * const row = x.as<const float>() + i / parts * columns;
        Drawn drawn;
        for (int64_t column = first; column < last; column++)
            if (!allowed || allowed[column]) drawn.take(draws[i / parts], int32_t(column), row[column]);
        found[i] = drawn;
        return {};
    }));
    for (int64_t row = 0; row < rows; row++) {
        Drawn drawn;
        for (int64_t part = 0; part < parts; part++) drawn.take(found[row * parts + part]);
        call.outputs[0].as<int32_t>()[row] = drawn.id;
        call.outputs[1].as<float>()[row] = drawn.id < 0 ? 0.0f : x.as<const float>()[row * columns + drawn.id];
    }
    return {};
}

uint64_t scratch_bytes(const KernelCall & call) {
    return uint64_t(call.inputs[0].shape.rows() * parts_of(call)) * sizeof(Drawn);
}

} // namespace

const KernelEntry draw_entry = {run, scratch_bytes};

} // namespace gnv::cpu
