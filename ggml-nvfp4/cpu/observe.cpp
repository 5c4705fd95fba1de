// Statistics of activations: fast loops for those that have one, the definition for others. Magnitudes are compared as
// integers, which also shows NaN and Inf; which row it was is asked only then.
#include "core/memory.h"
#include "cpu/row_kernels.h"
#include "cpu/row_moments.h"

#include <cmath>
#include <cstring>

namespace gnv::cpu {

namespace {

constexpr int32_t largest_finite = 0x7f7fffff;

int64_t padded_groups(int64_t groups) { return (groups + 15) / 16 * 16; }

Status find_bad(KernelCall & call, const GroupedRows & observed) {
    for (int64_t row = 0; row < observed.rows; row++) {
        const float * const x = observed.x + row * observed.stride;
        if (loops(call).rows.largest_magnitude(x, observed.stride) <= largest_finite) continue;
        int64_t column = 0;
        while (std::isfinite(x[column])) column++;
        call.bad_row = row;
        return fail(Code::bad_value, "feature ", column % observed.columns, " is ",
                    std::isnan(x[column]) ? "NaN" : "infinite");
    }
    return {};
}

// The largest magnitudes in rows [first, last), by group.
void largest_of_rows(const RowLoops & loops, const GroupedRows & observed, int64_t first, int64_t last,
                     int32_t * largest) {
    const auto take = [&](int64_t g, int64_t offset, int64_t count) {
        largest[g] = std::max(largest[g], loops.largest_magnitude(observed.x + offset, count));
    };
    if (observed.offsets) {
        const int32_t * const end = observed.offsets + observed.groups + 1;
        for (int64_t g = std::upper_bound(observed.offsets, end, first) - observed.offsets - 1; first < last; g++) {
            const int64_t stop = std::min<int64_t>(last, observed.offsets[g + 1]);
            if (stop > first) take(g, first * observed.stride, (stop - first) * observed.stride);
            first = std::max(first, stop);
        }
    } else if (observed.groups == 1) {
        take(0, first * observed.stride, (last - first) * observed.stride);
    } else {
        for (int64_t row = first; row < last; row++)
            for (int64_t g = 0; g < observed.groups; g++)
                take(g, row * observed.stride + g * observed.columns, observed.columns);
    }
}

Status observe_moments_16(KernelCall & call, const GroupedRows & observed) {
    float * const total = call.inputs[1].as<float>();
    const int64_t blocks_per_group = observed.columns / 16, blocks = observed.groups * blocks_per_group;
    return for_blocks(*call.threads, blocks, 16 * observed.rows, [&](int64_t first, int64_t last, int) {
        for (int64_t block = first; block < last; block++) {
            const int64_t g = block / blocks_per_group, column = block % blocks_per_group * 16;
            loops(call).rows.add_products(observed.group(g) + column, observed.stride, observed.group_rows(g),
                                          total + block * 256);
        }
    });
}

Status observe_moments(KernelCall & call, const GroupedRows & observed) {
    MomentRows rows;
    rows.groups = observed.groups, rows.columns = observed.columns, rows.rows = observed.rows;
    rows.x = observed.x, rows.stride = observed.stride, rows.ends = observed.offsets;
    return add_moments(rows, call.inputs[1].as<float>(), call.scratch, *call.threads);
}

// Values that are not finite land in the last bin: the maximum tells of them.
void count_magnitudes(const float * x, int64_t count, int64_t * bins) {
    for (int64_t i = 0; i < count; i++) bins[magnitude_bin(x[i])]++;
}

Status observe_magnitudes(KernelCall & call, const GroupedRows & observed) {
    const int64_t size = observed.groups * magnitude_bins;
    int64_t * const partial = static_cast<int64_t *>(call.scratch); // [threads, groups, bins]
    std::fill_n(partial, size * call.threads->size(), 0);
    GNV_TRY(for_blocks(*call.threads, observed.rows, observed.stride, [&](int64_t first, int64_t last, int thread) {
        int64_t * const bins = partial + thread * size;
        int64_t g = 0;
        for (int64_t row = first; row < last; row++) {
            const float * const x = observed.x + row * observed.stride;
            if (observed.offsets) {
                while (row >= observed.offsets[g + 1]) g++;
                count_magnitudes(x, observed.stride, bins + g * magnitude_bins);
                continue;
            }
            for (int64_t i = 0; i < observed.groups; i++)
                count_magnitudes(x + i * observed.columns, observed.columns, bins + i * magnitude_bins);
        }
    }));
    int64_t * const total = call.inputs[1].as<int64_t>();
    for (int64_t i = 0; i < size * call.threads->size(); i++) total[i % size] += partial[i];
    return {};
}

// A group belongs to one thread.
Status observe_by_definition(KernelCall & call, const GroupedRows & observed) {
    const Statistic & statistic = *call.as<ObserveParams>().statistic;
    const uint64_t total_bytes = tensor_bytes(statistic.dtype, statistic.shape(observed.columns));
    const int64_t cost = observed.rows * observed.columns;
    return for_blocks(*call.threads, observed.groups, cost, [&](int64_t first, int64_t last, int) {
        for (int64_t g = first; g < last; g++)
            for (int64_t r = 0; r < observed.group_rows(g); r++)
                statistic.add(observed.group(g) + r * observed.stride, observed.columns,
                              call.inputs[1].as<uint8_t>() + uint64_t(g) * total_bytes);
    });
}

Status observe_maximum(KernelCall & call, const GroupedRows & observed) {
    return observe_maxima(call, observed, call.inputs[1].as<float>(), nullptr);
}

struct Loop {
    const Statistic * statistic;
    Status (*run)(KernelCall & call, const GroupedRows & observed);
    bool checks = false; // finds NaN and Inf itself, or lets them pass
};
constexpr Loop fast_loops[] = {
    {&Statistic::maximum, observe_maximum, true},
    {&Statistic::magnitudes, observe_magnitudes, true},
    {&Statistic::second_moments_16, observe_moments_16},
    {&Statistic::second_moments, observe_moments},
};

// --- Some rows ----------------------------------------------------------------------------------------------------------------

bool is_of_some_rows(const KernelCall & call) {
    return call.as<ObserveParams>().statistic->rows != Statistic::Rows::all;
}

bool is_of_all_products(const Statistic * statistic) {
    return statistic == &Statistic::fitted_moments || statistic == &Statistic::held_moments;
}

// Of statistics of some rows, in scratch memory: which rows, where they belong to groups, and what is made of them.
struct SomeRows {
    explicit SomeRows(const KernelCall & call)
        : params(call.as<ObserveParams>()), x(call.inputs[0]),
          columns(params.statistic->of_weights ? 1 : x.shape.last()),
          most(call.inputs[3].shape.rank > 0 ? call.inputs[3].shape.elements() : x.shape.rows()),
          threads(call.threads->size()) {}
    uint64_t list_bytes() const { // row of x and weight of each; offsets
        return rounded_to_64(uint64_t(most) * (sizeof(int64_t) + sizeof(float)) +
                             uint64_t(params.groups + 1) * sizeof(int32_t));
    }
    uint64_t bytes() const { // that, then rows, or what add_moments needs
        return list_bytes() + (is_of_all_products(params.statistic) ? moments_scratch_bytes(columns, threads)
                                                                    : uint64_t(most * columns) * sizeof(float));
    }

    const ObserveParams & params;
    const Tensor & x;
    const int64_t columns, most;
    const int threads;
};

struct ChosenRows {
    int64_t * from;  // [count]: row of x
    float * factors; // [count]
    int32_t * ends;  // [groups + 1]
    int64_t count;
};

ChosenRows choose_rows(KernelCall & call, const SomeRows & some) {
    const auto * const given = call.inputs[2].as<const int32_t>();
    const auto * const slots = call.inputs[3].as<const int32_t>();
    const auto * const weights = call.inputs[4].as<const float>();
    const auto * const positions = call.inputs[5].as<const int32_t>();
    const auto * const mask = call.inputs[6].as<const uint8_t>();
    ChosenRows chosen = {};
    chosen.from = static_cast<int64_t *>(call.scratch);
    chosen.factors = reinterpret_cast<float *>(chosen.from + some.most);
    chosen.ends = reinterpret_cast<int32_t *>(chosen.factors + some.most);
    const bool wants_held = some.params.statistic->rows == Statistic::Rows::held;
    const bool own = some.params.row == GroupedLinearParams::Row::own;
    int32_t count = 0;
    for (int64_t g = 0; g < some.params.groups; g++) {
        chosen.ends[g] = count;
        const int64_t first = slots ? given[g] : 0, end = slots ? given[g + 1] : some.x.shape.rows();
        for (int64_t j = first; j < end; j++) {
            const int64_t token = slots ? slots[j] / some.params.slots_per_token : j;
            if ((mask && mask[token] == 0) || is_held_back(positions[token]) != wants_held) continue;
            chosen.from[count] = slots && !own ? token : j;
            chosen.factors[count++] = slots ? weights[slots[j]] : 1;
        }
    }
    chosen.ends[some.params.groups] = count;
    chosen.count = count;
    return chosen;
}

Status run_of_some_rows(KernelCall & call) {
    const Statistic * const statistic = call.as<ObserveParams>().statistic;
    const SomeRows some(call);
    const ChosenRows chosen = choose_rows(call, some);
    if (chosen.count == 0) return {};
    auto * const to = reinterpret_cast<float *>(static_cast<uint8_t *>(call.scratch) + some.list_bytes());
    const auto * const x = some.x.as<const float>();
    const int64_t stride = some.x.shape.last();
    if (is_of_all_products(statistic)) {
        MomentRows rows;
        rows.groups = some.params.groups, rows.columns = some.columns, rows.rows = chosen.count;
        rows.x = x, rows.stride = stride;
        rows.ends = chosen.ends, rows.from = chosen.from, rows.factors = chosen.factors;
        return add_moments(rows, call.inputs[1].as<float>(), to, *call.threads);
    }
    // A tensor of dense rows with offsets.
    GNV_TRY(for_blocks(*call.threads, chosen.count, some.columns, [&](int64_t first, int64_t last, int) {
        for (int64_t i = first; i < last; i++) {
            const float * const row = x + chosen.from[i] * stride;
            if (statistic->of_weights)
                to[i] = chosen.factors[i];
            else
                for (int64_t c = 0; c < some.columns; c++) to[i * some.columns + c] = row[c] * chosen.factors[i];
        }
    }));
    Tensor rows, offsets;
    rows.dtype = DType::f32, rows.shape = {chosen.count, some.columns}, rows.data = to;
    offsets.dtype = DType::i32, offsets.shape = {some.params.groups + 1}, offsets.data = chosen.ends;
    const GroupedRows observed(rows, offsets, some.params.groups);
    if (statistic == &Statistic::fitted_moments_16 || statistic == &Statistic::held_moments_16)
        return observe_moments_16(call, observed);
    return observe_by_definition(call, observed);
}

uint64_t scratch_bytes(const KernelCall & call) {
    const ObserveParams & params = call.as<ObserveParams>();
    if (is_of_some_rows(call)) return SomeRows(call).bytes();
    if (params.statistic == &Statistic::magnitudes)
        return uint64_t(params.groups * magnitude_bins) * sizeof(int64_t) * uint64_t(call.threads->size());
    if (params.statistic == &Statistic::second_moments) {
        const int64_t groups = call.inputs[2].shape.rank > 0 ? 1 : params.groups; // in a row of x
        return moments_scratch_bytes(call.inputs[0].shape.last() / groups, call.threads->size());
    }
    return params.statistic == &Statistic::maximum ? maxima_scratch_bytes(params.groups, call.threads->size()) : 0;
}

Status run(KernelCall & call) {
    call.bad_row = -1;
    if (is_of_some_rows(call)) return run_of_some_rows(call);
    const ObserveParams & params = call.as<ObserveParams>();
    const GroupedRows observed(call.inputs[0], call.inputs[2], params.groups);
    Loop loop = {params.statistic, observe_by_definition};
    for (const Loop & fast : fast_loops)
        if (fast.statistic == params.statistic) loop = fast;
    if (!loop.checks) GNV_TRY(find_bad(call, observed));
    return loop.run(call, observed);
}

} // namespace

uint64_t maxima_scratch_bytes(int64_t groups, int threads) {
    return uint64_t(padded_groups(groups)) * sizeof(int32_t) * uint64_t(threads);
}

Status observe_maxima(KernelCall & call, const GroupedRows & observed, float * maxima, const MakeRows & make) {
    int32_t * const largest = static_cast<int32_t *>(call.scratch); // [threads, padded groups]
    const int64_t padded = padded_groups(observed.groups);
    const int64_t step =
        make ? std::max<int64_t>(1, elements_per_task / observed.stride) : observed.rows; // stay cached
    std::fill_n(largest, padded * call.threads->size(), 0);
    GNV_TRY(for_blocks(*call.threads, observed.rows, observed.stride, [&](int64_t first, int64_t last, int thread) {
        for (int64_t row = first; row < last; row += step) {
            const int64_t end = std::min(last, row + step);
            if (make) make(row, end);
            largest_of_rows(loops(call).rows, observed, row, end, largest + thread * padded);
        }
    }));
    for (int64_t i = padded; i < padded * call.threads->size(); i++)
        largest[i % padded] = std::max(largest[i % padded], largest[i]);
    for (int64_t g = 0; g < observed.groups; g++)
        if (largest[g] > largest_finite) return find_bad(call, observed);
    for (int64_t g = 0; g < observed.groups; g++) {
        float value;
        memcpy(&value, &largest[g], sizeof value);
        maxima[g] = std::max(maxima[g], value);
    }
    return {};
}

const KernelEntry observe_entry = {run, scratch_bytes};

} // namespace gnv::cpu
