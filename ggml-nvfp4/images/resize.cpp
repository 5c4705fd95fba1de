#include "images/resize.h"

#include "images/strips.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace gnv {

namespace {

// The inputs of each output along one axis.
struct Taps {
    struct Range {
        int64_t first = 0;
        size_t count = 0;
    };
    std::vector<Range> ranges;    // of each output
    std::vector<int16_t> weights; // [outputs, most]
    size_t most = 0;
    int bits = 0; // fractional bits of the weights
    const int16_t * weights_of(int64_t output) const { return weights.data() + size_t(output) * most; }
};

double cubic(double x) {
    constexpr double a = -0.5;
    x = std::fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    return 0;
}

int fractional_bits(double largest) {
    int bits = 0;
    while (bits < 22 && int64_t(0.5 + largest * double(1 << (bits + 1))) < 1 << 15) bits++;
    return bits;
}

Taps make_taps(int64_t in, int64_t out) {
    const double scale = double(in) / double(out), stretch = std::max(scale, 1.0), support = 2 * stretch;
    Taps taps;
    taps.most = std::min(size_t(in), size_t(std::ceil(support)) * 2 + 1);
    taps.ranges.resize(size_t(out));
    std::vector<double> weights(size_t(out) * taps.most);
    double largest = 0;
    for (int64_t o = 0; o < out; o++) {
        const double center = scale * (double(o) + 0.5);
        const int64_t first = std::max(int64_t(center - support + 0.5), int64_t(0));
        const int64_t end = std::min(int64_t(center + support + 0.5), in);
        const size_t count = std::min(size_t(std::max(end - first, int64_t(0))), taps.most);
        double * const row = weights.data() + size_t(o) * taps.most;
        double sum = 0;
        for (size_t k = 0; k < count; k++) {
            row[k] = cubic((double(first + int64_t(k)) - center + 0.5) * (1 / stretch));
            sum += row[k];
        }
        for (size_t k = 0; k < count && sum != 0; k++) {
            row[k] /= sum;
            largest = std::max(largest, row[k]);
        }
        taps.ranges[size_t(o)] = {first, count};
    }
    taps.bits = fractional_bits(largest);
    taps.weights.resize(weights.size());
    for (size_t i = 0; i < weights.size(); i++) {
        const double scaled = weights[i] * double(1 << taps.bits);
        taps.weights[i] = int16_t(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    }
    return taps;
}

uint8_t to_level(int32_t sum, int bits) { return uint8_t(std::clamp(sum >> bits, 0, 255)); }
int32_t half(int bits) { return bits > 0 ? 1 << (bits - 1) : 0; }

// Rows are resized some at a time: the same channel of the same column of all of them lies side by side, for vectors.
constexpr size_t lanes = 16;
using Lanes = std::array<int16_t, lanes>;

// `count` rows of `width` pixels.
void resize_rows(const uint8_t * in, size_t width, size_t count, const Taps & taps, uint8_t * out) {
    std::vector<Lanes> columns(width * 3);
    for (size_t i = 0; i < columns.size(); i++)
        for (size_t row = 0; row < count; row++) columns[i][row] = in[row * columns.size() + i];
    const size_t stride = taps.ranges.size() * 3;
    for (size_t x = 0; x < taps.ranges.size(); x++) {
        const Taps::Range range = taps.ranges[x];
        const int16_t * const weights = taps.weights_of(int64_t(x));
        const Lanes * column = columns.data() + range.first * 3;
        std::array<std::array<int32_t, lanes>, 3> sums;
        for (auto & channel : sums) channel.fill(half(taps.bits));
        for (size_t k = 0; k < range.count; k++, column += 3)
            for (size_t c = 0; c < 3; c++)
                for (size_t row = 0; row < lanes; row++) sums[c][row] += int32_t(weights[k]) * column[c][row];
        for (size_t row = 0; row < count; row++)
            for (size_t c = 0; c < 3; c++) out[row * stride + 3 * x + c] = to_level(sums[c][row], taps.bits);
    }
}

// One output row from rows of `stride` bytes.
void resize_column(const uint8_t * in, size_t stride, const Taps & taps, int64_t y, uint8_t * out) {
    constexpr size_t block = 1024; // sums that stay in the first cache
    int32_t sums[block];
    const Taps::Range range = taps.ranges[size_t(y)];
    const int16_t * const weights = taps.weights_of(y);
    for (size_t begin = 0; begin < stride; begin += block) {
        const size_t count = std::min(block, stride - begin);
        std::fill(sums, sums + count, half(taps.bits));
        for (size_t k = 0; k < range.count; k++) {
            const uint8_t * const row = in + (size_t(range.first) + k) * stride + begin;
            const int16_t weight = weights[k];
            for (size_t i = 0; i < count; i++) sums[i] += int32_t(weight) * int16_t(row[i]);
        }
        for (size_t i = 0; i < count; i++) out[begin + i] = to_level(sums[i], taps.bits);
    }
}

Image empty_image(int64_t width, int64_t height) {
    return {width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
}

Status resize(const Image & image, int64_t width, int64_t height, ThreadPool * pool, Image & out) {
    constexpr int64_t strip = 16; // rows that are one task
    const Image * in = &image;
    Image narrow;
    if (width != image.width) {
        const Taps taps = make_taps(image.width, width);
        narrow = empty_image(width, image.height);
        const int64_t groups = (image.height + int64_t(lanes) - 1) / int64_t(lanes);
        GNV_TRY(for_strips(pool, groups, 1, [&](int64_t group) {
            const int64_t y = group * int64_t(lanes), count = std::min(int64_t(lanes), image.height - y);
            resize_rows(image.rgb.data() + y * image.width * 3, size_t(image.width), size_t(count), taps,
                        narrow.rgb.data() + y * width * 3);
        }));
        in = &narrow;
    }
    if (height == image.height) {
        out = in == &narrow ? std::move(narrow) : image;
        return {};
    }
    const Taps taps = make_taps(image.height, height);
    const size_t stride = size_t(width) * 3;
    out = empty_image(width, height);
    return for_strips(pool, height, strip, [&](int64_t y) {
        resize_column(in->rgb.data(), stride, taps, y, out.rgb.data() + size_t(y) * stride);
    });
}

} // namespace

Result<Image> resize_bicubic(const Image & image, int64_t width, int64_t height, ThreadPool * pool) {
    Image out;
    GNV_TRY(guard_exceptions([&] { return resize(image, width, height, pool, out); }));
    return out;
}

} // namespace gnv
