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
    const bool squared = &statistic == &Statistic::second_moments;
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
