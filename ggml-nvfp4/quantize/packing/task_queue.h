// Divides the units of a plan into tasks of bounded size for worker threads, in the order of the source. A unit that is
// too large to hold is first measured task by task; its packing tasks follow once its scale is known.
#pragma once

#include "quant/plan.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

namespace gnv {

struct Task {
    enum class Kind : uint8_t {
        copy,    // bytes [begin, begin + size) of a preserved tensor
        group,   // a whole unit: measure, then pack
        measure, // rows [begin, begin + size) of one module: measure only
        pack,    // the same rows: pack with the unit's scale
    } kind = Kind::copy;
    uint32_t unit = 0;
    uint32_t module = 0; // position in Plan::modules (measure, pack)
    uint64_t begin = 0, size = 0;
    UnitScale scale; // pack
};

class TaskQueue {
  public:
    // `units`: positions in Plan::units, in the order of work.
    TaskQueue(const Plan & plan, std::vector<uint32_t> units) : plan_(plan), units_(std::move(units)) {}

    // False without further tasks or after stop(); waits while the remaining tasks depend on running ones.
    bool next(Task & task);
    // Reports a task as done; `measure` is used for Kind::measure. `measured`: it was the last of that kind, and the
    // unit waits for start_packing().
    enum class Progress : uint8_t { open, measured, finished };
    Progress done(const Task & task, const UnitMeasure & measure);
    UnitMeasure measure_of(uint32_t unit);
    void start_packing(uint32_t unit, const UnitScale & scale);
    // Makes every next() return false, so that all workers end after a failure.
    void stop();

  private:
    struct OpenUnit {
        uint64_t remaining = 0; // unfinished tasks of the present phase
        UnitMeasure measure;
        bool measuring = false;
    };
    void expand(uint32_t unit);
    void expand_rows(uint32_t unit, Task::Kind kind, const UnitScale & scale, std::deque<Task> & out);

    const Plan & plan_;
    const std::vector<uint32_t> units_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Task> ready_, urgent_; // urgent: packing of measured units
    std::map<uint32_t, OpenUnit> open_;
    size_t next_unit_ = 0; // in units_
    bool stopped_ = false;
};

} // namespace gnv
