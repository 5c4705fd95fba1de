// Screening: which pairs of a token and an expert cannot raise the expert's largest activation, from products of
// rotated rows in 8 bits and a bound on their error. docs/screening.md has the proof, and says what each constant
// covers.
#pragma once

#include <cstdint>

namespace gnv {

enum class Screening : uint8_t {
    off,   // every pair in full
    on,    // pairs in full that may raise a maximum
    check, // both, and their results are compared
};

// Sums over launches.
struct ScreeningCounts {
    uint64_t pairs = 0;      // of a token and an expert
    uint64_t candidates = 0; // of those, computed in full after screening
    uint64_t whole = 0;      // experts of a batch all of whose pairs were candidates
    uint64_t different = 0;  // experts of a batch whose results differ (Screening::check)
    ScreeningCounts & operator+=(const ScreeningCounts & other) {
        pairs += other.pairs, candidates += other.candidates;
        whole += other.whole, different += other.different;
        return *this;
    }
    // Since `earlier`, of the same devices.
    ScreeningCounts since(const ScreeningCounts & earlier) const {
        return {pairs - earlier.pairs, candidates - earlier.candidates, whole - earlier.whole,
                different - earlier.different};
    }
};

namespace screening {

// |SiLU(g)| <= max(g, silu_floor) for every g: the minimum of SiLU is -0.278465.
inline constexpr float silu_floor = 0.2785f;
// Factor of the bound of |SiLU(g) u|: the four roundings to BF16, and those of the bound itself.
inline constexpr float rounding_margin = 1.0f + 0x1p-6f;
// Factor of norms that are computed in F32.
inline constexpr float norm_margin = 1.0f + 0x1p-10f;
// Of a row's norm: the roundings of its rotation.
inline constexpr float rotation_rounding = 0x1p-18f;
// Of the product of both norms, for each of K: the roundings of the product that is bounded, and of the one in 8 bits.
inline constexpr float product_rounding = 0x1p-21f;
// Rows with other norms have no bound: here nothing overflows or becomes subnormal.
inline constexpr float least_norm = 1e-9f, most_norm = 1e9f;
// Products with larger sums may be infinite in BF16.
inline constexpr float most_sum = 1e38f;

} // namespace screening

} // namespace gnv
