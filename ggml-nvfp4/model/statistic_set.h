// The requested statistics of a model's activations, and the kept totals. While stages run, totals grow in
// run/statistic_window.h; the file is quant/calibration_statistics.h.
#pragma once

#include "model/model_names.h"

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

class TextModel;

// A caller's request to a pass.
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
    // By place; the maximum comes first, because it shows NaN and Inf.
    friend bool operator<(const StatisticKey & a, const StatisticKey & b);
    friend bool operator==(const StatisticKey & a, const StatisticKey & b) = default;
};

struct StatisticTotal {
    Shape shape;                 // [G, ...]
    std::vector<uint64_t> words; // elements of the statistic's dtype; empty: not kept, or before allocate()
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
    StatisticSet() = default; // no requests
    // The totals that `requests` name, without memory. Every requested input also gets the largest magnitude, by which
    // a device reports NaN and Inf.
    static StatisticSet plan(const TextModel & model, const std::vector<StatisticRequest> & requests);

    const ModelNames * names() const { return names_; } // null in an empty set
    int64_t layers() const { return layers_; }          // of the text
    bool empty() const { return totals_.empty(); }
    bool wants(const StatisticKey & key) const { return totals_.count(key) > 0; }
    // The totals of one input, the maximum first.
    std::vector<const Statistic *> statistics_of(Part part, int32_t layer, int32_t input) const;
    const std::map<StatisticKey, StatisticTotal> & totals() const { return totals_; }
    // Whether the rows of a group may be divided between windows of several devices.
    bool is_order_free() const;
    // The same, and all totals are kept, so that the windows of a group can merge into one set.
    bool can_be_divided() const;

    uint64_t kept_bytes() const;
    void allocate(); // zeros for the kept totals

    // Elements [G, ...] of a total; empty if it was not measured or not kept.
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

    // For totals from elsewhere: a set for `names`; adds a total of this shape, zeros.
    void set_names(const ModelNames * names) { names_ = names; }
    void set_layers(int64_t layers) { layers_ = layers; }
    StatisticTotal & insert(const StatisticKey & key, const Shape & shape);
    // Merges kept totals of groups [first, first + groups). Code::format, with the layer, if a sum of counts exceeds 63
    // bits; the content of the set is then undefined.
    Status add(const StatisticKey & key, int64_t first, int64_t groups, const void * totals);
    // The same for a whole set with the same totals.
    Status merge(const StatisticSet & other);
    // The kept totals in the order of their keys, as bytes; and back into a set with the same, false if the size differs.
    std::string packed() const;
    bool unpack(std::string_view bytes);
    bool same_shapes(const StatisticSet & other) const;
    friend bool operator==(const StatisticSet & a, const StatisticSet & b); // bit by bit

  private:
    const ModelNames * names_ = nullptr;
    int64_t layers_ = 0;
    std::map<StatisticKey, StatisticTotal> totals_;
};

} // namespace gnv
