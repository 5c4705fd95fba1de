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
    weight_ += weight;
    memory_ += row.memory;
    held_.push_back({std::move(row), weight});
    std::push_heap(held_.begin(), held_.end());
    while (weight_ - held_.front().weight >= budget_) {
        weight_ -= held_.front().weight;
        memory_ -= held_.front().row.memory;
        std::pop_heap(held_.begin(), held_.end());
        held_.pop_back();
    }
}

void RowSampler::recount_memory() {
    memory_ = 0;
    for (const Held & held : held_) memory_ += held.row.memory;
}

std::vector<SampledRow> RowSampler::take_in_row_order() {
    std::vector<SampledRow> rows;
    for (Held & held : held_) rows.push_back(std::move(held.row));
    std::sort(rows.begin(), rows.end(), [](const SampledRow & a, const SampledRow & b) { return a.row < b.row; });
    held_.clear();
    weight_ = memory_ = 0;
    return rows;
}

} // namespace gnv
