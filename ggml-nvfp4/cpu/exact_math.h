// Elementary functions in double for values that are rounded to F32 afterwards: angles of rope, gates of the Gated
// DeltaNet. Made of +, -, * and / alone, so that every processor and compiler gives the same bits, and without
// branches, so that loops over them are vectorized. Errors are a few units in the last place of a double
// (tests/ops/test_exact_math.cpp).
//
// Every function is local to the file that includes this: the loops of cpu/loops.h do, each for its instruction set.
#pragma once

#include <stdint.h>
#include <string.h>

namespace gnv::cpu::exact {

namespace {

inline double double_of(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint64_t bits_of_double(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Added to |x| < 2^51, it rounds to an integer, which then stands in the low bits.
inline constexpr double shifter = 6755399441055744.0; // 1.5 * 2^52

// e^x; 0 below -708 and Inf above 709, NaN for NaN.
inline double exp(double x) {
    const double inside = x < -708.0 ? -708.0 : x > 709.0 ? 709.0 : x;
    const double shifted = inside * 1.4426950408889634 + shifter;
    const double n = shifted - shifter;
    // ln 2 in two parts, the first with 32 bits: n times it is exact
    const double r = (inside - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 6227020800.0; // 1 / 13!
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    // |n| <= 1023, and p > 1 where n is lowest: one factor is enough up to x = 709, where n < 1023
    const uint64_t scale = (bits_of_double(shifted) - bits_of_double(shifter) + 1023) << 52;
    const double result = p * double_of(scale);
    const double low = x < -708.0 ? 0.0 : result;
    const double high = x > 709.0 ? double_of(0x7ff0000000000000u) : low;
    return x != x ? x : high;
}

// Natural logarithm of a positive normal number.
inline double log(double x) {
    // x = m 2^n, sqrt(1/2) <= m < sqrt(2); the bits of sqrt(1/2) separate the powers
    const uint64_t bits = bits_of_double(x), root = 0x3fe6a09e667f3bcdu;
    const uint64_t power = (bits - root + (uint64_t(1024) << 52)) >> 52; // n + 1024
    const double n = double_of(power | 0x4330000000000000u) - (4503599627370496.0 + 1024.0);
    const double m = double_of(bits - ((power - 1024) << 52));
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 21.0;
    p = p * z + 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    const double series = 2.0 * s + 2.0 * s * z * p;
    return n * 0x1.62e42feep-1 + (series + n * 0x1.a39ef35793c76p-33);
}

// log(1 + x), x >= 0, with a correction for the rounding error of 1 + x.
inline double log1p(double x) {
    const double sum = 1.0 + x;
    return log(sum) + (x - (sum - 1.0)) / sum;
}

// log(1 + e^x), and x itself above 20.
inline double softplus(double x) {
    const double inside = x > 20.0 ? 20.0 : x;
    const double result = log1p(exp(inside));
    return x > 20.0 ? x : result;
}

struct SineCosine {
    double sine, cosine;
};

// Of an angle in radians with 24 significant bits (an F32), |x| < 2^31: absolute error below 1e-15.
inline SineCosine sine_cosine(double x) {
    const double shifted = x * 0.63661977236758134308 + shifter;
    const double n = shifted - shifter;
    // pi / 2 in three parts, the first two with 22 bits: n times each is exact, and so are the differences
    const double r = ((x - n * 0x1.921fbp0) - n * 0x1.5110bp-22) - n * 0x1.18469898cc517p-44;
    const double z = r * r;
    double s = 1.0 / 355687428096000.0; // 1 / 17!
    s = s * z - 1.0 / 1307674368000.0;
    s = s * z + 1.0 / 6227020800.0;
    s = s * z - 1.0 / 39916800.0;
    s = s * z + 1.0 / 362880.0;
    s = s * z - 1.0 / 5040.0;
    s = s * z + 1.0 / 120.0;
    s = s * z - 1.0 / 6.0;
    const double sine = r + r * z * s;
    double c = 1.0 / 20922789888000.0; // 1 / 16!
    c = c * z - 1.0 / 87178291200.0;
    c = c * z + 1.0 / 479001600.0;
    c = c * z - 1.0 / 3628800.0;
    c = c * z + 1.0 / 40320.0;
    c = c * z - 1.0 / 720.0;
    c = c * z + 1.0 / 24.0;
    c = c * z - 0.5;
    const double cosine = 1.0 + z * c;
    // quadrants: odd ones exchange the two, 2 and 3 turn the sine's sign, 1 and 2 the cosine's
    const uint64_t quadrant = bits_of_double(shifted);
    const uint64_t odd = 0 - (quadrant & 1);
    const uint64_t a = bits_of_double(sine), b = bits_of_double(cosine);
    return {double_of(((a & ~odd) | (b & odd)) ^ (quadrant & 2) << 62),
            double_of(((b & ~odd) | (a & odd)) ^ ((quadrant + 1) & 2) << 62)};
}

} // namespace

} // namespace gnv::cpu::exact
