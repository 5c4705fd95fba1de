// Elementary functions in double against the system's in long double.
#include "cpu/exact_math.h"

#include <cmath>
#include <doctest/doctest.h>
#include <random>

using namespace gnv::cpu;

namespace {

template <class Function, class Reference>
double worst_relative(double from, double to, const Function & function, const Reference & reference) {
    double worst = 0;
    std::mt19937_64 random(1);
    for (int i = 0; i < 100'000; i++) {
        const double x = from + (to - from) * (double(random() >> 11) * 0x1p-53);
        const long double exact = reference(static_cast<long double>(x));
        if (exact == 0) continue;
        worst = std::max(worst, double(std::abs((static_cast<long double>(function(x)) - exact) / exact)));
    }
    return worst;
}

} // namespace

TEST_CASE("exp, log, log1p and softplus in double") {
    const auto exp = [](long double x) { return std::exp(x); };
    CHECK(worst_relative(-1, 1, exact::exp, exp) < 4e-16);
    CHECK(worst_relative(-708, 709, exact::exp, exp) < 4e-16);
    CHECK(exact::exp(0) == 1);
    CHECK(exact::exp(-1000) == 0);
    CHECK(exact::exp(1000) == INFINITY);
    CHECK(exact::exp(-INFINITY) == 0);
    CHECK(std::isnan(exact::exp(NAN)));
    const auto log = [](long double x) { return std::log(x); };
    CHECK(worst_relative(0.5, 2, exact::log, log) < 6e-16);
    CHECK(worst_relative(1e-9, 1, exact::log, log) < 6e-16);
    CHECK(worst_relative(1, 1e12, exact::log, log) < 6e-16);
    CHECK(exact::log(1) == 0);
    CHECK(std::abs(exact::log(1e7) - 16.118095650958319788L) < 4e-15);
    const auto log1p = [](long double x) { return std::log1p(x); };
    CHECK(worst_relative(0, 1e-6, exact::log1p, log1p) < 6e-16);
    CHECK(worst_relative(0, 1, exact::log1p, log1p) < 8e-16);
    CHECK(worst_relative(1, 1e9, exact::log1p, log1p) < 6e-16);
    const auto softplus = [](long double x) { return x > 20 ? x : std::log1p(std::exp(x)); };
    CHECK(worst_relative(-100, 40, exact::softplus, softplus) < 1e-15);
    CHECK(exact::softplus(20.5) == 20.5);
    CHECK(exact::softplus(-1000) == 0);
    CHECK(std::isnan(exact::softplus(NAN)));
}

TEST_CASE("sine and cosine of angles in F32") {
    std::mt19937_64 random(1);
    for (const double limit : {1.0, 100.0, 1e5, 1e7, 2e9}) {
        double worst = 0;
        for (int i = 0; i < 100'000; i++) {
            const auto x = double(float(limit * (double(random() >> 11) * 0x1p-52 - 1)));
            const exact::SineCosine value = exact::sine_cosine(x);
            worst = std::max(worst, double(std::abs(value.sine - std::sin(static_cast<long double>(x)))));
            worst = std::max(worst, double(std::abs(value.cosine - std::cos(static_cast<long double>(x)))));
        }
        CAPTURE(limit);
        CHECK(worst < 4e-16);
    }
    CHECK(exact::sine_cosine(0).sine == 0);
    CHECK(exact::sine_cosine(0).cosine == 1);
}
