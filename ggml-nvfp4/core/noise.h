// Draws without sums. If every id gets noise -log(-log(u)) of its own, with u uniform in (0, 1), the id with the largest
// logit / temperature + noise is a draw from the softmax (Gumbel; "the Gumbel-max trick"). It may be found in any order, in
// parts, on any device, with the same result. All arithmetic is F64 of IEEE operations, so no bit depends on a library.
#pragma once

#include <bit>
#include <cstdint>

namespace gnv {

// Of one choice.
struct Draw {
    uint64_t series = 0; // of the noise
    double temperature = 1;
};

constexpr uint64_t splitmix_step = 0x9e3779b97f4a7c15u;
constexpr uint64_t splitmix_mixed(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// log(x) of a normal x > 0, within 2 units of the last place.
constexpr double exact_log(double x) {
    constexpr double coefficients[] = {1 / 3.0,  1 / 5.0,  1 / 7.0,  1 / 9.0,  1 / 11.0,
                                       1 / 13.0, 1 / 15.0, 1 / 17.0, 1 / 19.0, 1 / 21.0};
    constexpr double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
    constexpr uint64_t root = 0x3fe6a09e667f3bcdu; // of 1/2: x = 2^n m, m from there to its double
    const auto bits = std::bit_cast<uint64_t>(x);
    const auto n = int64_t(bits - root) >> 52;
    const auto m = std::bit_cast<double>(bits - (uint64_t(n) << 52));
    const double s = (m - 1) / (m + 1), z = s * s; // log m = 2 (s + s^3 / 3 + ..), z < 0.03
    double sum = 0;
    for (int i = 9; i >= 0; i--) sum = (sum + coefficients[i]) * z;
    return double(n) * ln2_high + (2 * s + (2 * s * sum + double(n) * ln2_low));
}

// Uniform in (0, 1), an odd multiple of 2^-53: number id + 1 of the SplitMix64 with this seed.
constexpr double unit_of(uint64_t series, uint64_t id) {
    return (double(splitmix_mixed(series + splitmix_step * (id + 1)) >> 12) + 0.5) * 0x1p-52;
}
constexpr double noise_of_unit(double unit) { return -exact_log(-exact_log(unit)); }

// Whether noise of this unit may be above `gap`: often the logarithms need not be known. -log(u) is at least 1 - u, so noise
// above the gap takes 1 - u below exp(-gap), which a power of two bounds.
constexpr bool may_exceed(double unit, double gap) {
    const double powers = (gap - 0.01) * 0x1.71547652b82fep0;
    if (!(powers >= 1)) return true;
    const auto n = uint64_t(powers < 1000 ? powers : 1000);
    return 1 - unit <= std::bit_cast<double>((1023 - n) << 52);
}

// The largest so far. NaN is larger than all numbers; of equal ones the lower id stays.
struct Drawn {
    double key = 0; // logit / temperature + noise
    int32_t id = -1;

    constexpr bool is_before(const Drawn & other) const {
        if (other.id < 0) return id >= 0;
        const bool nan = key != key, other_nan = other.key != other.key;
        if (nan != other_nan) return nan;
        if (!nan && key != other.key) return key > other.key;
        return unsigned(id) < unsigned(other.id);
    }
    constexpr void take(const Drawn & other) {
        if (other.id >= 0 && other.is_before(*this)) *this = other;
    }
    constexpr void take(const Draw & draw, int32_t other_id, double logit) {
        const double scaled = logit / draw.temperature;
        const double unit = unit_of(draw.series, uint64_t(other_id));
        if (id >= 0 && scaled == scaled && !may_exceed(unit, key - scaled)) return;
        take({scaled + noise_of_unit(unit), other_id});
    }
};

} // namespace gnv
