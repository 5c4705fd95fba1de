#include "data/row_sampler.h"

#include <algorithm>

namespace gnv {

uint64_t row_key(uint64_t seed, uint64_t row) {
    uint64_t z = seed + (row + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

void RowSampler::add(SampledRow row, uint64_t weight) {
    held_.push_back({std::move(row), weight});
    std::push_heap(held_.begin(), held_.end());
    weight_ += weight;
    while (weight_ - held_.front().weight >= budget_) {
        weight_ -= held_.front().weight;
        std::pop_heap(held_.begin(), held_.end());
        held_.pop_back();
    }
}

std::vector<SampledRow> RowSampler::take_in_row_order() {
    std::vector<SampledRow> rows;
    for (Held & held : held_) rows.push_back(std::move(held.row));
    std::sort(rows.begin(), rows.end(), [](const SampledRow & a, const SampledRow & b) { return a.row < b.row; });
    held_.clear();
    weight_ = 0;
    return rows;
}

} // namespace gnv
