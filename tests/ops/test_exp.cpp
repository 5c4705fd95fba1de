#include "ops/row_fixture.h"
#include <doctest/doctest.h>

#include <limits>

using namespace gnv;
using namespace gnv::test;

namespace {

float exponential(const cpu::Loops & loops, float x) {
    float y = 0;
    loops.rows.exponential(&x, 1, &y);
    return y;
}

float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace

TEST_CASE("exp: within 1.1 units in the last place, and the same bits in every variant") {
    // Every 997th float of both signs, to well past overflow and underflow.
    std::vector<float> x;
    for (uint32_t bits = 0x30000000; bits < 0x42b20000; bits += 997)
        for (const uint32_t sign : {0u, 0x80000000u}) x.push_back(from_bits(bits | sign));
    std::vector<float> y(x.size()), other(x.size());
    (*cpu::all_loops().front()).rows.exponential(x.data(), int64_t(x.size()), y.data());
    long double worst = 0;
    for (size_t i = 0; i < x.size(); i++) {
        const long double exact = expl((long double)x[i]);
        if (exact < 0x1p-126L) {
            if (y[i] != 0) FAIL_CHECK("e^", x[i], " should be 0");
        } else if (exact > (long double)std::numeric_limits<float>::max()) {
            if (!std::isinf(y[i])) FAIL_CHECK("e^", x[i], " should be Inf");
        } else {
            int exponent;
            frexpl(exact, &exponent);
            worst = std::max(worst, fabsl((long double)y[i] - exact) / ldexpl(1, exponent - 24));
        }
    }
    MESSAGE("worst error in units in the last place: ", double(worst));
    CHECK(worst <= 1.1L);
    for (const cpu::Loops * loops : cpu::all_loops()) {
        const int64_t count =
            loops == &(*cpu::all_loops().front()) ? int64_t(x.size()) : std::min<int64_t>(100000, int64_t(x.size()));
        other = y;
        std::fill_n(other.begin(), count, -1.0f);
        loops->rows.exponential(x.data(), count, other.data());
        CHECK_MESSAGE(same_bits(other, y), loops->name);
    }
}

TEST_CASE("exp: edges") {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const cpu::Loops * loops : cpu::all_loops()) {
        CAPTURE(loops->name);
        CHECK(exponential(*loops, 0.0f) == 1.0f);
        CHECK(exponential(*loops, -0.0f) == 1.0f);
        CHECK(exponential(*loops, from_bits(1)) == 1.0f); // denormal
        CHECK(exponential(*loops, infinity) == infinity);
        CHECK(exponential(*loops, -infinity) == 0.0f);
        CHECK(exponential(*loops, std::numeric_limits<float>::max()) == infinity);
        CHECK(exponential(*loops, -std::numeric_limits<float>::max()) == 0.0f);
        CHECK(exponential(*loops, -8.8e6f) == 0.0f); // the integer's sign bit
        CHECK(std::isnan(exponential(*loops, std::numeric_limits<float>::quiet_NaN())));
        CHECK(std::isnan(exponential(*loops, -std::numeric_limits<float>::quiet_NaN())));
        // Monotone where the result leaves the range of normal numbers, and exact in where.
        for (const float edge : {-87.33654475f, 88.72283905f}) {
            float x = edge, last = 0;
            for (int i = 0; i < 200; i++) x = std::nextafter(x, -infinity);
            for (int i = 0; i < 400; i++, x = std::nextafter(x, infinity)) {
                const float y = exponential(*loops, x);
                if (y < last) FAIL_CHECK("falls at ", x);
                CHECK((y == 0) == (expl((long double)x) < 0x1p-126L));
                CHECK(std::isinf(y) == (expl((long double)x) > (long double)std::numeric_limits<float>::max()));
                last = y;
            }
        }
    }
}
