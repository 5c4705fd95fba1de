// The statistics of activations, one row of a table each. A row defines the total, how rows of activations are added to
// it and how totals merge; passes, sets of totals and the statistics file use the row and know no statistic by name.
//
// Totals do not depend on batches, ranges of experts, threads or devices. Maxima and counts are exact, in any order.
// Sums of floats are added row after row, in the order of positions, each addition rounded to the dtype of the total:
// where a batch ends makes no difference, but rows of one group must not be divided between two totals
// (Statistic::is_ordered).
//
// A new statistic is a row here, with its definition, and a case in cuda/observe.cu for devices. The CPU runs the
// definition; a faster loop in cpu/observe.cpp gives the same bits.
#pragma once

#include "core/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace gnv {

// Bins of Statistic::magnitudes, an eighth of an octave each, from 2^-16 to 2^16: bin 8 (e + 16) + m counts
// 2^e (1 + m / 8) <= |x| < 2^e (1 + (m + 1) / 8). The first and the last bin also count smaller and larger values.
inline constexpr int64_t magnitude_bins = 256;
inline int magnitude_bin(float value) {
    constexpr int32_t first = (127 - 16) << 3; // exponent and three bits of the fraction
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return int(std::clamp<int32_t>(((bits & 0x7fffffff) >> 20) - first, 0, magnitude_bins - 1));
}

struct Statistic {
    enum class Merge : uint8_t { maximum, sum };
    // Of all rows, or of those that methods of quantization are fitted to, or judged by: every tenth position of a text is held
    // back (is_held_back). Pads are in neither, and where a router chose the row, it is multiplied by the choice's weight.
    enum class Rows : uint8_t { all, fitted, held };

    const char * name;
    DType dtype;                   // of totals: f32, f64 or i64
    Shape (*shape)(int64_t width); // of the total of one group whose rows have so many columns
    Merge merge;                   // of two totals, element by element
    // The definition: adds a row of finite numbers to the total of its group. Null: another op than `observe` makes it.
    void (*add)(const float * row, int64_t width, void * total);
    bool is_kept = true; // of all layers; else totals are given away when the stages that make them are done
    Rows rows = Rows::all;
    bool of_weights = false;         // rows are their weights, of one column, and not multiplied
    const char * file_key = nullptr; // in a layer of the statistics file (docs/json.md); null: it is not saved

    bool is_ordered() const { return merge == Merge::sum && dtype != DType::i64; } // the order of rows matters
    Shape total_shape(int64_t groups, int64_t width) const {                       // [G, ...]
        const Shape one = shape(width);
        Shape all = {groups};
        for (int i = 0; i < one.rank; i++) all.dims[all.rank++] = one[i];
        return all;
    }

    static const Statistic maximum, magnitudes, second_moments_16, second_moments, tokens;
    static const Statistic fitted_moments_16, held_moments_16, fitted_moments, held_moments, fitted_weights;
};

// By the position in its text: the last of each ten.
inline constexpr int held_back_period = 10;
constexpr bool is_held_back(int64_t position) { return position % held_back_period == held_back_period - 1; }

// The largest magnitude: f32 [G].
inline constexpr Statistic Statistic::maximum = {
    .name = "maximum",
    .dtype = DType::f32,
    .shape = [](int64_t) { return Shape(); },
    .merge = Merge::maximum,
    .add =
        [](const float * row, int64_t width, void * total) {
            float & largest = *static_cast<float *>(total);
            for (int64_t i = 0; i < width; i++) largest = std::max(largest, std::fabs(row[i]));
        },
    .file_key = "maxima",
};

// How often each magnitude occurs: i64 [G, magnitude_bins].
inline constexpr Statistic Statistic::magnitudes = {
    .name = "magnitudes",
    .dtype = DType::i64,
    .shape = [](int64_t) { return Shape{magnitude_bins}; },
    .merge = Merge::sum,
    .add =
        [](const float * row, int64_t width, void * total) {
            for (int64_t i = 0; i < width; i++) static_cast<int64_t *>(total)[magnitude_bin(row[i])]++;
        },
};

// x_i x_j within each block of 16 columns, fused multiply-adds: f32 [G, K / 16, 16, 16].
inline constexpr Statistic Statistic::second_moments_16 = {
    .name = "second moments in blocks of 16",
    .dtype = DType::f32,
    .shape =
        [](int64_t width) {
            return Shape{width / 16, 16, 16};
        },
    .merge = Merge::sum,
    .add =
        [](const float * row, int64_t width, void * total) {
            float * moment = static_cast<float *>(total);
            for (int64_t i = 0; i < width; i++)
                for (int64_t j = 0; j < 16; j++, moment++) *moment = std::fma(row[i], row[i / 16 * 16 + j], *moment);
        },
    .is_kept = false,
};

// x_i x_j, fused multiply-adds: f32 [G, K, K].
inline constexpr Statistic Statistic::second_moments = {
    .name = "second moments",
    .dtype = DType::f32,
    .shape =
        [](int64_t width) {
            return Shape{width, width};
        },
    .merge = Merge::sum,
    .add =
        [](const float * row, int64_t width, void * total) {
            float * moment = static_cast<float *>(total);
            for (int64_t i = 0; i < width; i++)
                for (int64_t j = 0; j < width; j++, moment++) *moment = std::fma(row[i], row[j], *moment);
        },
    .is_kept = false,
};

inline constexpr Statistic of_rows(Statistic statistic, const char * name, Statistic::Rows rows) {
    statistic.name = name;
    statistic.rows = rows;
    return statistic;
}
inline constexpr Statistic Statistic::fitted_moments_16 =
    of_rows(second_moments_16, "second moments in blocks of 16 to fit to", Rows::fitted);
inline constexpr Statistic Statistic::held_moments_16 =
    of_rows(second_moments_16, "second moments in blocks of 16 held back", Rows::held);
inline constexpr Statistic Statistic::fitted_moments =
    of_rows(second_moments, "second moments to fit to", Rows::fitted);
inline constexpr Statistic Statistic::held_moments = of_rows(second_moments, "second moments held back", Rows::held);

// Of the rows to fit to: their number, the sums of their weights' squares and fourth powers: f64 [G, 3].
inline constexpr Statistic Statistic::fitted_weights = {
    .name = "weights to fit to",
    .dtype = DType::f64,
    .shape = [](int64_t) { return Shape{3}; },
    .merge = Merge::sum,
    .add =
        [](const float * row, int64_t, void * total) {
            const double square = double(row[0]) * double(row[0]);
            static_cast<double *>(total)[0] += 1;
            static_cast<double *>(total)[1] += square;
            static_cast<double *>(total)[2] += square * square;
        },
    .is_kept = false,
    .rows = Rows::fitted,
    .of_weights = true,
};

// How often a router chose each expert, pads aside: i64 [E]. Op count_experts makes it.
inline constexpr Statistic Statistic::tokens = {
    .name = "tokens",
    .dtype = DType::i64,
    .shape = [](int64_t) { return Shape(); },
    .merge = Merge::sum,
    .add = nullptr,
    .file_key = "tokens_per_expert",
};

// Those that the statistics file has.
inline constexpr const Statistic * saved_statistics[] = {&Statistic::maximum, &Statistic::tokens};

} // namespace gnv
