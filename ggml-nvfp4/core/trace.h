// What a run spends its time on: sums by kind of work and, when asked for, every span of it for a timeline. Any thread may
// add to it.
#pragma once

#include "core/clock.h"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

namespace gnv {

// What a span did; 0 where that is not counted.
struct Work {
    double flops = 0, bytes = 0;
};

class Trace {
  public:
    // One row of a timeline: the threads that do one kind of work have one each, a queue of a device has one.
    struct Row {
        const char * lane = "";
        std::thread::id thread; // none: of the lane as a whole
    };
    struct Total {
        const char * lane = "";
        const char * name = "";
        uint64_t spans = 0;
        double seconds = 0; // of several threads together where a lane has several rows
        Work work;
    };
    struct Event {
        uint32_t row = 0, total = 0; // positions in rows(), totals()
        int64_t begin_ns = 0;        // since the trace was made
        int64_t duration_ns = 0;
        float flops = 0, bytes = 0;
    };

    // Keeps the first `most_events` spans beside the sums. Allocates all that it will ever need.
    explicit Trace(size_t most_events = 0);

    // `lane` and `name` must outlive the trace: they are literals, and equal by their text. Never fails: where its room is
    // used up, spans count as dropped.
    void add(const Row & row, const char * name, Clock::time_point begin, double seconds,
             const Work & work = {}) noexcept;

    // In the order in which they came up first.
    std::vector<Total> totals() const;
    // What was kept, once nothing is added any more.
    const std::vector<Row> & rows() const { return rows_; }
    const std::vector<Event> & events() const { return events_; }
    uint64_t dropped_events() const { return dropped_; }

    static Row this_thread(const char * lane) { return {lane, std::this_thread::get_id()}; }

  private:
    // Positions; one beyond the last where there is no room for another.
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

// Adds the time that it lives to `trace`, which may be null, as work of this thread.
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
