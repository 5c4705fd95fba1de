// Each row by one thread: the bound is the `wanted`-th largest number.
#include "cpu/row_kernels.h"

#include <algorithm>
#include <cmath>

namespace gnv::cpu {

namespace {

Status run(KernelCall & call) {
    const Tensor & x = call.inputs[0];
    const auto & params = call.as<TopParams>();
    const int64_t columns = x.shape.last();
    const auto * const allowed = call.inputs[1].as<const uint8_t>();
    return call.threads->parallel_for(x.shape.rows(), [&](int64_t r) -> Status {
        const float * const row = x.as<const float>() + r * columns;
        int32_t * const begin = static_cast<int32_t *>(call.scratch) + r * columns;
        int32_t * end = begin;
        for (int64_t i = 0; i < columns; i++)
            if (!allowed || allowed[i]) *end++ = int32_t(i);
        const auto is_larger = [](float a, float b) { return std::isnan(b) ? false : std::isnan(a) || a > b; };
        if (params.wanted < end - begin) {
            int32_t * const last = begin + params.wanted - 1;
            std::nth_element(begin, last, end, [&](int32_t a, int32_t b) { return is_larger(row[a], row[b]); });
            const float bound = row[*last];
            end = std::partition(last + 1, end, [&](int32_t i) { return !is_larger(bound, row[i]); });
        }
        const int64_t count = end - begin;
        int32_t * const ids = call.outputs[0].as<int32_t>() + r * (1 + params.most);
        ids[0] = int32_t(count);
        if (count > params.most) return {};
        std::copy(begin, end, ids + 1);
        float * const numbers = call.outputs[1].as<float>() + r * params.most;
        for (int64_t i = 0; i < count; i++) numbers[i] = row[begin[i]];
        return {};
    });
}

uint64_t scratch_bytes(const KernelCall & call) { // columns that are allowed
    return uint64_t(call.inputs[0].shape.elements()) * sizeof(int32_t);
}

} // namespace

const KernelEntry top_entry = {run, scratch_bytes};

} // namespace gnv::cpu
