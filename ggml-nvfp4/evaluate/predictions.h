// The predictions of the lines at every position of the data, kept as a few numbers each. They are computed from the
// logits of all lines side by side, a few positions at a time.
#pragma once

#include "core/thread_pool.h"
#include "pass/layer_pass.h"

#include <cstdint>
#include <vector>

namespace gnv::evaluate {

// The window of each position. A window is an independent piece of text, the unit of error estimates. Pads do not
// count.
struct Positions {
    struct Window {
        int64_t begin = 0, end = 0; // rows of the pass
        int64_t last_quarter = 0;   // its begin
    };
    std::vector<Window> windows;
    std::vector<uint32_t> window_of; // [P]
    std::vector<int32_t> next;       // [P]: the token that follows; -1 at the end of a window and before a picture
    std::vector<uint8_t> scored;     // [P]: 0 for pads
    std::vector<uint8_t> of_picture; // [P]: 1 where a row of a picture stands; empty without pictures
    int64_t count() const { return int64_t(next.size()); }
};
Positions list_positions(const std::vector<TextSequence> & sequences);

// Of one variant; entries of positions that are not scored are 0.
struct Predictions {
    std::vector<double> nll;        // [P]: -ln p(next token); 0 without a next token
    std::vector<double> divergence; // [P]: KL(source || this) in nats; empty for the source
    std::vector<int32_t> top;       // [P]: the most likely token, the first of equal ones
    void resize(int64_t positions, bool is_source);
    static uint64_t bytes(int64_t positions, size_t lines) { return uint64_t(positions) * (20 * uint64_t(lines) + 12); }
};

// The source's rows: logits, or half-precision log-probabilities from a file; nll and top are then filled already.
struct SourceRows {
    const float * logits = nullptr;           // [n, V]
    const uint16_t * probabilities = nullptr; // F16 [n, V]
};

// Rows [first, first + n), n the rows of lines[0]. Fails on a logit that is NaN or Inf and names its line.
class Comparer {
  public:
    Comparer(const Positions & positions, int64_t vocabulary, ThreadPool & threads);
    Status compare(int64_t first, int64_t count, const SourceRows & source, const std::vector<const float *> & lines,
                   Predictions & source_predictions, std::vector<Predictions> & predictions);
    // Of the last compared rows: ln of the sum of exp(logit) of the source.
    const std::vector<double> & source_normalizers() const { return normalizers_; }
    static uint64_t scratch_bytes(int64_t vocabulary, int threads) {
        return uint64_t(threads) * uint64_t(vocabulary) * (2 * sizeof(double) + sizeof(float));
    }

  private:
    const Positions & positions_;
    const int64_t vocabulary_;
    ThreadPool & threads_;
    struct Scratch {
        std::vector<double> source, line;
        std::vector<float> widened;
    };
    std::vector<Scratch> scratch_; // by thread
    std::vector<double> normalizers_;
};

} // namespace gnv::evaluate
