#include "core/background_jobs.h"

#include <system_error>

namespace gnv {

Result<std::unique_ptr<BackgroundJobs>> BackgroundJobs::create(int threads) {
    std::unique_ptr<BackgroundJobs> self(new BackgroundJobs);
    try {
        for (int i = 0; i < threads; i++) self->threads_.emplace_back([pool = self.get()] { pool->work(); });
    } catch (const std::system_error & error) {
        return fail(Code::out_of_memory, "cannot start a thread for work in the background: ", error.what());
    }
    return self;
}

BackgroundJobs::~BackgroundJobs() {
    std::list<Job> dropped; // destroyed after the lock: the captures of a job may take locks
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
        dropped.swap(waiting_);
    }
    work_ready_.notify_all();
    for (std::thread & thread : threads_) thread.join();
}

void BackgroundJobs::add(Job job) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!failure_.ok()) return;
        waiting_.push_back(std::move(job));
    }
    work_ready_.notify_one();
}

Status BackgroundJobs::status() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return copy_of(failure_);
}

bool BackgroundJobs::is_idle() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return waiting_.empty() && running_ == 0;
}

Status BackgroundJobs::wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    work_done_.wait(lock, [&] { return waiting_.empty() && running_ == 0; });
    return copy_of(failure_);
}

void BackgroundJobs::work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        work_ready_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
        if (stopping_) return;
        Job job = std::move(waiting_.front());
        waiting_.pop_front();
        running_++;
        lock.unlock();
        Status status = guard_exceptions(job);
        job = nullptr; // destroys its captures before it counts as done
        std::list<Job> dropped;
        lock.lock();
        if (!status.ok() && failure_.ok()) {
            failure_ = std::move(status);
            dropped.swap(waiting_);
        }
        running_--;
        if (waiting_.empty() && running_ == 0) work_done_.notify_all();
        lock.unlock();
        dropped.clear();
        lock.lock();
    }
}

} // namespace gnv
