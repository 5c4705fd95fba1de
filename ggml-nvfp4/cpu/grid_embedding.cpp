#include "cpu/row_kernels.h"

#include <cmath>

namespace gnv::cpu {

namespace {

// Where a position of a grid lies between two lines of the table's.
struct Place {
    int64_t before, after;
    float share; // of the one after

    Place(int32_t position, int32_t extent, int64_t side) {
        const float at = float(position) * float(side - 1) / float(std::max(extent - 1, 1));
        before = std::clamp<int64_t>(int64_t(at), 0, side - 1);
        after = std::min(before + 1, side - 1);
        share = at - float(before);
    }
};

Status run(KernelCall & call) {
    const Tensor & table = call.inputs[0];
    const int64_t count = call.inputs[1].shape[1], width = table.shape[1];
    const auto side = int64_t(std::llround(std::sqrt(double(table.shape[0]))));
    const auto * const positions = call.inputs[1].as<const int32_t>();
    const auto * const extents = call.inputs[2].as<const int32_t>();
    float * const y = call.outputs[0].as<float>();
    return for_blocks(*call.threads, count, 2 * width, [&](int64_t first, int64_t last, int) {
        for (int64_t t = first; t < last; t++) {
            const Place row(positions[count + t], extents[t], side);
            const Place column(positions[2 * count + t], extents[count + t], side);
            const auto at = [&](int64_t i, int64_t j) { return table.as<const float>() + (i * side + j) * width; };
            const float * const rows[] = {at(row.before, column.before), at(row.before, column.after),
                                          at(row.after, column.before), at(row.after, column.after)};
            const float above = 1.0f - row.share, left = 1.0f - column.share;
            const float weights[] = {above * left, above * column.share, row.share * left, row.share * column.share};
            loops(call).rows.blend_four(rows, weights, width, rounds(call), y + t * width);
        }
    });
}

} // namespace

const KernelEntry grid_embedding_entry = {run};

} // namespace gnv::cpu
