// The loops behind codec/nvfp4_compare.h, in vectors (an extension of GCC and Clang) of the width of the processor;
// sums by place in the block. Included by files that are compiled for different processors and must not share inline
// functions. Each first defines
//   GNV_COMPARE_VARIANT                         its namespace
//   GNV_COMPARE_WIDTH                           elements of a vector: 4, 8 or 16
// and, for vectors of 8 or 16 elements (x86; immintrin.h is included),
//   GNV_COMPARE_LOOKUP(table, index)            element i = table[index[i] % width]
//   GNV_COMPARE_FUSED(a, b, c)                  a * b + c, rounded once
//   GNV_COMPARE_WIDEN(address)                  `width` numbers of 16 bits as 32
// All variants give the same bits.
#include "codec/nvfp4_compare_variants.h"

#include <string.h>

namespace gnv::nvfp4::GNV_COMPARE_VARIANT {

namespace {

constexpr int width = GNV_COMPARE_WIDTH, parts = 16 / width;
constexpr int run_blocks = 64;            // processed together, and summed in single precision before double
constexpr int64_t most_counted = 1 << 20; // blocks until 32-bit counts are added up

typedef float Floats __attribute__((vector_size(4 * width)));
typedef int32_t Ints __attribute__((vector_size(4 * width)));
typedef uint32_t Words __attribute__((vector_size(4 * width)));
typedef uint16_t Halves __attribute__((vector_size(2 * width)));
typedef uint8_t Bytes __attribute__((vector_size(width)));

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

// Vectors are passed by reference: by value the calling convention would depend on the processor.

inline void load(const uint16_t * weights, int64_t element, Words & bits) {
#ifdef GNV_COMPARE_WIDEN
    bits = GNV_COMPARE_WIDEN(weights + element) << 16;
#else
    Halves narrow;
    memcpy(&narrow, reinterpret_cast<const char *>(weights) + element * 2, sizeof narrow);
    bits = __builtin_convertvector(narrow, Words) << 16;
#endif
}

inline void load(const float * weights, int64_t element, Words & bits) {
    memcpy(&bits, reinterpret_cast<const char *>(weights) + element * 4, sizeof bits);
}

// The decoded codes of a vector of elements: values, and the range of x nearest to them. Vectors of 16 hold signed
// values; narrower ones hold magnitudes, and the sign, as the top bit, goes into x instead.
struct Decoded {
    Floats value, low, high;
    Words sign;
};

// Codes of a whole block, even columns in low nibbles.
inline void decode(uint64_t codes, const CompareTables & tables, Decoded * out) {
#if GNV_COMPARE_WIDTH == 4 // no shift by a different count for each element
    for (int part = 0; part < parts; part++) {
        for (int i = 0; i < 2; i++) {
            const CodePair & pair = tables.pairs[codes >> 8 * (part * 2 + i) & 255];
            memcpy(reinterpret_cast<char *>(&out[part].value) + 8 * i, pair.size, 8);
            memcpy(reinterpret_cast<char *>(&out[part].low) + 8 * i, pair.low, 8);
            memcpy(reinterpret_cast<char *>(&out[part].high) + 8 * i, pair.high, 8);
            memcpy(reinterpret_cast<char *>(&out[part].sign) + 8 * i, pair.sign, 8);
        }
    }
#else
    Floats values, lows, highs;
    memcpy(&values, tables.value, sizeof values);
    memcpy(&lows, tables.code_low, sizeof lows);
    memcpy(&highs, tables.code_high, sizeof highs);
    Words shifts = {}, second = {};
    for (int i = 0; i < width; i++) shifts[i] = uint32_t(4 * (i % 8)), second[i] = i < 8 ? 0 : ~0u;
    const uint32_t halves[] = {uint32_t(codes), uint32_t(codes >> 32)};
    for (int part = 0; part < parts; part++) {
        Words words = Words{} + halves[part];
        if constexpr (width == 16) words = second ? Words{} + halves[1] : words;
        words >>= shifts;
        out[part].value = GNV_COMPARE_LOOKUP(values, words);
        out[part].low = GNV_COMPARE_LOOKUP(lows, words);
        out[part].high = GNV_COMPARE_LOOKUP(highs, words);
        out[part].sign = words << 28 & 0x80000000u;
    }
#endif
}

// The blocks of a run, side by side.
struct Run {
    int32_t largest[run_blocks]; // bits of the largest |w|
    float divisor[run_blocks];   // d = scale / G, or 1 where that is zero
    float inverse[run_blocks];   // 1 / d
    float step[run_blocks];      // d times unit
    float far[run_blocks];       // the error, times unit, above which a weight counts as far off
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

#if GNV_COMPARE_WIDTH > 4
// Of 16 BF16, as their bits. One instruction finds the smallest of 8, so they are inverted first.
inline int32_t largest_magnitude(const uint16_t * weights) {
    __m256i bits;
    memcpy(&bits, weights, sizeof bits);
    bits = _mm256_andnot_si256(bits, _mm256_set1_epi16(0x7fff));
    const __m128i least = _mm_min_epu16(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
    return 0x7fff - _mm_extract_epi16(_mm_minpos_epu16(least), 0);
}
#endif

template <class Weight>
void find_largest(const Weight * weights, int64_t first, int count, Run & run) {
    for (int b = 0; b < count; b++) {
#if GNV_COMPARE_WIDTH > 4
        if constexpr (sizeof(Weight) == 2) {
            run.largest[b] = largest_magnitude(weights + (first + b) * 16) << 16;
            continue;
        }
#endif
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

// The values of E4M3 bytes.
inline void decode_scales(const Ints & bytes, Floats & out) {
    const Floats size = Floats((bytes & 0x7f) << 20) * 0x1p+120f; // exponent and mantissa in place, rebiased
    const Ints sign = (bytes & 0x80) << 24, nan = (bytes & 0x7f) == 0x7f;
    out = Floats(Ints(size) | sign | nan);
}

// The E4M3 bytes that nvfp4::block_scale gives for these products of a global scale and a maximum / 6.
inline void encode_scales(const Floats & product, Ints & out) {
    const Ints bits = Ints(product);
    const Ints normal = ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120 << 3);
    const Ints subnormal = Ints(product + 0x1p+14f) - Ints(Floats{} + 0x1p+14f); // a float's last place is 2^-9 there
    const Ints byte = product < 0x1p-6f ? subnormal : normal;
    out = byte > 0x7e ? Ints{} + 0x7e : byte < 1 ? Ints{} + 0x20 : byte; // 0 is stored as 0.125
}

// Returns the bits of the largest |w| of the run.
inline uint32_t judge_scales(const uint8_t * scales, int count, float global, float unit, Run & run,
                             CompareSums & sums) {
    uint8_t padded[run_blocks];
    if (count < run_blocks) { // beyond the end: 1.0, which no maximum of 0 rounds to
        memset(padded, 0x38, sizeof padded);
        memcpy(padded, scales, size_t(count));
        memset(run.largest + count, 0, size_t(run_blocks - count) * sizeof *run.largest);
        scales = padded;
    }
    Ints most = {}, nearest = {};
    for (int b = 0; b < run_blocks; b += width) {
        Bytes narrow;
        memcpy(&narrow, scales + b, sizeof narrow);
        const Ints bytes = __builtin_convertvector(narrow, Ints);
        Ints largest, right;
        Floats amax, value;
        get(run.largest + b, largest), get(run.largest + b, amax);
        decode_scales(bytes, value);
        most = most > largest ? most : largest;
        // amax / 6 in BF16, as in nvfp4::block_scale; the product is exact. Below 2^-7 block scales are so coarse that
        // weights may be far off.
        const Words sixth = Words(amax / 6.0f);
        const Floats product = Floats((sixth + 0x7fffu + (sixth >> 16 & 1)) & 0xffff0000u) * global;
        encode_scales(product, right);
        nearest += (bytes == right) & (product >= 0.0f);
        const Floats far = product >= 0x1p-7f ? amax * 0.5f * unit : Floats{} + __builtin_inff();
        const Floats step = value / global, divisor = step != 0.0f ? step : Floats{} + 1.0f;
        const Floats inverse = 1.0f / divisor, scaled = divisor * unit;
        memcpy(run.far + b, &far, sizeof far);
        memcpy(run.divisor + b, &divisor, sizeof divisor);
        memcpy(run.inverse + b, &inverse, sizeof inverse);
        memcpy(run.step + b, &scaled, sizeof scaled);
    }
    fold_largest<width / 2>(most);
    const auto largest = uint32_t(most[0]);
    sums.largest_bits = largest > sums.largest_bits ? largest : sums.largest_bits;
    for (int i = 0; i < width; i++) sums.nearest_scales += uint64_t(-nearest[i]);
    return largest;
}

// w / d without a division: a fused multiply-add gives the exact remainder of a first quotient, which corrects it to
// the rounded one. This holds for every BF16 w and every d (a test covers all significands) while every value stays in
// the range of F32. With a global scale between 2^-36 and 2^36 and |w| up to 2^40 only the remainders of tiny w leave
// it: their x is below 2^-54 and the square of their error, in `unit`s, is zero, so no figure changes.
inline bool can_multiply(float global, uint32_t largest_bits) {
#ifdef GNV_COMPARE_FUSED
    return global >= 0x1p-36f && global <= 0x1p+36f && largest_bits <= 0x53800000u;
#else
    return (void)global, (void)largest_bits, false;
#endif
}

template <bool multiply>
inline void divide(const Floats & w, float divisor, float inverse, Floats & out) {
#ifdef GNV_COMPARE_FUSED
    if constexpr (multiply) {
        const Floats d = divisor - Floats{}, r = inverse - Floats{}, first = w * r;
        out = GNV_COMPARE_FUSED(GNV_COMPARE_FUSED(-first, d, w), r, first);
        return;
    }
#endif
    (void)inverse;
    out = w / divisor;
}

// Sums by place in the block.
struct Sums {
    Floats ww[parts] = {}, ee[parts] = {}, qq[parts] = {};
};
struct Counts {
    Words clipped[parts] = {}, zeroed[parts] = {}, nearest[parts] = {}, far[parts] = {};
};

inline void count_if(const Ints & condition, Words & out) {
    if constexpr (width == 16) {
        out = condition ? out + 1 : out; // one instruction under a mask
    } else {
        out -= Words(condition); // a comparison that holds is -1
    }
}

// Numbers are multiplied by `unit` before they are squared, a power of two that brings the weights near one.
template <bool multiply, class Weight>
void compare_run(const Weight * weights, const uint8_t * codes, const uint8_t * scales, int count, float unit,
                 const CompareTables & tables, const Run & run, Sums & out, Counts & counts_out) {
    Sums sums;
    Counts counts = counts_out;
    for (int b = 0; b < count; b++) {
        Decoded decoded[parts];
        uint64_t code_bits;
        memcpy(&code_bits, codes + b * 8, sizeof code_bits);
        decode(scales[b] & 0x7f ? code_bits : 0, tables, decoded); // a block scale of zero makes every value zero
        const float step = run.step[b], far = run.far[b];
        for (int part = 0; part < parts; part++) {
            const Decoded & code = decoded[part];
            Words bits;
            load(weights, b * 16 + part * width, bits);
            const Floats w = Floats(bits);
            Floats x;
            divide<multiply>(w, run.divisor[b], run.inverse[b], x);
            if constexpr (width < 16) x = Floats(Words(x) ^ code.sign);
            const Floats size = Floats(Words(x) & 0x7fffffffu);
            count_if((x >= code.low) & (x <= code.high), counts.nearest[part]);
            count_if(size > 6.0f, counts.clipped[part]);
            count_if((code.value == 0.0f) & (w != 0.0f), counts.zeroed[part]);
            const Floats scaled = w * unit, value = code.value * step, error = (x - code.value) * step;
            count_if(~(Floats(Words(error) & 0x7fffffffu) <= far), counts.far[part]); // NaN counts
            sums.ww[part] += scaled * scaled;
            sums.ee[part] += error * error;
            sums.qq[part] += value * value;
        }
    }
    out = sums;
    counts_out = counts;
}

template <class Weight>
void compare_blocks(const Weight * weights, int64_t blocks, const uint8_t * codes, const uint8_t * scales, float global,
                    float unit, const CompareTables & tables, CompareSums & sums) {
    Run run;
    for (int64_t first = 0; first < blocks;) {
        Counts counts;
        const int64_t end = blocks - first < most_counted ? blocks : first + most_counted;
        for (; first < end; first += run_blocks) {
            const int count = run_blocks < end - first ? run_blocks : int(end - first);
            Sums of_run;
            find_largest(weights, first, count, run);
            const uint32_t largest = judge_scales(scales + first, count, global, unit, run, sums);
            if (sizeof(Weight) == 2 && can_multiply(global, largest)) {
                compare_run<true>(weights + first * 16, codes + first * 8, scales + first, count, unit, tables, run,
                                  of_run, counts);
            } else {
                compare_run<false>(weights + first * 16, codes + first * 8, scales + first, count, unit, tables, run,
                                   of_run, counts);
            }
            for (int i = 0; i < 16; i++) {
                sums.weight_squares[i] += double(of_run.ww[i / width][i % width]);
                sums.error_squares[i] += double(of_run.ee[i / width][i % width]);
                sums.value_squares[i] += double(of_run.qq[i / width][i % width]);
            }
        }
        for (int i = 0; i < 16; i++) {
            const int part = i / width, lane = i % width;
            sums.clipped += counts.clipped[part][lane], sums.zeroed += counts.zeroed[part][lane];
            sums.nearest_codes += counts.nearest[part][lane];
            sums.far_weights += counts.far[part][lane];
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

} // namespace gnv::nvfp4::GNV_COMPARE_VARIANT
