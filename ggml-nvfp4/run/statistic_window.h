// The growing totals of one group of stages, in the memory of the backend that runs them. A window is opened before the
// batches of a group; after the last batch, kept totals merge into their set, and the caller can read the others until
// the window is opened again. Several backends may each have a window of the same group. Totals that cannot merge later,
// because the order of rows matters or no set keeps them, go from window to window in the order of positions.
#pragma once

#include "exec/backend.h"
#include "model/text_model.h"

#include <vector>

namespace gnv {

class StatisticWindow {
  public:
    struct Size {
        uint64_t bytes = 0;      // of the backend's memory
        uint64_t kept_bytes = 0; // of the host's: kept totals on their way to a set
        Size larger_of(const Size & other) const {
            return {std::max(bytes, other.bytes), std::max(kept_bytes, other.kept_bytes)};
        }
    };
    static Size size_of(const StatisticSet & set, const TextModel & model, const std::vector<Stage> & stages);

    StatisticWindow() = default;
    // With memory for windows up to this size. Host memory is allocated separately, after it.
    static Result<StatisticWindow> create(Backend & backend, const Size & size);
    Status allocate_host();

    // Queued: sets the totals that `set` has of these stages to zeros.
    void open(const StatisticSet & set, const TextModel & model, const std::vector<Stage> & stages);
    // For an op that adds to it. The total must be in the window.
    Tensor find(const StatisticKey & key, int32_t first_group, int64_t groups) const;

    // Queues a download of the maxima; after synchronize() first_bad() is the first input whose maximum is not finite,
    // or -1.
    void watch();
    int32_t first_bad() const;

    // Queued: takes over the totals that cannot merge from the same group's window of another backend, which is idle.
    void take_over(const StatisticWindow & other);
    Backend & backend() const { return *backend_; }

    // Waits for the batches. Kept totals merge into `set`; `goes_on`: but those that another window takes over.
    Status take(StatisticSet & set, bool goes_on = false);

    // All of them, in the backend's memory.
    struct Total {
        StatisticKey key;
        int32_t first_group = 0;
        Tensor tensor; // [groups of these stages, ...]
    };
    const std::vector<Total> & totals() const { return totals_; }

  private:
    uint64_t offset_of(const Total & total) const;

    Backend * backend_ = nullptr;
    Size size_;
    DeviceMemory memory_;
    HostMemory staging_;
    std::vector<Total> totals_;                              // maxima, other kept ones, the rest
    uint64_t maxima_bytes_ = 0, kept_bytes_ = 0, bytes_ = 0; // from the beginning of the memory
};

} // namespace gnv
