// Statistics of a model's activations: which ones are asked for, and the totals that are kept. Where totals grow while stages
// run is run/statistic_window.h; the file is quant/calibration_statistics.h.
#pragma once

#include "model/model_names.h"

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace gnv {

class TextModel;

// What a caller asks of a pass.
struct StatisticRequest {
    const Statistic * statistic = &Statistic::maximum;
    Part part = Part::text;
    int32_t layer = -1; // -1: all
    int32_t input = -1; // in ModelNames::inputs; -1: all
};

struct StatisticKey {
    Part part = Part::text;
    int32_t layer = -1;
    int32_t input = 0;
    const Statistic * statistic = &Statistic::maximum;
    // By place; the maximum comes first, because it tells of NaN and Inf.
    friend bool operator<(const StatisticKey & a, const StatisticKey & b);
    friend bool operator==(const StatisticKey & a, const StatisticKey & b) = default;
};

struct StatisticTotal {
    Shape shape;                 // [G, ...]
    std::vector<uint64_t> words; // elements of the statistic's dtype; empty: not kept, or of a pass that has not begun
    template <class T>
    T * as() {
        return reinterpret_cast<T *>(words.data());
    }
    template <class T>
    const T * as() const {
        return reinterpret_cast<const T *>(words.data());
    }
};

class StatisticSet {
  public:
    StatisticSet() = default; // nothing is asked for
    // The totals that `requests` name, with no memory. Where anything is asked of an input, so is the largest magnitude:
    // it is how a device tells of NaN and Inf.
    static StatisticSet plan(const TextModel & model, const std::vector<StatisticRequest> & requests);

    const ModelNames * names() const { return names_; } // null in an empty set
    int64_t layers() const { return layers_; }          // of the text
    bool empty() const { return totals_.empty(); }
    bool wants(const StatisticKey & key) const { return totals_.count(key) > 0; }
    // Of one input, the maximum first.
    std::vector<const Statistic *> statistics_of(Part part, int32_t layer, int32_t input) const;
    const std::map<StatisticKey, StatisticTotal> & totals() const { return totals_; }
    // Rows of a group may be divided between windows, of several devices, in any way.
    bool is_order_free() const;
    // The same, and all of them are kept: several windows of a group merge into one set.
    bool can_be_divided() const;

    uint64_t kept_bytes() const;
    void allocate(); // zeros, for those that are kept

    // Elements [G, ...] of a total; empty where nothing was measured or kept.
    template <class T>
    std::span<const T> find(const StatisticKey & key) const {
        const auto found = totals_.find(key);
        if (found == totals_.end() || found->second.words.empty()) return {};
        return {found->second.as<T>(), size_t(found->second.shape.elements())};
    }
    std::span<const float> maxima(int32_t layer, int32_t input) const {
        return find<float>({Part::text, layer, input, &Statistic::maximum});
    }
    std::span<const int64_t> tokens_per_expert(int32_t layer) const {
        return find<int64_t>({Part::text, layer, names_ ? names_->choices() : -1, &Statistic::tokens});
    }

    // For totals that come from elsewhere: of one of `names`; a total in this shape, zeros.
    void set_names(const ModelNames * names) { names_ = names; }
    void set_layers(int64_t layers) { layers_ = layers; }
    StatisticTotal & insert(const StatisticKey & key, const Shape & shape);
    // Merges totals of groups [first, first + groups) that are kept. Code::format, with the
    // layer, when a sum of counts is beyond 63 bits; the set holds anything then.
    Status add(const StatisticKey & key, int64_t first, int64_t groups, const void * totals);
    // The same for all of a set that has the same totals.
    Status merge(const StatisticSet & other);
    bool same_shapes(const StatisticSet & other) const;
    friend bool operator==(const StatisticSet & a, const StatisticSet & b); // bit by bit

  private:
    const ModelNames * names_ = nullptr;
    int64_t layers_ = 0;
    std::map<StatisticKey, StatisticTotal> totals_;
};

} // namespace gnv
