// expert_inputs on a CUDA device: screened, not screened and compared give the same bits, near those of the CPU.
#include "cuda/device_fixture.h"
#include "cuda/expert_choices.h"

#include <cstdio>
#include <cstring>
#include <limits>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Sizes {
    int64_t tokens, experts, columns, k;
    int chosen;
};

OpCase inputs_case(std::mt19937 & random, const Sizes & size, int used) {
    const Order order = order_of(random_choices(random, size.tokens, size.chosen, used), 0, int(size.experts),
                                 size_t(size.tokens * size.chosen));
    OpInput maxima = zero_state(DType::f32, {size.experts});
    return {ExpertInputsParams{size.chosen},
            {activation(random, {size.tokens, size.k}),
             weight(random, DType::bf16, {size.experts, size.columns, size.k}, 0.05f),
             weight(random, DType::bf16, {size.experts, size.columns, size.k}, 0.05f),
             indices({int64_t(order.slots.size())}, order.slots), indices({size.experts + 1}, order.offsets), maxima},
            {}};
}

bool same_bits(const OpResult & a, const OpResult & b) {
    if (a.tensors.size() != b.tensors.size()) return false;
    for (size_t i = 0; i < a.tensors.size(); i++)
        if (a.tensors[i].size() != b.tensors[i].size() ||
            memcmp(a.tensors[i].data(), b.tensors[i].data(), a.tensors[i].size() * sizeof(float)) != 0)
            return false;
    return true;
}

OpResult screened(OpRunner & runner, OpCase op, Screening screening) {
    std::get<ExpertInputsParams>(op.params).screening = screening;
    return runner.run(op);
}

uint64_t different(Backend & device) {
    ScreeningCounts counts;
    REQUIRE(device.add_screening(counts).ok());
    return counts.different;
}

} // namespace

TEST_CASE("inputs of experts: screening changes no bit, for any numbers") {
    Devices devices;
    if (!devices.cuda->joins_expert_inputs()) return;
    OpRunner cuda(*devices.cuda), cpu(*devices.cpu);
    std::mt19937 random(41);
    enum Kind { normal, outliers, alike, rising, bad_tokens, bad_weights, zeros, overflow, kinds };
    for (const Sizes & size : {Sizes{1, 3, 64, 64, 1},
                               {77, 3, 40, 48, 1},
                               {300, 8, 96, 320, 2},
                               {129, 4, 130, 72, 3},
                               {90, 3, 40, 768, 1},
                               {129, 3, 64, 4096, 1},
                               {700, 8, 512, 2048, 2}})
        for (int kind = normal; kind < kinds; kind++) {
            CAPTURE(size.tokens);
            CAPTURE(kind);
            // One expert has no token, and computes all.
            OpCase op = inputs_case(random, size, std::max(size.chosen, int(size.experts) - 1));
            std::vector<float> & x = op.inputs[0].numbers;
            const auto at = [&](int64_t t, int64_t i) -> float & {
                return x[size_t(t % size.tokens * size.k + i % size.k)];
            };
            if (kind == outliers)
                for (int64_t t = 0; t < size.tokens; t++)
                    for (const int64_t i : {3, 17, 40}) at(t, i) *= 256;
            if (kind == alike || kind == rising)
                for (int64_t t = 1; t < size.tokens; t++)
                    for (int64_t i = 0; i < size.k; i++)
                        at(t, i) = to_bf16(at(0, i) * (kind == alike ? 1.0f : 1 + float(t) / float(2 * size.tokens)));
            if (kind == bad_tokens) {
                at(5, 1) = std::numeric_limits<float>::quiet_NaN();
                at(6, 2) = std::numeric_limits<float>::infinity();
            }
            if (kind == bad_weights) {
                op.inputs[1].numbers[size_t(size.k * 3)] = std::numeric_limits<float>::quiet_NaN();
                op.inputs[2].numbers.back() = -std::numeric_limits<float>::infinity();
            }
            if (kind == zeros) {
                std::fill_n(x.begin(), size.k, 0.0f);
                std::fill_n(op.inputs[2].numbers.begin(), size.columns * size.k, 0.0f);
            }
            if (kind == overflow)
                for (float & value : x) value *= 0x1p70f;
            const OpResult expected = screened(cuda, op, Screening::off);
            CHECK(same_bits(screened(cuda, op, Screening::on), expected));
            CHECK(same_bits(screened(cuda, op, Screening::check), expected));
            if (kind != normal || size.k > 320) continue;
            const OpResult by_cpu = screened(cpu, op, Screening::off);
            for (const size_t i : {size_t(0), size_t(1)})
                CHECK(rms_error_of(expected.tensors[i], by_cpu.tensors[i]) <= 1.5 * bf16_step);
        }
    CHECK(different(*devices.cuda) == 0);
}

// To an expert that the router gave no token all tokens are candidates, of which few are computed.
TEST_CASE("inputs of experts: an expert without tokens computes its most promising ones") {
    Devices devices;
    if (!devices.cuda->joins_expert_inputs()) return;
    OpRunner cuda(*devices.cuda);
    std::mt19937 random(43);
    const OpCase op = inputs_case(random, {5000, 4, 256, 1024, 1}, 3);
    const auto counts = [&] {
        ScreeningCounts found;
        REQUIRE(devices.cuda->add_screening(found).ok());
        return found;
    };
    const ScreeningCounts before = counts();
    const OpResult first = screened(cuda, op, Screening::on);
    const ScreeningCounts found = counts().since(before);
    CHECK(found.pairs == 20000);
    CHECK(found.whole == 0);
    CHECK(found.candidates >= 128);
    CHECK(found.candidates < 2000);
    // The same tokens each time.
    CHECK(same_bits(screened(cuda, op, Screening::on), first));
    CHECK(counts().since(before).candidates == 2 * found.candidates);
}

TEST_CASE("bench of inputs of experts" * doctest::skip()) {
    Devices devices;
    OpRunner cuda(*devices.cuda);
    std::mt19937 random(42);
    const OpCase op = inputs_case(random, {16384, 64, 512, 2048, 8}, 64);
    for (const Screening screening : {Screening::off, Screening::on}) {
        OpCase one = op;
        std::get<ExpertInputsParams>(one.params).screening = screening;
        const OpResult result = cuda.run(one, 5);
        printf("  expert_inputs, 16384 x 64 experts of 512, %s: %.2f ms, %.0f TFLOP/s\n",
               screening == Screening::off ? "in full" : "screened", 1e3 * result.seconds,
               cuda.flops / result.seconds / 1e12);
    }
}
