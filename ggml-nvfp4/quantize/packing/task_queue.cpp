#include "quantize/packing/task_queue.h"

#include <algorithm>

namespace gnv {

void TaskQueue::expand_rows(uint32_t unit_number, Task::Kind kind, const UnitScale & scale, std::deque<Task> & out) {
    const PlanUnit & unit = plan_.units[unit_number];
    for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
        const LinearModule & linear = plan_.linear(plan_.modules[m]);
        const int64_t step = plan_.rows_that_fit(linear);
        for (int64_t row = 0; row < linear.rows; row += step) {
            const int64_t rows = std::min(step, linear.rows - row);
            out.push_back({kind, unit_number, m, uint64_t(row), uint64_t(rows), scale});
            open_[unit_number].remaining++;
        }
    }
}

void TaskQueue::expand(uint32_t unit_number) {
    const PlanUnit & unit = plan_.units[unit_number];
    if (unit.read_twice) {
        open_[unit_number].measuring = true;
        expand_rows(unit_number, Task::Kind::measure, {}, ready_);
    } else if (unit.quantize) {
        open_[unit_number].remaining = 1;
        ready_.push_back({Task::Kind::group, unit_number, 0, 0, 0, {}});
    } else {
        uint64_t begin = 0;
        do { // also once for an empty tensor, which must be reported as finished
            const uint64_t size = std::min(plan_.memory.source_buffer, unit.source_bytes - begin);
            ready_.push_back({Task::Kind::copy, unit_number, 0, begin, size, {}});
            open_[unit_number].remaining++;
            begin += size;
        } while (begin < unit.source_bytes);
    }
}

bool TaskQueue::next(Task & task) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        if (stopped_) return false;
        std::deque<Task> & source = urgent_.empty() ? ready_ : urgent_;
        if (!source.empty()) {
            task = source.front();
            source.pop_front();
            return true;
        }
        if (next_unit_ < units_.size()) {
            expand(units_[next_unit_++]);
        } else if (open_.empty()) {
            return false;
        } else {
            changed_.wait(lock);
        }
    }
}

TaskQueue::Progress TaskQueue::done(const Task & task, const UnitMeasure & measure) {
    const std::lock_guard<std::mutex> lock(mutex_);
    OpenUnit & unit = open_[task.unit];
    unit.measure.add(measure);
    if (--unit.remaining > 0) return Progress::open;
    if (unit.measuring) {
        unit.measuring = false;
        return Progress::measured;
    }
    open_.erase(task.unit);
    changed_.notify_all();
    return Progress::finished;
}

UnitMeasure TaskQueue::measure_of(uint32_t unit) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return open_[unit].measure;
}

void TaskQueue::start_packing(uint32_t unit, const UnitScale & scale) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        expand_rows(unit, Task::Kind::pack, scale, urgent_);
    }
    changed_.notify_all();
}

void TaskQueue::stop() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopped_ = true;
    }
    changed_.notify_all();
}

} // namespace gnv
