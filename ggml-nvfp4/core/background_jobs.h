// Threads that run jobs in the background, in the order of arrival. After the first failure waiting jobs are dropped.
#pragma once

#include "core/status.h"

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace gnv {

class BackgroundJobs {
  public:
    using Job = std::function<Status()>;
    static Result<std::unique_ptr<BackgroundJobs>> create(int threads);
    ~BackgroundJobs(); // drops waiting jobs, and waits for running ones

    int threads() const { return int(threads_.size()); }
    // After a failure the job is dropped at once.
    void add(Job job);
    Status status(); // the first failure so far
    bool is_idle();  // no job waits or runs
    Status wait();   // until no job waits or runs: the first failure

  private:
    BackgroundJobs() = default;
    void work();

    std::mutex mutex_;
    std::condition_variable work_ready_, work_done_;
    std::list<Job> waiting_; // an empty list holds no memory
    int running_ = 0;
    bool stopping_ = false;
    Status failure_;
    std::vector<std::thread> threads_;
};

} // namespace gnv
