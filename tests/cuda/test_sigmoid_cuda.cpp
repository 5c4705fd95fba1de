// sigmoid and SiLU on a CUDA device: kernels have shorter forms of them for BF16 numbers.
#include "cuda/device_fixture.h"

#include <cmath>
#include <limits>

using namespace gnv;
using namespace gnv::test;

// No number's exact result is so close to the middle of two BF16 numbers that doubles would not do; an infinite exponential makes
// zero (graph/ops.h).
TEST_CASE("sigmoid and SiLU of every BF16 number") {
    Devices devices;
    OpRunner cuda(*devices.cuda);
    std::vector<float> x;
    for (uint32_t bits = 0; bits < 0x10000; bits++) x.push_back(nvfp4::bf16_to_float(uint16_t(bits)));
    const auto input = [](std::vector<float> values) {
        const Shape shape = {int64_t(values.size()), 1};
        return OpInput{OpInput::Role::activation, DType::f32, shape, std::move(values), {}, {}};
    };
    const std::vector<float> ones(x.size(), 1.0f);
    const auto silu = cuda.run({SiluMulParams{}, {input(x), input(ones)}, {}}).tensors[0],
               sigmoid = cuda.run({SigmoidGateParams{0}, {input(ones), input(x)}, {}}).tensors[0];
    int wrong = 0;
    for (size_t i = 0; i < x.size(); i++) {
        const double exponential = std::exp(-double(x[i]));
        const double gate = exponential > double(std::numeric_limits<float>::max()) ? 0.0 : 1 / (1 + exponential);
        const auto same = [](float a, double b) { return std::isnan(b) ? std::isnan(a) : a == to_bf16(float(b)); };
        wrong += !same(silu[i], double(x[i]) * gate) + !same(sigmoid[i], gate);
    }
    CHECK(wrong == 0);
}
