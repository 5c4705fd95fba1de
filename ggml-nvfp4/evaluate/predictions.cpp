#include "evaluate/predictions.h"

#include "codec/nvfp4.h"
#include "cpu/exact_math.h"
#include "cpu/loops.h"

#include <algorithm>
#include <cmath>

namespace gnv::evaluate {

Positions list_positions(const std::vector<TextSequence> & sequences) {
    Positions out;
    for (const TextSequence & sequence : sequences) {
        const int64_t row = out.count(), length = sequence.length();
        const auto is_picture = [&](int64_t t) {
            return std::binary_search(sequence.given_at.begin(), sequence.given_at.end(), int32_t(t));
        };
        const auto real = [&](int64_t t) { return sequence.mask.empty() || sequence.mask[size_t(t)] != 0; };
        std::vector<int32_t> begins = sequence.segments;
        if (begins.empty()) begins.push_back(0);
        for (size_t s = 0; s < begins.size(); s++) {
            const int64_t begin = begins[s], end = s + 1 < begins.size() ? begins[s + 1] : length;
            int64_t tokens = 0;
            for (int64_t t = begin; t < end; t++) {
                const bool predicts = t + 1 < end && real(t) && real(t + 1) && !is_picture(t + 1);
                out.next.push_back(predicts ? sequence.ids[size_t(t + 1)] : -1);
                out.scored.push_back(real(t));
                out.of_picture.push_back(is_picture(t));
                out.window_of.push_back(uint32_t(out.windows.size()));
                tokens += real(t);
            }
            if (tokens == 0) continue; // pads only
            out.windows.push_back({row + begin, row + end, row + begin + (tokens * 3 + 3) / 4});
        }
    }
    if (std::find(out.of_picture.begin(), out.of_picture.end(), 1) == out.of_picture.end()) out.of_picture.clear();
    return out;
}

void Predictions::resize(int64_t positions, bool is_source) {
    nll.assign(size_t(positions), 0);
    top.assign(size_t(positions), 0);
    if (!is_source) divergence.assign(size_t(positions), 0);
}

Comparer::Comparer(const Positions & positions, int64_t vocabulary, ThreadPool & threads)
    : positions_(positions), vocabulary_(vocabulary), threads_(threads), scratch_(size_t(threads.size())) {}

Status Comparer::compare(int64_t first, int64_t count, const SourceRows & source,
                         const std::vector<const float *> & lines, Predictions & source_predictions,
                         std::vector<Predictions> & predictions) {
    const cpu::LogitLoops & loops = cpu::loops(threads_.instructions()).logits;
    const auto width = size_t(vocabulary_);
    normalizers_.resize(size_t(count));
    return threads_.parallel_for_thread(count, [&](int64_t i, int thread) -> Status {
        const auto position = size_t(first + i);
        Scratch & scratch = scratch_[size_t(thread)];
        scratch.source.resize(width);
        scratch.line.resize(width);
        const float * reference = nullptr;
        if (source.logits) {
            reference = source.logits + i * vocabulary_;
        } else {
            scratch.widened.resize(width);
            const uint16_t * const halves = source.probabilities + i * vocabulary_;
            for (size_t c = 0; c < width; c++) scratch.widened[c] = nvfp4::f16_to_float(halves[c]);
            reference = scratch.widened.data();
        }
        const auto log_normalizer = [](const cpu::LogitSummary & summary) {
            return double(summary.maximum) + cpu::exact::log(summary.sum);
        };
        const auto bad = [&](const cpu::LogitSummary & summary) {
            return !std::isfinite(summary.sum) || !std::isfinite(summary.maximum);
        };
        cpu::LogitSummary base;
        loops.summarize(reference, vocabulary_, scratch.source.data(), &base);
        const uint32_t window = positions_.window_of[position];
        const auto fail_at = [&](const char * whose) {
            const size_t last = positions_.windows.size() - 1;
            const int64_t begin = positions_.windows[std::min<size_t>(window, last)].begin;
            return fail(Code::bad_value, "window ", window, ", position ", first + i - begin, ": a logit of ", whose,
                        " is NaN or infinite");
        };
        const double base_log = log_normalizer(base);
        normalizers_[size_t(i)] = base_log;
        if (!positions_.scored[position]) return {}; // logits at pads do not matter
        if (bad(base)) return fail_at("the source");
        const int32_t next = positions_.next[position];
        if (source.logits) {
            source_predictions.top[position] = int32_t(base.top);
            if (next >= 0) source_predictions.nll[position] = base_log - double(reference[next]);
        }
        for (size_t v = 0; v < lines.size(); v++) {
            const float * const row = lines[v] + i * vocabulary_;
            cpu::LogitSummary summary;
            loops.summarize(row, vocabulary_, scratch.line.data(), &summary);
            if (bad(summary)) return fail_at("the checkpoint");
            const double log = log_normalizer(summary);
            Predictions & to = predictions[v];
            to.top[position] = int32_t(summary.top);
            if (next >= 0) to.nll[position] = log - double(row[next]);
            // sum p (ln p - ln q), ln p = logit - normalizer; rounding below zero becomes zero
            const double difference = loops.weighted_difference(scratch.source.data(), reference, row, vocabulary_);
            to.divergence[position] = std::max(0.0, difference / base.sum - base_log + log);
        }
        return {};
    });
}

} // namespace gnv::evaluate
