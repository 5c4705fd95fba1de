#include "quantize/task_queue.h"

#include "codec/nvfp4.h"

#include <algorithm>

namespace gnv {

void TaskQueue::expand_rows(uint32_t unit_number, Task::Kind kind, float global_scale, std::deque<Task> & out) {
    const PlanUnit & unit = plan_.units[unit_number];
    for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
        const LinearModule & linear = plan_.linear(plan_.modules[m]);
        const int64_t step = plan_.rows_that_fit(linear);
        for (int64_t row = 0; row < linear.rows; row += step) {
            const int64_t rows = std::min(step, linear.rows - row);
            out.push_back({kind, unit_number, m, uint64_t(row), uint64_t(rows), global_scale});
            open_[unit_number].remaining++;
        }
    }
}

void TaskQueue::expand(uint32_t unit_number) {
    const PlanUnit & unit = plan_.units[unit_number];
    if (unit.read_twice) {
        open_[unit_number].measuring = true;
        expand_rows(unit_number, Task::Kind::measure, 0, ready_);
    } else if (unit.quantize) {
        open_[unit_number].remaining = 1;
        ready_.push_back({Task::Kind::group, unit_number, 0, 0, 0, 0});
    } else {
        uint64_t begin = 0;
        do { // once for an empty tensor, too: it also has to be reported as finished
            const uint64_t size = std::min(plan_.memory.source_buffer, unit.source_bytes - begin);
            ready_.push_back({Task::Kind::copy, unit_number, 0, begin, size, 0});
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

bool TaskQueue::done(const Task & task, float absolute_maximum) {
    const std::lock_guard<std::mutex> lock(mutex_);
    OpenUnit & unit = open_[task.unit];
    unit.absolute_maximum = std::max(unit.absolute_maximum, absolute_maximum);
    if (--unit.remaining > 0) return false;
    bool finished = true;
    if (unit.measuring) {
        unit.measuring = finished = false;
        const LinearModule & first = plan_.linear(plan_.modules[plan_.units[task.unit].first]);
        const DType source = plan_.source_of(first).dtype;
        expand_rows(task.unit, Task::Kind::pack, nvfp4::global_scale(source, unit.absolute_maximum), urgent_);
    } else {
        open_.erase(task.unit);
    }
    changed_.notify_all();
    return finished;
}

void TaskQueue::stop() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopped_ = true;
    }
    changed_.notify_all();
}

} // namespace gnv
