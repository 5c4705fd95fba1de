// The loops behind cpu/nvfp4_compare.h, in vectors (an extension of GCC and Clang) of as many elements as the processor
// takes at once; sums by place in the block. Included by files that are compiled for different processors and must not
// share inline functions. Each defines before
//   GNV_COMPARE_VARIANT                         its namespace
//   GNV_COMPARE_WIDTH                           elements of a vector: 4, 8 or 16
//   GNV_COMPARE_LOOKUP(table, index)            element i = table[index[i]], index below 8; only for 8 and 16
// All variants give the same bits.
#include "cpu/nvfp4_compare_variants.h"

#include <string.h>

namespace gnv::cpu::GNV_COMPARE_VARIANT {

namespace {

constexpr int width = GNV_COMPARE_WIDTH, parts = 16 / width;
constexpr int run_blocks = 64; // worked on step by step, and summed in single precision before double takes over

typedef float Floats __attribute__((vector_size(4 * width)));
typedef int32_t Ints __attribute__((vector_size(4 * width)));
typedef uint32_t Words __attribute__((vector_size(4 * width)));
typedef uint16_t Halves __attribute__((vector_size(2 * width)));

inline uint32_t bits_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Vectors go through references: by value their passing would depend on the processor compiled for.

inline void load(const uint16_t * weights, int64_t element, Words & bits) {
    Halves narrow;
    memcpy(&narrow, reinterpret_cast<const char *>(weights) + element * 2, sizeof narrow);
    bits = __builtin_convertvector(narrow, Words) << 16;
}

inline void load(const float * weights, int64_t element, Words & bits) {
    memcpy(&bits, reinterpret_cast<const char *>(weights) + element * 4, sizeof bits);
}

// What the codes of a vector of elements say: the size of the value, the sign as the top bit, and which x without the sign
// are nearest to that value.
struct Decoded {
    Floats size, low, high;
    Words sign;
};

// Codes of a whole block, even columns in low nibbles.
#if GNV_COMPARE_WIDTH == 4 // no vector has shifts of its own for each element
inline void decode(const uint8_t * codes, const CompareTables & tables, Decoded * out) {
    for (int part = 0; part < parts; part++) {
        for (int i = 0; i < 2; i++) {
            const CodePair & pair = tables.pairs[codes[part * 2 + i]];
            memcpy(reinterpret_cast<char *>(&out[part].size) + 8 * i, pair.size, 8);
            memcpy(reinterpret_cast<char *>(&out[part].low) + 8 * i, pair.low, 8);
            memcpy(reinterpret_cast<char *>(&out[part].high) + 8 * i, pair.high, 8);
            memcpy(reinterpret_cast<char *>(&out[part].sign) + 8 * i, pair.sign, 8);
        }
    }
}
#else
inline void decode(const uint8_t * codes, const CompareTables & tables, Decoded * out) {
    Floats sizes, lows, highs;
    memcpy(&sizes, tables.size, sizeof sizes);
    memcpy(&lows, tables.code_low, sizeof lows);
    memcpy(&highs, tables.code_high, sizeof highs);
    Words shifts = {}, second = {};
    for (int i = 0; i < width; i++) shifts[i] = uint32_t(4 * (i % 8)), second[i] = i < 8 ? 0 : ~0u;
    uint32_t halves[2];
    memcpy(halves, codes, sizeof halves);
    for (int part = 0; part < parts; part++) {
        Words words = Words{} + halves[part];
        if (width == 16) words = (words & ~second) | ((Words{} + halves[1]) & second);
        words >>= shifts;
        const Ints code = Ints(words & 7);
        out[part].size = GNV_COMPARE_LOOKUP(sizes, code);
        out[part].low = GNV_COMPARE_LOOKUP(lows, code);
        out[part].high = GNV_COMPARE_LOOKUP(highs, code);
        out[part].sign = words << 28 & 0x80000000u;
    }
}
#endif

// The blocks of a run, side by side.
struct Run {
    int32_t largest[run_blocks];                                // bits of the largest |w|
    float low[run_blocks], high[run_blocks], value[run_blocks]; // of the block scale: what rounds to it, and its value
    float divisor[run_blocks];                                  // d = scale / G, or 1 where that is zero
    float step[run_blocks];                                     // the same times unit
    float far[run_blocks]; // error, times unit, beyond which a weight counts as far off
};

// Element i of the result is element i ^ distance.
template <int distance>
inline void exchange(const Ints & in, Ints & out) {
#ifdef __clang__
    for (int i = 0; i < width; i++) out[i] = in[i ^ distance];
#else
    Ints places = {};
    for (int i = 0; i < width; i++) places[i] = i ^ distance;
    out = __builtin_shuffle(in, places);
#endif
}

template <int distance>
inline void fold_largest(Ints & most) {
    Ints other;
    exchange<distance>(most, other);
    most = most > other ? most : other;
    if constexpr (distance > 1) fold_largest<distance / 2>(most);
}

template <class Weight>
void find_largest(const Weight * weights, int64_t first, int count, Run & run) {
    for (int b = 0; b < count; b++) {
        Ints most = {};
        for (int part = 0; part < parts; part++) {
            Words bits;
            load(weights, (first + b) * 16 + part * width, bits);
            const Ints size = Ints(bits & 0x7fffffffu);
            most = most > size ? most : size;
        }
        fold_largest<width / 2>(most);
        run.largest[b] = most[0];
    }
}

template <class Vector, class Element>
inline void get(const Element * array, Vector & out) {
    memcpy(&out, array, sizeof out);
}

inline void judge_scales(const uint8_t * scales, int count, float global, float unit, const CompareTables & tables,
                         Run & run, CompareSums & sums) {
    for (int b = 0; b < run_blocks; b++) {
        const uint8_t byte = b < count ? scales[b] : 0x38; // beyond the end: 1.0, which no maximum of 0 rounds to
        if (b >= count) run.largest[b] = 0;
        run.low[b] = tables.scale_low[byte], run.high[b] = tables.scale_high[byte], run.value[b] = e4m3_values.of[byte];
    }
    const float vanishing = tables.scale_low[1]; // what lies below is stored as 0.125
    Ints most = {}, nearest = {};
    for (int b = 0; b < run_blocks; b += width) {
        Ints largest;
        Floats amax, low, high, value;
        get(run.largest + b, largest), get(run.largest + b, amax);
        get(run.low + b, low), get(run.high + b, high), get(run.value + b, value);
        most = most > largest ? most : largest;
        // amax / 6 in BF16, as nvfp4::block_scale has it; the product is exact. Below 2^-7 block scales are so coarse that
        // weights may be far off.
        const Words sixth = Words(amax / 6.0f);
        const Floats product = Floats((sixth + 0x7fffu + (sixth >> 16 & 1)) & 0xffff0000u) * global;
        nearest += ((product >= low) & (product <= high)) | ((product < vanishing) & (value == 0.125f));
        const Floats far = product >= 0x1p-7f ? amax * 0.5f * unit : Floats{} + tables.no_limit;
        const Floats step = value / global, divisor = step != 0.0f ? step : Floats{} + 1.0f, scaled = divisor * unit;
        memcpy(run.far + b, &far, sizeof far);
        memcpy(run.divisor + b, &divisor, sizeof divisor);
        memcpy(run.step + b, &scaled, sizeof scaled);
    }
    fold_largest<width / 2>(most);
    const auto largest = uint32_t(most[0]);
    sums.largest_bits = largest > sums.largest_bits ? largest : sums.largest_bits;
    for (int i = 0; i < width; i++) sums.nearest_scales += uint64_t(-nearest[i]);
}

// Sums over a run, by place in the block; counts go downwards, since a comparison that holds is -1.
struct Lanes {
    Floats ww[parts] = {}, ee[parts] = {}, qq[parts] = {};
    Ints clipped[parts] = {}, zeroed[parts] = {}, nearest[parts] = {}, far[parts] = {};
};

// Squares are taken of numbers times `unit`, a power of two that brings the weights near one.
template <class Weight>
void compare_run(const Weight * weights, const uint8_t * codes, int64_t first, int count, float unit,
                 const CompareTables & tables, const Run & run, Lanes & out) {
    Lanes lanes;
    for (int b = 0; b < count; b++) {
        Decoded decoded[parts];
        decode(codes + (first + b) * 8, tables, decoded);
        const float divisor = run.divisor[b], step = run.step[b], far = run.far[b];
        if (run.value[b] == 0.0f) // a block scale of zero makes every value zero
            for (Decoded & code : decoded) code.size = Floats{};
        for (int part = 0; part < parts; part++) {
            const Decoded & code = decoded[part];
            Words bits;
            load(weights, (first + b) * 16 + part * width, bits);
            const Floats w = Floats(bits), quotient = w / divisor;
            const Floats x = Floats(Words(quotient) ^ code.sign), size = Floats(Words(quotient) & 0x7fffffffu);
            lanes.nearest[part] += (x >= code.low) & (x <= code.high);
            lanes.clipped[part] += size > 6.0f;
            lanes.zeroed[part] += (code.size == 0.0f) & (w != 0.0f);
            const Floats scaled = w * unit, value = code.size * step, error = (x - code.size) * step;
            lanes.far[part] += ~(Floats(Words(error) & 0x7fffffffu) <= far); // NaN counts
            lanes.ww[part] += scaled * scaled;
            lanes.ee[part] += error * error;
            lanes.qq[part] += value * value;
        }
    }
    out = lanes;
}

template <class Weight>
void compare_blocks(const Weight * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales, float global,
                    float unit, const CompareTables & tables, CompareSums & sums) {
    Run run;
    for (int64_t first = 0; first < blocks; first += run_blocks) {
        const int count = run_blocks < blocks - first ? run_blocks : int(blocks - first);
        Lanes lanes;
        find_largest(weights, first, count, run);
        judge_scales(scales + first, count, global, unit, tables, run, sums);
        compare_run(weights, codes, first, count, unit, tables, run, lanes);
        for (int i = 0; i < 16; i++) {
            const int part = i / width, lane = i % width;
            sums.weight_squares[i] += double(lanes.ww[part][lane]);
            sums.error_squares[i] += double(lanes.ee[part][lane]);
            sums.value_squares[i] += double(lanes.qq[part][lane]);
            sums.clipped += uint64_t(-lanes.clipped[part][lane]), sums.zeroed += uint64_t(-lanes.zeroed[part][lane]);
            sums.nearest_codes += uint64_t(-lanes.nearest[part][lane]),
                sums.far_weights += uint64_t(-lanes.far[part][lane]);
        }
    }
}

} // namespace

void compare_bf16(const uint16_t * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales, float global,
                  float unit, const CompareTables & tables, CompareSums & sums) {
    compare_blocks(weights, blocks, codes, scales, global, unit, tables, sums);
}

void compare_f32(const float * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales, float global,
                 float unit, const CompareTables & tables, CompareSums & sums) {
    compare_blocks(weights, blocks, codes, scales, global, unit, tables, sums);
}

} // namespace gnv::cpu::GNV_COMPARE_VARIANT
