// The distance of a line from the source by layer: the stream after every block, and the router's choices.
#pragma once

#include "evaluate/predictions.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gnv::evaluate {

struct LayerFigures {
    double signal = 0, noise = 0; // sums of squares over all scored positions: of the source, of the difference
    double relative_error() const { return signal > 0 ? noise / signal : 0; } // squared
    double sqnr_db() const;
    // The addition of this block to the relative squared error before it.
    double added = 0;
    // Shares of positions; 0 in models without experts.
    double same_experts = 0;      // as a set
    double same_first_expert = 0; // the one with the largest weight
    double experts_in_common = 0; // of those chosen
};

// Collects the router choices of all variants layer by layer and compares hidden states after each block. Variant 0 is
// the source.
class LayerComparer {
  public:
    LayerComparer(const Positions & positions, const TextModelSizes & sizes, size_t variants, ThreadPool & threads);
    // `copies`: hidden states must be copied here from a device or a file.
    static uint64_t bytes(const TextModelSizes & sizes, int64_t positions, size_t variants, bool copies);

    void keep_choice(size_t variant, int64_t first, const Tensor & indices); // i32 [n, k]
    Status compare(const LayerPass & pass, int32_t layer);
    // Of a variant, by layer.
    const std::vector<LayerFigures> & figures(size_t variant) const { return figures_[variant]; }
    // The figures of all variants, as bytes of a fixed number; and back, false if that is another.
    std::string packed() const;
    bool unpack(std::string_view bytes);

  private:
    struct Sums {
        double signal = 0, noise = 0;
        uint64_t positions = 0, same_set = 0, same_first = 0, common = 0;
    };
    Sums compare_rows(size_t variant, int64_t first, int64_t count, const float * source, const float * line) const;

    static constexpr int64_t block = 256;         // positions: sums run block by block, then in order
    static constexpr int64_t stretch = 4 * block; // positions that are copied at a time
    Status compare_stretch(const LayerPass & pass, int64_t first, int64_t count, std::vector<std::vector<Sums>> & sums);
    const Positions & positions_;
    const TextModelSizes sizes_;
    ThreadPool & threads_;
    std::vector<std::vector<int32_t>> choices_; // by variant: [P, k] of the current layer
    std::vector<std::vector<LayerFigures>> figures_;
    std::vector<std::vector<float>> rows_; // by variant: hidden states of a stretch, if they are copied
};

// The layer whose block adds most error, or most in excess of `before`; -1: none.
int32_t worst_layer(const std::vector<LayerFigures> & figures, const std::vector<double> & before = {});

} // namespace gnv::evaluate
