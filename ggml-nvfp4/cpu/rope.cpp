// rope: see graph/ops.h.
#include "codec/nvfp4.h"
#include "cpu/exact_math.h"
#include "cpu/loops.h"
#include "cpu/mixer_kernels.h"

#include <algorithm>

namespace gnv::cpu {

namespace {

constexpr int64_t block_rows = 64;

struct Scratch {
    float * frequency = nullptr;                                // [rotary / 2]
    uint8_t * axis = nullptr;                                   // [rotary / 2]
    float *angle = nullptr, *sine = nullptr, *cosine = nullptr; // [threads, block_rows, rotary / 2]
    uint64_t bytes = 0;

    Scratch(const RopeParams & params, int threads, void * memory) {
        ScratchCursor cursor(memory);
        const int64_t half = params.rotary / 2;
        frequency = cursor.take<float>(half), axis = cursor.take<uint8_t>(half);
        angle = cursor.take<float>(threads * block_rows * half), sine = cursor.take<float>(threads * block_rows * half);
        cosine = cursor.take<float>(threads * block_rows * half);
        bytes = cursor.bytes();
    }
};

// theta^(2 i / rotary) comes in F32, as in the reference.
float yarn_frequency(const Yarn & yarn, float power, int64_t i) {
    const float ramp = std::clamp((float(i) - float(yarn.low)) / (float(yarn.high) - float(yarn.low)), 0.0f, 1.0f);
    const float keep = 1 - ramp;
    return 1 / (float(yarn.factor) * power) * (1 - keep) + 1 / power * keep;
}

uint64_t scratch_bytes(const KernelCall & call) {
    return Scratch(call.as<RopeParams>(), call.threads->size(), nullptr).bytes;
}

Status run(KernelCall & call) { return rope_with(loops(call.threads->instructions()), call); }

} // namespace

Status rope_with(const Loops & loops, KernelCall & call) {
    const auto & params = call.as<RopeParams>();
    const Tensor & x = call.inputs[0];
    const auto * positions = call.inputs[1].as<const int32_t>();
    const int64_t count = x.shape[0], stride = x.shape[1], width = call.outputs[0].shape[1], half = params.rotary / 2;
    // Of an axial rope nothing but the result is rounded.
    const bool rounds = call.precision == Precision::bf16, bf16 = rounds && !params.axial;
    const Scratch scratch(params, call.threads->size(), call.scratch);
    const double log_theta = exact::log(params.theta);
    const int64_t axes = params.axial ? 2 : 1; // that the frequencies are divided between
    const Yarn & yarn = params.yarn;
    const auto attention_factor = float(yarn.attention_factor);
    for (int64_t i = 0; i < half; i++) {
        const int64_t kind = i % 3, step = axes * (i % (half / axes));
        const float power = float(exact::exp(2.0 * double(step) / double(params.rotary) * log_theta));
        scratch.frequency[i] = yarn == Yarn() ? 1.0f / power : yarn_frequency(yarn, power, i);
        scratch.axis[i] = kind != 0 && i < 3 * params.section[kind] ? uint8_t(kind) : 0;
        if (params.axial) scratch.axis[i] = i < half / 2 ? 1 : 2;
    }
    const int64_t blocks = (count + block_rows - 1) / block_rows;
    return call.threads->parallel_for_thread(blocks, [&](int64_t block, int thread) -> Status {
        const int64_t first = block * block_rows, rows = std::min(block_rows, count - first);
        float * angle = scratch.angle + thread * block_rows * half;
        float * sine = scratch.sine + thread * block_rows * half;
        float * cosine = scratch.cosine + thread * block_rows * half;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < half; i++)
                angle[r * half + i] = float(positions[scratch.axis[i] * count + first + r]) * scratch.frequency[i];
        loops.mixer.sines(rows * half, angle, bf16 && attention_factor == 1, sine, cosine);
        for (int64_t i = 0; i < rows * half && attention_factor != 1; i++)
            for (float * const value : {sine + i, cosine + i}) {
                *value *= attention_factor;
                if (bf16) *value = nvfp4::round_to(DType::bf16, *value);
            }
        for (int64_t r = 0; r < rows; r++) {
            float * const y = call.outputs[0].as<float>() + (first + r) * width;
            loops.mixer.rotate(width / params.head, params.head, half,
                               x.as<const float>() + (first + r) * stride + params.column, sine + r * half,
                               cosine + r * half, bf16, y);
            if (rounds && !bf16) loops.mixer.round(width, y, y);
        }
        return {};
    });
}

const KernelEntry rope_entry = {run, scratch_bytes};

} // namespace gnv::cpu
