#include "run/statistic_window.h"

#include <algorithm>
#include <cmath>

namespace gnv {

// --- Layout -------------------------------------------------------------------------------------------------------------------

static int order_of(const Statistic & statistic) {
    return &statistic == &Statistic::maximum ? 0 : statistic.is_kept ? 1 : 2;
}

// In the order of memory; without data.
static std::vector<StatisticWindow::Total> list_totals(const StatisticSet & set, const TextModel & model,
                                                       const std::vector<Stage> & stages) {
    std::vector<StatisticWindow::Total> totals;
    for (const Stage & stage : stages)
        for (const StageInput & input : model.stage_inputs(stage))
            for (const Statistic * const statistic : set.statistics_of(stage.part, stage.layer, input.input)) {
                StatisticWindow::Total total = {
                    {stage.part, stage.layer, input.input, statistic}, input.first_group, {}};
                total.tensor.dtype = statistic->dtype;
                total.tensor.shape = statistic->total_shape(input.count, input.width);
                totals.push_back(total);
            }
    std::stable_sort(totals.begin(), totals.end(), [](const auto & a, const auto & b) {
        return order_of(*a.key.statistic) < order_of(*b.key.statistic);
    });
    return totals;
}

static uint64_t total_bytes(const Tensor & tensor) { return device_aligned(tensor_bytes(tensor.dtype, tensor.shape)); }

StatisticWindow::Size StatisticWindow::size_of(const StatisticSet & set, const TextModel & model,
                                               const std::vector<Stage> & stages) {
    Size size;
    if (set.empty()) return size;
    for (const Total & total : list_totals(set, model, stages)) {
        size.bytes += total_bytes(total.tensor);
        size.kept_bytes += total.key.statistic->is_kept ? total_bytes(total.tensor) : 0;
    }
    return size;
}

// --- Memory -------------------------------------------------------------------------------------------------------------------

Result<StatisticWindow> StatisticWindow::create(Backend & backend, const Size & size) {
    StatisticWindow window;
    window.backend_ = &backend;
    window.size_ = size;
    if (size.bytes > 0) {
        GNV_ASSIGN(window.memory_, backend.allocate(size.bytes));
    }
    return window;
}

Status StatisticWindow::allocate_host() {
    if (size_.kept_bytes > 0) {
        GNV_ASSIGN(staging_, backend_->allocate_host(size_.kept_bytes));
    }
    return {};
}

void StatisticWindow::open(const StatisticSet & set, const TextModel & model, const std::vector<Stage> & stages) {
    totals_ = list_totals(set, model, stages);
    maxima_bytes_ = kept_bytes_ = bytes_ = 0;
    for (Total & total : totals_) {
        total.tensor.data = static_cast<uint8_t *>(memory_.get()) + bytes_;
        bytes_ += total_bytes(total.tensor);
        if (order_of(*total.key.statistic) == 0) maxima_bytes_ = bytes_;
        if (total.key.statistic->is_kept) kept_bytes_ = bytes_;
    }
    GNV_CHECK(bytes_ <= size_.bytes && kept_bytes_ <= size_.kept_bytes);
    if (bytes_ > 0) backend_->clear(memory_.get(), bytes_);
}

Tensor StatisticWindow::find(const StatisticKey & key, int32_t first_group, int64_t groups) const {
    for (const Total & total : totals_) {
        if (!(total.key == key)) continue;
        Tensor part = total.tensor;
        const int64_t first = first_group - total.first_group;
        GNV_CHECK(first >= 0 && first + groups <= part.shape[0]);
        const uint64_t each = tensor_bytes(part.dtype, part.shape) / uint64_t(part.shape[0]);
        part.data = part.as<uint8_t>() + uint64_t(first) * each;
        part.shape.dims[0] = groups;
        return part;
    }
    GNV_CHECK(!"a total that is not in the window");
    return {};
}

// --- Totals -------------------------------------------------------------------------------------------------------------------

uint64_t StatisticWindow::offset_of(const Total & total) const {
    return uint64_t(total.tensor.as<uint8_t>() - static_cast<uint8_t *>(memory_.get()));
}

void StatisticWindow::watch() {
    if (maxima_bytes_ > 0) backend_->download(staging_.get(), memory_.get(), maxima_bytes_);
}

int32_t StatisticWindow::first_bad() const {
    int32_t first = -1;
    for (const Total & total : totals_) {
        if (order_of(*total.key.statistic) > 0 || (first >= 0 && first < total.key.input)) continue;
        const auto * const maxima =
            reinterpret_cast<const float *>(static_cast<const uint8_t *>(staging_.get()) + offset_of(total));
        if (!std::all_of(maxima, maxima + total.tensor.shape[0], [](float maximum) { return std::isfinite(maximum); }))
            first = total.key.input;
    }
    return first;
}

static bool can_merge(const Statistic & statistic) { return statistic.is_kept && !statistic.is_ordered(); }

void StatisticWindow::take_over(const StatisticWindow & other) {
    GNV_CHECK(totals_.size() == other.totals_.size());
    for (size_t i = 0; i < totals_.size(); i++) {
        const Tensor &to = totals_[i].tensor, &from = other.totals_[i].tensor;
        if (can_merge(*totals_[i].key.statistic)) continue;
        backend_->copy_from(*other.backend_, to.data, from.data, tensor_bytes(from.dtype, from.shape));
    }
}

Status StatisticWindow::take(StatisticSet & set, bool goes_on) {
    if (kept_bytes_ > 0) backend_->download(staging_.get(), memory_.get(), kept_bytes_);
    GNV_TRY(backend_->synchronize());
    for (const Total & total : totals_)
        if (total.key.statistic->is_kept && (!goes_on || can_merge(*total.key.statistic)))
            GNV_TRY(set.add(total.key, total.first_group, total.tensor.shape[0],
                            static_cast<const uint8_t *>(staging_.get()) + offset_of(total)));
    return {};
}

} // namespace gnv
