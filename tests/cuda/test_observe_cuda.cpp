// Statistics of activations on a CUDA device: the bits of their twins on the CPU, whatever the shape of the grid.
#include "cuda/device_fixture.h"

#include <cstdio>

using namespace gnv;
using namespace gnv::test;

namespace {

constexpr const Statistic * all_statistics[] = {&Statistic::maximum, &Statistic::magnitudes,
                                                &Statistic::second_moments_16, &Statistic::second_moments};

// A total that has seen something already.
OpInput total_of(std::mt19937 & random, const Statistic & statistic, int64_t groups, int64_t width) {
    OpInput total = zero_state(statistic.dtype, statistic.total_shape(groups, width));
    if (&statistic == &Statistic::magnitudes) total.bytes[0] = 7;
    if (statistic.merge == Statistic::Merge::maximum || statistic.dtype == DType::i64) return total;
    const bool squared = statistic.shape(width).rank == 2 && statistic.shape(width)[0] == width;
    for (int64_t i = 0; i < total.shape.elements(); i++) { // symmetric, as a sum of products is
        const int64_t column = i % width, row = squared ? i / width % width : 0;
        const float start = squared ? float(column * row) / 7 : float(random() % 1000) / 7;
        memcpy(total.bytes.data() + i * 4, &start, sizeof start);
    }
    return total;
}

} // namespace

TEST_CASE("statistics of columns") {
    Devices devices;
    std::mt19937 random(21);
    for (const Statistic * const measured : all_statistics) {
        CAPTURE(measured->name);
        for (const int64_t groups : {1, 3})
            for (const int64_t rows : {1, 15, 16, 33, 300})
                for (const int64_t width : {16, 80, 128, 20}) {
                    if (measured == &Statistic::second_moments_16 && width % 16 != 0) continue;
                    compare_exactly(devices, {ObserveParams{measured, int32_t(groups)},
                                              {activation(random, {rows, groups * width}),
                                               total_of(random, *measured, groups, width)},
                                              {}});
                }
    }
}

TEST_CASE("statistics of the rows of each expert") {
    Devices devices;
    std::mt19937 random(22);
    const std::vector<int32_t> offsets = {0, 0, 7, 60, 61, 290}; // rows beyond are not looked at
    for (const Statistic * const measured : all_statistics) {
        CAPTURE(measured->name);
        compare_exactly(devices,
                        {ObserveParams{measured, 5},
                         {activation(random, {300, 512}), total_of(random, *measured, 5, 512), indices({6}, offsets)},
                         {}});
    }
}

// Every bin, its edges, and what is beyond the first and the last.
TEST_CASE("magnitudes of every size") {
    Devices devices;
    std::vector<float> values;
    for (int bits = 0; bits < 0x7f80; bits += 3)
        values.push_back(nvfp4::bf16_to_float(uint16_t(bits | (bits % 2 != 0 ? 0x8000 : 0))));
    values.resize(values.size() / 16 * 16);
    const auto rows = int64_t(values.size() / 16);
    compare_exactly(devices, {ObserveParams{&Statistic::magnitudes, 1},
                              {{OpInput::Role::activation, DType::f32, {rows, 16}, values, {}, {}},
                               zero_state(DType::i64, {1, magnitude_bins})},
                              {}});
}

// Positions that were held back or not, pads, choices of experts that saw many tokens, one or none.
TEST_CASE("statistics of some rows") {
    Devices devices;
    std::mt19937 random(24);
    constexpr const Statistic * statistics[] = {&Statistic::fitted_moments_16, &Statistic::held_moments_16,
                                                &Statistic::fitted_moments, &Statistic::held_moments,
                                                &Statistic::fitted_weights};
    constexpr int64_t chosen = 3;
    for (const int64_t T : {1, 93, 3000})
        for (const int64_t width : {16, 80, 512}) {
            std::vector<int32_t> positions(size_t(3 * T), -1), slots, offsets = {0};
            std::vector<uint8_t> pads(size_t(T), 1);
            for (int64_t t = 0; t < T; t++) {
                positions[size_t(t)] = int32_t(t % 1041);
                pads[size_t(t)] = t % 13 != 5;
            }
            constexpr int32_t groups = 5; // expert 3 saw nothing, expert 0 nearly everything
            for (int32_t g = 0; g < groups; g++) {
                for (int32_t s = 0; s < int32_t(T * chosen); s++)
                    if (g != 3 && (s % 17 == g || (g == 0 && s % 17 > 6))) slots.push_back(s);
                offsets.push_back(int32_t(slots.size()));
            }
            slots.resize(size_t(T * chosen), -1); // not in use
            const std::vector<float> weights = random_numbers(random, T * chosen, 1);
            for (const Statistic * const measured : statistics)
                for (const bool routed : {false, true})
                    for (const bool own : {false, true})
                        for (const bool masked : {false, true}) {
                            if (!routed && own) continue;
                            CAPTURE(measured->name);
                            CAPTURE(T);
                            CAPTURE(width);
                            const int32_t count = routed ? groups : 1;
                            const auto row = own ? GroupedLinearParams::Row::own : GroupedLinearParams::Row::token;
                            OpInput total = total_of(random, *measured, count, width);
                            if (measured->dtype == DType::f64)
                                total = zero_state(DType::f64, measured->total_shape(count, width));
                            compare_exactly(devices,
                                            {ObserveParams{measured, count, row, routed ? chosen : 1},
                                             {activation(random, {own ? T * chosen : T, width}), total,
                                              indices({groups + 1}, offsets), indices({T * chosen}, slots),
                                              numbers({T, chosen}, weights), indices({3, T}, positions), mask(pads)},
                                             {true, true, routed, routed, routed, true, masked}});
                        }
        }
}

TEST_CASE("bench of statistics" * doctest::skip()) {
    Devices devices;
    std::mt19937 random(23);
    OpRunner cuda(*devices.cuda);
    for (const Statistic * const measured : all_statistics)
        for (const int64_t groups : {1, 16}) {
            const int64_t rows = 16384, width = groups == 1 ? 2048 : 512;
            const OpResult result =
                cuda.run({ObserveParams{measured, int32_t(groups)},
                          {activation(random, {rows, groups * width}), total_of(random, *measured, groups, width)},
                          {}},
                         5);
            printf("observe %-32s 16384 x %2d x %4d %9.3f ms %6.0f GB/s\n", measured->name, int(groups), int(width),
                   result.seconds * 1e3, double(rows * groups * width * 2) / result.seconds / 1e9);
            fflush(stdout);
        }
}
