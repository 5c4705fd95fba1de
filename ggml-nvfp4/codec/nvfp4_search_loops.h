// The loops behind codec/block_search.h for NVFP4, in vectors (an extension of GCC and Clang) of rows. Included by files that
// are compiled for different processors and must not share inline functions. Each defines before
//   GNV_SEARCH_VARIANT   its namespace
//   GNV_SEARCH_WIDTH     rows of a vector: 4, 8 or 16
// Rows do not meet, so all variants give the same bits.
#include "codec/nvfp4_search_variants.h"

#include <string.h>

namespace gnv::nvfp4::GNV_SEARCH_VARIANT {

namespace {

constexpr int width = GNV_SEARCH_WIDTH, columns = 16, rows = 16;
// Steps of E4M3 codes around the one that the largest magnitude gives, as far as searches look with a metric of its own.
constexpr int most_steps_up = 9, most_steps_down = 6;

typedef float Floats __attribute__((vector_size(4 * width)));
typedef int32_t Ints __attribute__((vector_size(4 * width)));
typedef uint32_t Words __attribute__((vector_size(4 * width)));

// Vectors go through references: by value their passing would depend on the processor compiled for.
inline void load(const float * from, Floats & out) { memcpy(&out, from, sizeof out); }
inline void store(const Floats & from, float * out) { memcpy(out, &from, sizeof from); }
inline void bits_of(const Floats & value, Ints & out) { memcpy(&out, &value, sizeof out); }
inline void float_of(const Ints & bits, Floats & out) { memcpy(&out, &bits, sizeof out); }

inline bool all(const Ints & mask) {
    int32_t lanes[width];
    memcpy(lanes, &mask, sizeof mask);
    int32_t every = -1;
    for (int i = 0; i < width; i++) every &= lanes[i];
    return every != 0;
}

// The nearest E2M1 magnitude of |x|, ties to even, at most 6: in the sum with 2^22 times the binade's step the processor
// rounds where E2M1 does. `negative`: the sign bit of x.
inline void round_to_e2m1(const Floats & x, Floats & magnitude, Ints & negative) {
    Ints bits;
    bits_of(x, bits);
    negative = bits & int32_t(0x80000000);
    const Ints without_sign = bits & 0x7fffffff;
    Floats absolute, rounder;
    float_of(without_sign, absolute);
    absolute = absolute > 6.0f ? Floats{} + 6.0f : absolute;
    bits_of(absolute, bits);
    Ints exponent = bits & 0x7f800000;
    exponent = exponent < (127 << 23) ? Ints{} + (127 << 23) : exponent;
    float_of(Ints(Words(exponent) + (22u << 23)),
             rounder); // of NaN the sum wraps, and the magnitude is NaN all the same
    magnitude = (absolute + rounder) - rounder;
}

inline void with_sign(const Floats & magnitude, const Ints & negative, Floats & out) {
    Ints bits;
    bits_of(magnitude, bits);
    float_of(bits | negative, out);
}

// 0 .5 1 1.5 2 3 4 6 -> 0 ... 7; 8 more for a negative x, whatever it rounds to, as the recipe has it.
inline void code_of(const Floats & magnitude, const Floats & x, Ints & code) {
    Ints bits;
    bits_of(magnitude, bits);
    const Ints large = (bits >> 22) - (127 * 2 - 2);
    const Ints half = magnitude > 0.0f ? Ints{} + 1 : Ints{};
    code = magnitude < 1.0f ? half : large;
    code |= x < 0.0f ? Ints{} + 8 : Ints{};
}

// E4M3 codes 1 ... 126 -> values.
inline void value_of_scale(const Ints & code, Floats & value) {
    const Ints normal = (code << 20) + (120 << 23);
    Floats large;
    float_of(normal, large);
    const Floats small = __builtin_convertvector(code, Floats) * 0x1p-9f;
    value = code < 8 ? small : large;
}

// The nearest code, ties to even, 1 ... 126.
inline void scale_from_value(const Floats & value, Ints & code) {
    const Floats bounded = value > 448.0f ? Floats{} + 448.0f : value;
    Ints exponent, sum_bits;
    bits_of(bounded, exponent);
    exponent >>= 23;
    exponent = (exponent < 127 - 6 ? Ints{} + (127 - 6) : exponent) + 20;
    Floats rounder;
    float_of(exponent << 23, rounder);
    const Floats sum = bounded + rounder;
    bits_of(sum, sum_bits);
    code = (exponent - (127 - 6 + 20)) * 8 + (sum_bits & 31);
    code = code < 1 ? Ints{} + 1 : code;
}

// The rows of a vector while their scale is searched. Everything is in units of 1 / G, where a value is code * scale.
struct Search {
    Floats weights[columns], shifts[columns];
    Floats largest; // magnitude of what is rounded
    const float * matrix;
    const float * diagonal;
};

inline void squares(const Search & search, const Floats & scale, Floats & error) {
    const Floats inverse = 1.0f / scale;
    error = Floats{};
    for (int k = 0; k < columns; k++) {
        const Floats x = search.weights[k] * inverse;
        Floats magnitude, absolute;
        Ints negative, bits;
        round_to_e2m1(x, magnitude, negative);
        bits_of(x, bits);
        float_of(bits & 0x7fffffff, absolute);
        const Floats difference = absolute - magnitude;
        error += difference * difference;
    }
    error *= scale * scale;
}

inline void matrix_form(const Search & search, const Floats & scale, Floats & error) {
    const Floats inverse = 1.0f / scale;
    Floats differences[columns];
    error = Floats{};
    for (int i = 0; i < columns; i++) {
        const Floats x = search.weights[i] * inverse;
        Floats magnitude, value;
        Ints negative;
        round_to_e2m1(x, magnitude, negative);
        with_sign(magnitude, negative, value);
        differences[i] = x - value;
        Floats mixed = Floats{};
        for (int k = 0; k < i; k++) mixed += differences[k] * search.matrix[i * columns + k];
        error += differences[i] * (differences[i] * search.matrix[i * columns + i] + 2.0f * mixed);
    }
    error *= scale * scale;
}

inline void factor_form(const Search & search, const Floats & scale, Floats & error) {
    const Floats inverse = 1.0f / scale;
    Floats shifts[columns];
    for (int k = 0; k < columns; k++) shifts[k] = search.shifts[k];
    error = Floats{};
    for (int k = 0; k < columns; k++) {
        const Floats target = search.weights[k] + shifts[k];
        Floats magnitude, value;
        Ints negative;
        round_to_e2m1(target * inverse, magnitude, negative);
        with_sign(magnitude, negative, value);
        value *= scale;
        const Floats missed = target - value, difference = search.weights[k] - value;
        error += search.diagonal[k] * (missed * missed);
        for (int j = k + 1; j < columns; j++) shifts[j] += difference * search.matrix[k * columns + j];
    }
}

// The best scale. Ties go to the one that the largest magnitude gives, then to the fewer steps from it.
//
// With squares the result is the best of all scales. Upward: a grid of twice the scale has no value that the finer one lacks,
// up to 7 of its steps, so eight codes from the first that reaches the largest magnitude are enough. Downward: the largest
// magnitude alone misses 6 scales by more and more; once that is more than the best error there is nothing to find.
template <void (*error_of)(const Search &, const Floats &, Floats &)>
inline void best_scale(const Search & search, bool exhaustive, Ints & best, Floats & least) {
    Ints first;
    scale_from_value(search.largest / 6.0f, first);
    best = first;
    Floats scale;
    value_of_scale(first, scale);
    error_of(search, scale, least);
    const auto attempt = [&](const Ints & code, const Ints & valid) {
        Floats error = Floats{};
        value_of_scale(code, scale);
        error_of(search, scale, error);
        const Ints better = valid & (error < least);
        best = better ? code : best;
        least = better ? error : least;
    };
    Ints ended = Ints{}; // downward
    for (int step = 1; step <= most_steps_up || !all(ended); step++) {
        const Ints above = first + step, below = first - step;
        if (step <= most_steps_up) {
            const Ints valid = above <= 126;
            if (!all(~valid)) attempt(valid ? above : first, valid);
        }
        ended |= below < 1;
        if (!exhaustive && step > most_steps_down) ended = ~Ints{};
        if (all(ended)) continue;
        const Ints code = below < 1 ? first : below;
        if (exhaustive) {
            value_of_scale(code, scale);
            const Floats missed = search.largest - 6.0f * scale;
            ended |= (missed > 0.0f) & (missed * missed >= least);
        }
        if (!all(ended)) attempt(code, ~ended);
    }
}

} // namespace

void search_block(BlockSearch & block, float global) {
    for (int row = 0; row < rows; row += width) {
        Search search;
        search.matrix = block.metric.matrix;
        search.diagonal = block.metric.diagonal;
        search.largest = Floats{};
        const bool compensates = block.metric.kind == BlockMetric::Kind::factor;
        for (int k = 0; k < columns; k++) {
            load(&(*block.weights)[k][row], search.weights[k]);
            search.weights[k] *= global;
            search.shifts[k] = Floats{};
            if (compensates && block.shifts) {
                load(&(*block.shifts)[k][row], search.shifts[k]);
                search.shifts[k] *= global;
            }
            const Floats rounded = search.weights[k] + search.shifts[k];
            const Floats magnitude = rounded < 0.0f ? -rounded : rounded;
            search.largest = magnitude > search.largest ? magnitude : search.largest;
        }
        Ints code = Ints{};
        Floats error = Floats{};
        switch (block.metric.kind) {
        case BlockMetric::Kind::squares: best_scale<squares>(search, true, code, error); break;
        case BlockMetric::Kind::matrix: best_scale<matrix_form>(search, false, code, error); break;
        case BlockMetric::Kind::factor: best_scale<factor_form>(search, false, code, error); break;
        }
        const Ints empty = search.largest == 0.0f; // 0.125, as the recipe has it
        code = empty ? Ints{} + 0x20 : code;
        error = empty ? Floats{} : error;
        store(error, block.errors + row);
        for (int i = 0; i < width; i++) block.scales[row + i] = uint8_t(code[i]);

        // The codes as the recipe divides, in units of weights.
        Floats scale, shifts[columns];
        value_of_scale(code, scale);
        const Floats divisor = scale / global;
        for (int k = 0; k < columns; k++) {
            shifts[k] = Floats{};
            if (compensates && block.shifts) load(&(*block.shifts)[k][row], shifts[k]);
        }
        for (int k = 0; k < columns; k++) {
            Floats weight, magnitude, value;
            load(&(*block.weights)[k][row], weight);
            const Floats x = (compensates ? weight + shifts[k] : weight) / divisor;
            Ints negative, codes;
            round_to_e2m1(x, magnitude, negative);
            code_of(magnitude, x, codes);
            with_sign(magnitude * scale / global, negative, value);
            store(value, &(*block.values)[k][row]);
            for (int i = 0; i < width; i++) block.codes[k][row + i] = uint8_t(codes[i]);
            if (!compensates) continue;
            const Floats difference = weight - value;
            for (int j = k + 1; j < columns; j++) shifts[j] += difference * search.matrix[k * columns + j];
        }
    }
}

void add_products(const float (*factors)[rows], const float (*panel)[columns], int64_t count, SearchTile & sums) {
    for (int row = 0; row < rows; row += width) {
        Floats sum[columns];
        for (int k = 0; k < columns; k++) load(&sums[k][row], sum[k]);
        for (int64_t j = 0; j < count; j++) {
            Floats factor;
            load(&factors[j][row], factor);
            for (int k = 0; k < columns; k++) sum[k] += factor * panel[j][k];
        }
        for (int k = 0; k < columns; k++) store(sum[k], &sums[k][row]);
    }
}

} // namespace gnv::nvfp4::GNV_SEARCH_VARIANT
