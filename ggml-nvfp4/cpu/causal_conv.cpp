// causal_conv: see graph/ops.h.
#include "cpu/loops.h"
#include "cpu/mixer_kernels.h"

#include <algorithm>

namespace gnv::cpu {

namespace {

constexpr int64_t block_rows = 64;

struct Scratch {
    int64_t taps = 0, channels = 0;
    float * weights = nullptr;     // [taps, C]
    float * zeros = nullptr;       // [C]
    const float ** rows = nullptr; // [threads, taps]
    uint64_t bytes = 0;

    Scratch(const KernelCall & call, int threads, void * memory) {
        ScratchCursor cursor(memory);
        taps = call.inputs[1].shape.last(), channels = call.inputs[0].shape[1];
        weights = cursor.take<float>(taps * channels), zeros = cursor.take<float>(channels);
        rows = cursor.take<const float *>(threads * taps);
        bytes = cursor.bytes();
    }
};

uint64_t scratch_bytes(const KernelCall & call) { return Scratch(call, call.threads->size(), nullptr).bytes; }

// Keeps the last rows of the old history and the new inputs, for every segment. Row i becomes a row that
// is not before i.
void store_history(const Scratch & scratch, const float * u, const int32_t * segments, int64_t count,
                   const int32_t * slots, float * all) {
    const int64_t kept = scratch.taps - 1, channels = scratch.channels;
    for (int64_t s = 0; s < count; s++) {
        float * const history = all + (slots ? slots[s] : s) * kept * channels;
        const int64_t length = segments[s + 1] - segments[s];
        for (int64_t i = 0; i < kept; i++) {
            const int64_t from = i + length - kept; // in the segment
            const float * source = from >= 0 ? u + (segments[s] + from) * channels : history + (i + length) * channels;
            if (length > 0) memcpy(history + i * channels, source, size_t(channels) * sizeof(float));
        }
    }
}

Status run(KernelCall & call) { return causal_conv_with(loops(call.threads->instructions()), call); }

} // namespace

Status causal_conv_with(const Loops & loops, KernelCall & call) {
    const Scratch scratch(call, call.threads->size(), call.scratch);
    const auto * u = call.inputs[0].as<const float>();
    const Tensor & weight = call.inputs[1];
    const auto * segments = call.inputs[2].as<const int32_t>();
    auto * history = call.inputs[3].as<float>();
    const auto * slots = call.inputs[4].as<const int32_t>();
    auto * y = call.outputs[0].as<float>();
    const int64_t taps = scratch.taps, channels = scratch.channels, segment_count = call.inputs[2].shape[0] - 1;
    const bool bf16 = call.precision == Precision::bf16;
    loops.mixer.widen_taps(channels, taps, weight.data, weight.dtype == DType::bf16, scratch.weights);
    std::fill_n(scratch.zeros, channels, 0.0f);
    const int64_t begin = segments[0], end = segments[segment_count];
    GNV_TRY(call.threads->parallel_for_thread(
        (end - begin + block_rows - 1) / block_rows, [&](int64_t block, int thread) -> Status {
            const int64_t first = begin + block * block_rows, last = std::min(end, first + block_rows);
            int64_t s = std::upper_bound(segments, segments + segment_count + 1, int32_t(first)) - segments - 1;
            const float ** rows = scratch.rows + thread * taps;
            for (int64_t t = first; t < last; t++) {
                while (segments[s + 1] <= t) s++;
                for (int64_t j = 0; j < taps; j++) {
                    const int64_t from = t - taps + 1 + j, before = from - segments[s];
                    if (before >= 0)
                        rows[j] = u + from * channels;
                    else
                        rows[j] = history ? history + (((slots ? slots[s] : s) + 1) * (taps - 1) + before) * channels
                                          : scratch.zeros;
                }
                loops.mixer.convolve(channels, taps, rows, scratch.weights, bf16, y + t * channels);
            }
            return {};
        }));
    if (history) store_history(scratch, u, segments, segment_count, slots, history);
    return {};
}

const KernelEntry causal_conv_entry = {run, scratch_bytes};

} // namespace gnv::cpu
