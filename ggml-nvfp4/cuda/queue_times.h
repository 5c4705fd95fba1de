// When the work of one queue began and ended, by events between its launches. Events are taken from a ring and read
// when the queue is known to be past them: only a full ring waits for a measurement.
#pragma once

#include "core/trace.h"

#include <cuda_runtime.h>
#include <vector>

namespace gnv::cuda {

class QueueTimes {
  public:
    QueueTimes(cudaStream_t stream, const Trace::Row & row) : stream_(stream), row_(row) {}
    ~QueueTimes() { stop(); }
    QueueTimes(const QueueTimes &) = delete;
    QueueTimes & operator=(const QueueTimes &) = delete;

    // The queue must be empty: its clock is set to the host's.
    cudaError_t start(Trace * trace);
    void stop(); // spans that were not read are lost
    bool running() const { return trace_ != nullptr; }

    cudaError_t begin(const char * name, const Work & work);
    cudaError_t end();
    // Everything that was queued is done: its times go to the trace.
    void read_all() { read(pending_); }

  private:
    struct Pending {
        cudaEvent_t begin = nullptr, end = nullptr;
        const char * name = "";
        Work work;
    };
    void read(size_t spans);
    Pending & at(size_t i) { return ring_[(first_ + i) % ring_.size()]; }

    cudaStream_t stream_;
    const Trace::Row row_;
    Trace * trace_ = nullptr;
    std::vector<Pending> ring_;
    size_t first_ = 0, pending_ = 0;
    bool open_ = false; // begun, not ended
    // Times are floats of milliseconds since an event, which moves along to keep them exact.
    cudaEvent_t anchor_ = nullptr;
    Clock::time_point anchor_time_;
};

} // namespace gnv::cuda
