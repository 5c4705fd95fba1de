// Each row in parts, whose largest numbers are compared in order.
#include "cpu/row_kernels.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace gnv::cpu {

namespace {

constexpr int64_t part_columns = 1 << 15;

struct Largest {
    int32_t column = -1;
    float number = 0;
};

// Whether b, which comes later, takes the place of a.
bool is_larger(const Largest & a, const Largest & b) {
    if (b.column < 0 || std::isnan(a.number)) return false;
    return a.column < 0 || std::isnan(b.number) || b.number > a.number;
}

Largest largest_of(const float * row, const uint8_t * allowed, int64_t first, int64_t last) {
    Largest largest;
    for (int64_t i = first; i < last; i++) {
        if (allowed && !allowed[i]) continue;
        const Largest next = {int32_t(i), row[i]};
        if (is_larger(largest, next)) largest = next;
    }
    return largest;
}

Status run(KernelCall & call) {
    const Tensor & x = call.inputs[0];
    const int64_t rows = x.shape.rows(), columns = x.shape.last();
    const int64_t parts = (columns + part_columns - 1) / part_columns;
    const auto * const allowed = call.inputs[1].as<const uint8_t>();
    auto * const found = static_cast<Largest *>(call.scratch); // [rows, parts]
    GNV_TRY(call.threads->parallel_for(rows * parts, [&](int64_t i) -> Status {
        const int64_t first = i % parts * part_columns;
        found[i] = largest_of(x.as<const float>() + i / parts * columns, allowed, first,
                              std::min(columns, first + part_columns));
        return {};
    }));
    for (int64_t row = 0; row < rows; row++) {
        Largest largest;
        for (int64_t part = 0; part < parts; part++)
            if (is_larger(largest, found[row * parts + part])) largest = found[row * parts + part];
        call.outputs[0].as<int32_t>()[row] = largest.column;
        call.outputs[1].as<float>()[row] = largest.number;
    }
    return {};
}

uint64_t scratch_bytes(const KernelCall & call) {
    const Shape & shape = call.inputs[0].shape;
    return uint64_t(shape.rows() * ((shape.last() + part_columns - 1) / part_columns)) * sizeof(Largest);
}

} // namespace

const KernelEntry largest_entry = {run, scratch_bytes};

} // namespace gnv::cpu
