#include "core/thread_pool.h"

#include "core/clock.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace gnv {

namespace {

using Task = std::function<Status(int64_t, int)>;

constexpr auto watch_interval = std::chrono::milliseconds(100);

// The callback of a Watch and the time of its last call; only the thread that calls parallel_for uses it.
struct Watched {
    std::function<bool()> goes_on; // null: no watch
    Clock::time_point last;

    // Success until the next call is due.
    Status ask_if_due() {
        if (!goes_on || Clock::now() - last < watch_interval) return {};
        last = Clock::now();
        return guard_exceptions([&] { return goes_on() ? Status() : Status(Code::cancelled, "stopped on request"); });
    }
};

// One parallel_for call: threads take indices in order; the failure with the lowest index wins.
struct Job {
    const Task * task = nullptr;
    Watched * watched = nullptr;
    int64_t count = 0;
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    int64_t failed_index = 0;
    Status failure;

    void fail_at(int64_t index, Status status) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!failed.load() || index < failed_index) {
            failed_index = index;
            failure = std::move(status);
        }
        failed.store(true);
    }

    void run(int thread) {
        for (;;) {
            if (failed.load(std::memory_order_relaxed)) return;
            if (thread == 0) {
                Status status = watched->ask_if_due();
                if (!status.ok()) return fail_at(-1, std::move(status));
            }
            const int64_t index = next.fetch_add(1, std::memory_order_relaxed);
            if (index >= count) return;
            Status status = guard_exceptions([&] { return (*task)(index, thread); });
            if (!status.ok()) fail_at(index, std::move(status));
        }
    }
};

// Jobs of a token follow each other within microseconds, a wake-up takes tens of them: so long a thread looks for the
// next event before it sleeps.
constexpr auto spin_time = std::chrono::microseconds(50);

inline void relax() {
#ifdef __x86_64__
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

template <class Happened>
void spin_until(const Happened & happened) {
    if (happened()) return;
    const Clock::time_point end = Clock::now() + spin_time;
    do {
        for (int i = 0; i < 16; i++) {
            relax();
            if (happened()) return;
        }
    } while (Clock::now() < end);
}

} // namespace

// Threads come to a job and leave it without a lock: with many of them, a lock would cost more than the small jobs of a token. Only
// those that sleep use one.
struct ThreadPool::State {
    Job * job = nullptr; // of the open generation
    // Incremented when a job opens (odd) and when it closes (even). A worker counts itself as running before it looks whether the
    // job is still open; the caller closes it before it looks who is running: one of them sees the other.
    alignas(64) std::atomic<uint64_t> generation{0};
    alignas(64) std::atomic<int> running{0}; // workers that take part in the job, or are about to see that it is closed
    alignas(64) std::mutex mutex;
    std::condition_variable work_ready, work_done;
    std::atomic<int> asleep{0};     // workers that wait for work_ready, or are about to
    std::atomic<bool> waits{false}; // whether the caller sleeps on work_done
    std::atomic<bool> stopping{false};
    Watched watched;
    InstructionSet instructions = InstructionSet::portable;
    std::vector<std::thread> workers;

    // Whether there is something to do for a worker whose last job was that of `seen`.
    bool has_news(uint64_t seen) const {
        const uint64_t now = generation.load();
        return (now % 2 == 1 && now != seen) || stopping.load();
    }

    void work(int thread) {
        uint64_t seen = 0;
        for (;;) {
            spin_until([&] { return has_news(seen); });
            if (!has_news(seen)) {
                std::unique_lock<std::mutex> lock(mutex);
                asleep++;
                work_ready.wait(lock, [&] { return has_news(seen); });
                asleep--;
            }
            if (stopping.load()) return;
            const uint64_t opened = generation.load();
            if (opened % 2 == 0) continue; // closed meanwhile
            running++;
            if (generation.load() == opened) job->run(thread);
            seen = opened;
            if (--running == 0 && waits.load()) {
                const std::lock_guard<std::mutex> lock(mutex);
                work_done.notify_one();
            }
        }
    }

    // Wakes those that slept before the news.
    void wake() {
        if (asleep.load() == 0) return;
        {
            const std::lock_guard<std::mutex> lock(mutex);
        } // which a worker holds from its look for news until it sleeps
        work_ready.notify_all();
    }

    void start(Job & next) {
        job = &next;
        generation++;
        wake();
    }

    // Returns when no worker uses the job any more.
    void finish() {
        generation++;
        spin_until([&] { return running.load() == 0; });
        if (running.load() == 0) return;
        std::unique_lock<std::mutex> lock(mutex);
        waits = true;
        work_done.wait(lock, [&] { return running.load() == 0; });
        waits = false;
    }
};

ThreadPool::ThreadPool(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(int threads, InstructionSet instructions) {
    if (threads < 0 || threads > 4096)
        return fail(Code::invalid_argument, "thread count ", threads, " is not in 0..4096");
    if (threads == 0) threads = available_processors();
    std::unique_ptr<ThreadPool> pool(new ThreadPool(std::make_unique<State>()));
    State * const state = pool->state_.get();
    state->instructions = instructions;
    try {
        state->workers.reserve(size_t(threads - 1));
        for (int thread = 1; thread < threads; thread++) state->workers.emplace_back([=] { state->work(thread); });
    } catch (const std::system_error & error) {
        return fail(Code::out_of_memory, "cannot start ", threads, " threads (", error.what(), "); ask for fewer");
    }
    return pool;
}

ThreadPool::~ThreadPool() {
    state_->stopping = true;
    state_->wake();
    for (std::thread & worker : state_->workers) worker.join();
}

int ThreadPool::size() const { return int(state_->workers.size()) + 1; }
InstructionSet ThreadPool::instructions() const { return state_->instructions; }

Status ThreadPool::parallel_for_thread(int64_t count, const Task & task) {
    Job job;
    job.task = &task;
    job.watched = &state_->watched;
    job.count = count;
    const bool alone = count <= 1 || state_->workers.empty();
    if (!alone) state_->start(job);
    job.run(0);
    if (!alone) state_->finish();
    return std::move(job.failure);
}

Status ThreadPool::parallel_for(int64_t count, const std::function<Status(int64_t)> & task) {
    return parallel_for_thread(count, [&](int64_t index, int) { return task(index); });
}

ThreadPool::Watch::Watch(ThreadPool & pool, std::function<bool()> goes_on)
    : pool_(pool), outer_(std::exchange(pool.state_->watched.goes_on, std::move(goes_on))) {}

ThreadPool::Watch::~Watch() { pool_.state_->watched.goes_on = std::move(outer_); }

// The processor quota of the container, rounded up; 0 without one.
static int cgroup_processors() {
    FILE * file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!file) return 0;
    long long quota = 0, period = 0;
    const int fields = fscanf(file, "%lld %lld", &quota, &period); // "max 100000" reads no field
    fclose(file);
    return fields == 2 && quota > 0 && period > 0 ? int((quota + period - 1) / period) : 0;
}

int available_processors() {
    int count = int(std::thread::hardware_concurrency());
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
#endif
    const int quota = cgroup_processors();
    if (quota > 0) count = std::min(count, quota);
    return std::max(count, 1);
}

} // namespace gnv
