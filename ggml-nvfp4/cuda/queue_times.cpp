#include "cuda/queue_times.h"

#include <utility>

namespace gnv::cuda {

static constexpr size_t ring_spans = 4096;
static constexpr float longest_milliseconds = 1000; // of a float that still tells microseconds well

static Clock::duration duration_of(double milliseconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(milliseconds));
}

cudaError_t QueueTimes::start(Trace * trace) {
    stop();
    ring_.resize(ring_spans);
    cudaError_t error = cudaEventCreate(&anchor_);
    for (Pending & span : ring_) {
        if (error == cudaSuccess) error = cudaEventCreate(&span.begin);
        if (error == cudaSuccess) error = cudaEventCreate(&span.end);
    }
    if (error == cudaSuccess) error = cudaEventRecord(anchor_, stream_);
    if (error == cudaSuccess) error = cudaEventSynchronize(anchor_);
    anchor_time_ = Clock::now();
    trace_ = trace;
    if (error != cudaSuccess) stop();
    return error;
}

void QueueTimes::stop() {
    for (const Pending & span : ring_) {
        if (span.begin) (void)cudaEventDestroy(span.begin);
        if (span.end) (void)cudaEventDestroy(span.end);
    }
    if (anchor_) (void)cudaEventDestroy(anchor_);
    anchor_ = nullptr;
    ring_.clear();
    first_ = pending_ = 0;
    open_ = false;
    trace_ = nullptr;
}

cudaError_t QueueTimes::begin(const char * name, const Work & work) {
    if (!trace_) return cudaSuccess;
    if (pending_ == ring_.size()) { // the host is far ahead: it may wait for half of that
        const size_t half = ring_.size() / 2;
        const cudaError_t error = cudaEventSynchronize(at(half - 1).end);
        if (error != cudaSuccess) return error;
        read(half);
    }
    Pending & span = at(pending_);
    span.name = name;
    span.work = work;
    open_ = true;
    return cudaEventRecord(span.begin, stream_);
}

cudaError_t QueueTimes::end() {
    if (!trace_ || !open_) return cudaSuccess;
    open_ = false;
    return cudaEventRecord(at(pending_++).end, stream_);
}

void QueueTimes::read(size_t spans) {
    for (size_t i = 0; i < spans; i++) {
        Pending & span = at(0);
        float before = 0, milliseconds = 0;
        if (cudaEventElapsedTime(&before, anchor_, span.begin) == cudaSuccess &&
            cudaEventElapsedTime(&milliseconds, span.begin, span.end) == cudaSuccess) {
            const Clock::time_point begin = anchor_time_ + duration_of(before);
            trace_->add(row_, span.name, begin, double(milliseconds) * 1e-3, span.work);
            if (before > longest_milliseconds) {
                std::swap(anchor_, span.begin);
                anchor_time_ = begin;
            }
        } else {
            (void)cudaGetLastError(); // the queue failed: synchronize() reports it
        }
        first_ = (first_ + 1) % ring_.size();
        pending_--;
    }
}

} // namespace gnv::cuda
