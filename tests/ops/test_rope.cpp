// rope against its definition in long double. test_attention.cpp has a recorded run through both.
#include "mixer_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

struct Case {
    RopeParams params;
    int64_t heads = 2;
    Floats x;
    Integers positions; // [3, T]

    Case(int64_t count, int64_t heads_, int64_t head, int64_t rotary, std::initializer_list<int64_t> sections,
         int32_t farthest)
        : heads(heads_) {
        params.head = head, params.rotary = rotary, params.theta = 1e7;
        std::copy(sections.begin(), sections.end(), params.section);
        x = random_floats(count * heads * head, 3, 1);
        std::mt19937 random(2);
        for (int64_t i = 0; i < 3 * count; i++) positions.push_back(int32_t(random() % uint32_t(farthest)));
    }
    int64_t count() const { return int64_t(positions.size()) / 3; }

    Floats run(Precision precision = Precision::f32, const Way & way = {}) {
        Floats y(x.size(), 99);
        const int64_t width = heads * params.head;
        run_kernel(cpu::rope_entry, cpu::rope_with, params, precision,
                   {view(x, {count(), width}), view(positions, {3, count()})}, view(y, {count(), width}), way);
        return y;
    }

    // Exact but for the roundings of the contract: frequency, angle, sine, cosine and, for BF16, every step.
    Floats expected(bool bf16) const {
        Floats y = x;
        const int64_t half = params.rotary / 2, rows = count() * heads;
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t i = 0; i < half; i++) {
                int64_t axis = 0;
                if (i % 3 == 1 && i < 3 * params.section[1]) axis = 1;
                if (i % 3 == 2 && i < 3 * params.section[2]) axis = 2;
                const float frequency = 1.0f / float(std::pow(static_cast<long double>(params.theta),
                                                              2.0L * static_cast<long double>(i) / params.rotary));
                const float angle = float(positions[size_t(axis * count() + row / heads)]) * frequency;
                auto sine = float(std::sin(static_cast<long double>(angle)));
                auto cosine = float(std::cos(static_cast<long double>(angle)));
                if (bf16) sine = bf16_of(sine), cosine = bf16_of(cosine);
                const float a = x[size_t(row * params.head + i)], b = x[size_t(row * params.head + i + half)];
                float products[4] = {a * cosine, -b * sine, b * cosine, a * sine};
                if (bf16)
                    for (float & product : products) product = bf16_of(product);
                const float low = products[0] + products[1], high = products[2] + products[3];
                y[size_t(row * params.head + i)] = bf16 ? bf16_of(low) : low;
                y[size_t(row * params.head + i + half)] = bf16 ? bf16_of(high) : high;
            }
        }
        return y;
    }
};

} // namespace

TEST_CASE("rope: definition, near and far positions, three axes") {
    Case cases[] = {Case(70, 4, 64, 16, {3, 3, 2}, 100), Case(130, 2, 256, 64, {11, 11, 10}, 262144),
                    Case(65, 1, 32, 32, {16, 0, 0}, 10'000'000), Case(3, 3, 20, 6, {1, 1, 1}, 1000),
                    Case(9, 1, 64, 64, {20, 4, 7}, 5000)};
    for (Case & rope : cases) {
        CAPTURE(rope.params.head);
        CHECK(same_bits(rope.run(), rope.expected(false)));
        round_all(rope.x);
        CHECK(same_bits(rope.run(Precision::bf16), rope.expected(true)));
    }
}

TEST_CASE("rope: threads, loops and batch change nothing") {
    Case rope(200, 2, 64, 16, {3, 3, 2}, 5000);
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
        const Floats expected = rope.run(precision);
        for (const Way & way : all_ways()) CHECK(same_bits(rope.run(precision, way), expected));
    }
}
