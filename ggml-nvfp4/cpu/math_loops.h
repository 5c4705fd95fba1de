// Elementary functions for the loops of cpu/loops.h: the same bits on every processor, and made of operations that
// compilers vectorize. libm is not used: its results depend on its version and on the processor.
#include <stdint.h>
#include <string.h>
#ifdef __FMA__
#include <immintrin.h>
#endif

namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The only way to a * b + c here: one rounding, in hardware or not.
inline float fma32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// To the nearest BF16 value, ties to even; Inf stays, NaN stays a NaN.
inline float round_bf16(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1)) & 0xffff0000u;
    return float_of((bits & 0x7fffffffu) > 0x7f800000u ? (bits | 0x00400000u) & 0xffff0000u : rounded);
}

inline float round_if(bool bf16, float value) { return bf16 ? round_bf16(value) : value; }

// e^x within 1.1 units in the last place; 0 where the result would be below 2^-126, Inf where it
// overflows, NaN for NaN.
inline float exp32(float x) {
    // x = n ln 2 + r, |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    const float shifter = 12582912.0f;
    const float shifted = fma32(x, 1.44269504088896341f, shifter);
    const float n = shifted - shifter;
    float r = fma32(n, -0.693145751953125f, x);
    r = fma32(n, -1.42860682030941723212e-6f, r);
    // 1 + r + r^2 q(r), with q nearest to the true quotient in relative error of the whole: 3.1e-9.
    float p = 1.38145278e-3f;
    p = fma32(p, r, 8.36874638e-3f);
    p = fma32(p, r, 4.16683927e-2f);
    p = fma32(p, r, 1.66665196e-1f);
    p = fma32(p, r, 0.49999994f);
    p = fma32(p, r, 1.0f);
    p = fma32(p, r, 1.0f);
    // times 2^n, where the result is normal
    const float result = float_of(bits_of(p) + (bits_of(shifted) << 23));
    // The last arguments with a normal and with a finite result.
    const float low = x < -87.3365402f ? 0.0f : result;
    const float high = x > 88.7228317f ? float_of(0x7f800000u) : low;
    return x != x ? x : high;
}

inline float sigmoid32(float x) { return 1.0f / (1.0f + exp32(-x)); }

// Sixteen sums that stay in registers, which GCC does with no array that a loop runs over. Functions take references:
// how to pass vectors by value depends on the instruction set.
#if defined(__AVX512F__)
typedef __m512 LanesPart;
inline void fma_part(const LanesPart & a, const LanesPart & b, LanesPart & sum) { sum = _mm512_fmadd_ps(a, b, sum); }
#elif defined(__FMA__)
typedef __m256 LanesPart;
inline void fma_part(const LanesPart & a, const LanesPart & b, LanesPart & sum) { sum = _mm256_fmadd_ps(a, b, sum); }
#else
typedef float LanesPart;
inline void fma_part(const LanesPart & a, const LanesPart & b, LanesPart & sum) { sum = fma32(a, b, sum); }
#endif

struct Lanes {
    static constexpr int parts = int(16 * sizeof(float) / sizeof(LanesPart));
    LanesPart part[parts];
};

inline void load(const float * from, Lanes & lanes) { // part by part: a copy of the whole would go through memory
    for (int i = 0; i < Lanes::parts; i++) memcpy(&lanes.part[i], from + i * (16 / Lanes::parts), sizeof lanes.part[i]);
}
inline void store(const Lanes & lanes, float * to) {
    for (int i = 0; i < Lanes::parts; i++) memcpy(to + i * (16 / Lanes::parts), &lanes.part[i], sizeof lanes.part[i]);
}
inline void fill(float value, Lanes & lanes) {
    for (int i = 0; i < Lanes::parts; i++) lanes.part[i] = value - LanesPart{};
}
inline void fma_lanes(const Lanes & a, const Lanes & b, Lanes & sum) {
    for (int i = 0; i < Lanes::parts; i++) fma_part(a.part[i], b.part[i], sum.part[i]);
}
inline void multiply_lanes(const Lanes & a, Lanes & product) {
    for (int i = 0; i < Lanes::parts; i++) product.part[i] *= a.part[i];
}
inline void add_lanes(const Lanes & a, Lanes & sum) {
    for (int i = 0; i < Lanes::parts; i++) sum.part[i] += a.part[i];
}
// Where a is larger; a NaN is not.
inline void maximum_lanes(const Lanes & a, Lanes & largest) {
    for (int i = 0; i < Lanes::parts; i++) largest.part[i] = a.part[i] > largest.part[i] ? a.part[i] : largest.part[i];
}

// Pairwise: i with i + 8, + 4, + 2, + 1.
inline float sum_of_16(const float * partial) {
    float eight[8], four[4];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) eight[i] = partial[i] + partial[i + 8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) four[i] = eight[i] + eight[i + 4];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
