// Launches that run again and again, as CUDA graphs.
//
// A graph that is launched behind another one starts when the last kernel of that has ended. So replays that follow each other are
// joined: when the same ones do so for the second time, their launches are recorded once more as one graph. There a kernel may start
// early, also the first one of a recording (cuda/chain.cuh), and the host launches once.
#pragma once

#include "exec/backend.h"

#include <cuda_runtime_api.h>
#include <functional>
#include <memory>
#include <vector>

namespace gnv::cuda {

// Of one stream of one device. Replays may wait in the host's memory for those behind them: whatever else is queued calls flush() before.
class Recordings {
  public:
    // Records the launches instead of queueing them. Null: nothing was queued, and nothing has failed.
    using Capture = std::function<cudaGraphExec_t(const std::function<Status()> & launches)>;

    Recordings(int device, Capture capture) : device_(device), capture_(std::move(capture)) {}
    ~Recordings();
    Recordings(const Recordings &) = delete;
    Recordings & operator=(const Recordings &) = delete;

    // `launches` is called again when replays are joined, as long as the result lives.
    std::unique_ptr<Recording> record(std::function<Status()> launches);
    cudaError_t replay(const Recording & recording, cudaStream_t stream);
    // Queues the replays that wait.
    cudaError_t flush();

  private:
    struct One;
    struct Joined {
        std::vector<const One *> parts;
        cudaGraphExec_t executable = nullptr;
        bool cannot_capture = false;
    };
    cudaError_t launch_waiting();
    cudaGraphExec_t joined(const std::vector<const One *> & parts);
    void forget(const One & one);

    const int device_;
    const Capture capture_;
    std::vector<const One *> waiting_;
    cudaStream_t stream_ = nullptr;  // of those that wait
    bool has_begun_ = false;         // something was launched since the last flush()
    std::vector<Joined> joined_;     // the last was used most recently
    cudaError_t late_ = cudaSuccess; // a failure that no caller has seen yet
};

} // namespace gnv::cuda
