// causal_conv: see graph/ops.h.
#include "cpu/loops.h"
#include "cpu/mixer_kernels.h"

#include <algorithm>

namespace gnv::cpu {

namespace {

// Few positions are shared out by channels, more by blocks of rows, which are read as they lie.
constexpr int64_t few_positions = 64;
constexpr int64_t least_channels = 64;            // of a task
constexpr int64_t least_rows = 8, most_rows = 64; // of a block
constexpr int64_t tasks_per_thread = 4;

struct Scratch {
    int64_t taps = 0, channels = 0;
    float * weights = nullptr;     // [taps, n] of n channels each
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

// A position takes short pieces of many rows: their lines come together if all are asked for before the first is used.
void ask_for(const void * from, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char *>(from) + at);
}

struct Channels {
    int64_t first, count;
};

class Convolution {
  public:
    Convolution(const Loops & loops, const KernelCall & call)
        : loops_(loops.mixer), weight_(call.inputs[1]), scratch_(call, call.threads->size(), call.scratch),
          bf16_(call.precision == Precision::bf16), u_(call.inputs[0].as<const float>()),
          segments_(call.inputs[2].as<const int32_t>()), segment_count_(call.inputs[2].shape[0] - 1),
          history_(call.inputs[3].as<float>()), slots_(call.inputs[4].as<const int32_t>()),
          y_(call.outputs[0].as<float>()) {}

    int64_t channels() const { return scratch_.channels; }
    int64_t begin() const { return segments_[0]; }
    int64_t end() const { return segments_[segment_count_]; }

    // To be called first: makes weights as loops take them.
    void prepare(Channels part) const {
        const int64_t taps = scratch_.taps, bytes = taps * (weight_.dtype == DType::bf16 ? 2 : 4);
        const uint8_t * const packed = weight_.as<const uint8_t>() + part.first * bytes;
        if (part.count < channels()) {
            ask_for(packed, part.count * bytes);
            for (int64_t s = 0; history_ && s < segment_count_; s++)
                for (int64_t i = 0; i < taps - 1; i++)
                    ask_for(history_of(s) + i * channels() + part.first, part.count * int64_t(sizeof(float)));
        }
        loops_.widen_taps(part.count, taps, packed, weight_.dtype == DType::bf16, weights_of(part));
        std::fill_n(scratch_.zeros + part.first, part.count, 0.0f);
    }

    // Positions [first, last).
    void run(Channels part, int64_t first, int64_t last, int thread) const {
        const int64_t taps = scratch_.taps;
        const float ** const rows = scratch_.rows + thread * taps;
        int64_t s = std::upper_bound(segments_, segments_ + segment_count_ + 1, int32_t(first)) - segments_ - 1;
        for (int64_t t = first; t < last; t++) {
            while (segments_[s + 1] <= t) s++;
            for (int64_t j = 0; j < taps; j++) {
                const int64_t from = t - taps + 1 + j, before = from - segments_[s];
                if (before >= 0)
                    rows[j] = u_ + from * channels() + part.first;
                else
                    rows[j] = history_ ? history_of(s) + (taps - 1 + before) * channels() + part.first
                                       : scratch_.zeros + part.first;
            }
            loops_.convolve(part.count, taps, rows, weights_of(part), bf16_, y_ + t * channels() + part.first);
        }
    }

    // To be called last: keeps the last rows of the old history and the new inputs, for every segment. Row i becomes a row that is not
    // before i.
    void store_history(Channels part) const {
        const int64_t kept = scratch_.taps - 1;
        for (int64_t s = 0; history_ && s < segment_count_; s++) {
            float * const history = history_of(s) + part.first;
            const float * const inputs = u_ + segments_[s] * channels() + part.first;
            const int64_t length = segments_[s + 1] - segments_[s];
            for (int64_t i = 0; i < kept && length > 0; i++) {
                const int64_t from = i + length - kept; // in the segment
                const float * source = from >= 0 ? inputs + from * channels() : history + (i + length) * channels();
                memcpy(history + i * channels(), source, size_t(part.count) * sizeof(float));
            }
        }
    }

  private:
    float * history_of(int64_t segment) const {
        return history_ + (slots_ ? slots_[segment] : segment) * (scratch_.taps - 1) * channels();
    }
    float * weights_of(Channels part) const { return scratch_.weights + part.first * scratch_.taps; }

    const MixerLoops & loops_;
    const Tensor & weight_;
    Scratch scratch_;
    bool bf16_;
    const float * u_;
    const int32_t * segments_;
    int64_t segment_count_;
    float * history_; // null: none
    const int32_t * slots_;
    float * y_;
};

Status run(KernelCall & call) { return causal_conv_with(loops(call.threads->instructions()), call); }

} // namespace

Status causal_conv_with(const Loops & loops, KernelCall & call) {
    const Convolution convolution(loops, call);
    const int64_t channels = convolution.channels(), begin = convolution.begin(), end = convolution.end();
    const int64_t tasks = tasks_per_thread * call.threads->size();
    if (end - begin <= few_positions) {
        const int64_t each = std::max(channels / tasks / least_channels, int64_t(1)) * least_channels;
        return call.threads->parallel_for_thread((channels + each - 1) / each, [&](int64_t task, int thread) -> Status {
            const Channels part = {task * each, std::min(each, channels - task * each)};
            convolution.prepare(part);
            convolution.run(part, begin, end, thread);
            convolution.store_history(part);
            return {};
        });
    }
    const Channels all = {0, channels};
    convolution.prepare(all);
    const int64_t rows = std::clamp((end - begin) / tasks, least_rows, most_rows);
    GNV_TRY(
        call.threads->parallel_for_thread((end - begin + rows - 1) / rows, [&](int64_t block, int thread) -> Status {
            const int64_t first = begin + block * rows;
            convolution.run(all, first, std::min(end, first + rows), thread);
            return {};
        }));
    convolution.store_history(all);
    return {};
}

const KernelEntry causal_conv_entry = {run, scratch_bytes};

} // namespace gnv::cpu
