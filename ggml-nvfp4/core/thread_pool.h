// A fixed set of worker threads. Work is split by index, never by time: an index may run on any thread but computes the
// same, so results do not depend on the number of threads.
#pragma once

#include "core/instruction_set.h"
#include "core/status.h"

#include <cstdint>
#include <functional>
#include <memory>

namespace gnv {

class ThreadPool {
  public:
    // `threads` counts the calling thread: 1 starts no thread at all, 0 means one per available processor.
    // `instructions`: the set that tasks use; tests choose a lower one.
    static Result<std::unique_ptr<ThreadPool>> create(int threads,
                                                      InstructionSet instructions = best_instruction_set());
    ~ThreadPool();
    ThreadPool(const ThreadPool &) = delete;
    ThreadPool & operator=(const ThreadPool &) = delete;

    int size() const; // threads that run tasks, the caller included
    InstructionSet instructions() const;

    // Runs task(index) for every index in [0, count) and returns when all are done. After the first failure no new
    // index starts; the result is the failure of the lowest index that ran. Exceptions become Code::out_of_memory or
    // Code::internal. Not reentrant: a task must not call parallel_for on the same pool.
    Status parallel_for(int64_t count, const std::function<Status(int64_t index)> & task);

    // The same with the number of the running thread, in [0, size()), to select a private buffer.
    Status parallel_for_thread(int64_t count, const std::function<Status(int64_t index, int thread)> & task);

    // While it lives, parallel_for calls `goes_on` every tenth of a second, between two indices and on the calling
    // thread. False ends the parallel_for with Code::cancelled, so long work can be stopped without code of its own. An
    // outer watch is suspended meanwhile.
    class Watch {
      public:
        Watch(ThreadPool & pool, std::function<bool()> goes_on);
        ~Watch();
        Watch(const Watch &) = delete;
        Watch & operator=(const Watch &) = delete;

      private:
        ThreadPool & pool_;
        std::function<bool()> outer_;
    };

  private:
    struct State;
    explicit ThreadPool(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// Processors this process may use (its affinity mask and, on Linux, the cgroup quota), at least 1.
int available_processors();

} // namespace gnv
