// The times of a run: sums by kind of work and, on request, every span for a timeline. Any thread may add to it.
#pragma once

#include "core/clock.h"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

namespace gnv {

// The work of a span; 0: not counted.
struct Work {
    double flops = 0, bytes = 0;
};

class Trace {
  public:
    // One row of a timeline: a queue of a device, or one of the threads that do one kind of work.
    struct Row {
        const char * lane = "";
        std::thread::id thread; // none: the lane has a row for each device
        int device = 0;         // number among those of its kind
    };
    struct Total {
        const char * lane = "";
        const char * name = "";
        uint64_t spans = 0;
        double seconds = 0; // the sum over the rows of the lane
        Work work;
    };
    struct Event {
        uint32_t row = 0, total = 0; // positions in rows(), totals()
        int64_t begin_ns = 0;        // since the construction of the trace
        int64_t duration_ns = 0;
        float flops = 0, bytes = 0;
    };

    // Keeps the first `most_events` spans beside the sums. Allocates here only.
    explicit Trace(size_t most_events = 0);

    // `lane` and `name` are literals, compared by their text. Never fails: spans beyond the capacity count as dropped.
    void add(const Row & row, const char * name, Clock::time_point begin, double seconds,
             const Work & work = {}) noexcept;

    // In the order of their first spans.
    std::vector<Total> totals() const;
    // Valid once no thread adds spans any more.
    const std::vector<Row> & rows() const { return rows_; }
    const std::vector<Event> & events() const { return events_; }
    uint64_t dropped_events() const { return dropped_; }

    static Row this_thread(const char * lane) { return {lane, std::this_thread::get_id()}; }

  private:
    // Positions; one beyond the last at full capacity.
    size_t find_row(const Row & row);
    size_t find_total(const char * lane, const char * name);

    const Clock::time_point start_ = Clock::now();
    const size_t most_events_;
    mutable std::mutex mutex_;
    std::vector<Row> rows_;
    std::vector<Total> totals_;
    std::vector<Event> events_;
    uint64_t dropped_ = 0;
};

// Adds its lifetime to `trace` (may be null) as work of this thread.
class Span {
  public:
    Span(Trace * trace, const char * lane, const char * name, const Work & work = {})
        : trace_(trace), lane_(lane), name_(name), work_(work) {}
    ~Span() {
        if (trace_) trace_->add(Trace::this_thread(lane_), name_, begin_, seconds(), work_);
    }
    Span(const Span &) = delete;
    Span & operator=(const Span &) = delete;
    double seconds() const { return seconds_since(begin_); }

  private:
    Trace * trace_;
    const char * lane_;
    const char * name_;
    Work work_;
    const Clock::time_point begin_ = Clock::now();
};

} // namespace gnv
