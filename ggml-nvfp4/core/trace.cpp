#include "core/trace.h"

namespace gnv {

static bool same_text(const char * a, const char * b) { return a == b || std::string_view(a) == b; }

static constexpr size_t most_rows = 512, most_totals = 128;

Trace::Trace(size_t most_events) : most_events_(most_events) {
    rows_.reserve(most_rows);
    totals_.reserve(most_totals);
    events_.reserve(most_events);
}

size_t Trace::find_row(const Row & row) {
    size_t i = 0;
    const auto is_row = [&](const Row & known) {
        return known.thread == row.thread && known.device == row.device && same_text(known.lane, row.lane);
    };
    while (i < rows_.size() && !is_row(rows_[i])) i++;
    if (i == rows_.size() && i < most_rows) rows_.push_back(row);
    return i;
}

size_t Trace::find_total(const char * lane, const char * name) {
    size_t i = 0;
    while (i < totals_.size() && !(same_text(totals_[i].name, name) && same_text(totals_[i].lane, lane))) i++;
    if (i == totals_.size() && i < most_totals) totals_.push_back({lane, name, 0, 0, {}});
    return i;
}

void Trace::add(const Row & row, const char * name, Clock::time_point begin, double seconds,
                const Work & work) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t number = find_total(row.lane, name), line = find_row(row);
    const bool kept = number < most_totals && line < most_rows && events_.size() < most_events_;
    if (number < most_totals) {
        Total & total = totals_[number];
        total.spans++;
        total.seconds += seconds;
        total.work.flops += work.flops;
        total.work.bytes += work.bytes;
    }
    if (!kept) {
        dropped_++;
        return;
    }
    const int64_t since_start = std::chrono::duration_cast<std::chrono::nanoseconds>(begin - start_).count();
    events_.push_back(
        {uint32_t(line), uint32_t(number), since_start, int64_t(seconds * 1e9), float(work.flops), float(work.bytes)});
}

std::vector<Trace::Total> Trace::totals() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return totals_;
}

} // namespace gnv
