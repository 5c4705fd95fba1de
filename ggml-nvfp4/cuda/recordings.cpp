#include "cuda/recordings.h"

#include <algorithm>
#include <utility>

namespace gnv::cuda {

// So many replays after other work are launched at once: the device works with them while the host prepares the next ones.
static constexpr size_t first_few = 2;
static constexpr size_t most_waiting = 256, most_joined = 16;

struct Recordings::One final : Recording {
    One(Recordings & owner_, cudaGraphExec_t executable_, std::function<Status()> launches_)
        : owner(owner_), executable(executable_), launches(std::move(launches_)) {}
    ~One() override {
        (void)cudaSetDevice(owner.device_);
        owner.forget(*this);
        (void)cudaGraphExecDestroy(executable);
    }
    Recordings & owner;
    const cudaGraphExec_t executable;
    const std::function<Status()> launches;
};

Recordings::~Recordings() {
    for (const Joined & joined : joined_)
        if (joined.executable) (void)cudaGraphExecDestroy(joined.executable);
}

std::unique_ptr<Recording> Recordings::record(std::function<Status()> launches) {
    const cudaGraphExec_t executable = capture_(launches);
    return executable ? std::make_unique<One>(*this, executable, std::move(launches)) : nullptr;
}

cudaError_t Recordings::replay(const Recording & recording, cudaStream_t stream) {
    waiting_.push_back(&static_cast<const One &>(recording));
    stream_ = stream;
    return waiting_.size() == (has_begun_ ? most_waiting : first_few) ? launch_waiting() : cudaSuccess;
}

cudaError_t Recordings::flush() {
    cudaError_t error = std::exchange(late_, cudaSuccess);
    if (error == cudaSuccess && !waiting_.empty()) error = launch_waiting();
    has_begun_ = false;
    return error;
}

cudaError_t Recordings::launch_waiting() {
    const std::vector<const One *> parts = std::exchange(waiting_, {});
    const cudaGraphExec_t whole = parts.size() > 1 ? joined(parts) : nullptr;
    has_begun_ = true;
    if (whole) return cudaGraphLaunch(whole, stream_);
    for (const One * const part : parts)
        if (const cudaError_t error = cudaGraphLaunch(part->executable, stream_); error != cudaSuccess) return error;
    return cudaSuccess;
}

// Null where these come together for the first time, or cannot be one graph.
cudaGraphExec_t Recordings::joined(const std::vector<const One *> & parts) {
    const auto found =
        std::find_if(joined_.begin(), joined_.end(), [&](const Joined & known) { return known.parts == parts; });
    if (found == joined_.end()) {
        if (joined_.size() >= most_joined) {
            if (joined_.front().executable) (void)cudaGraphExecDestroy(joined_.front().executable);
            joined_.erase(joined_.begin());
        }
        joined_.push_back({parts});
        return nullptr;
    }
    std::rotate(found, found + 1, joined_.end());
    Joined & known = joined_.back();
    if (!known.executable && !known.cannot_capture) {
        known.executable = capture_([&]() -> Status {
            for (const One * const part : parts) GNV_TRY(part->launches());
            return {};
        });
        known.cannot_capture = !known.executable;
    }
    return known.executable;
}

void Recordings::forget(const One & one) {
    const auto has = [&](const std::vector<const One *> & parts) {
        return std::find(parts.begin(), parts.end(), &one) != parts.end();
    };
    if (has(waiting_)) {
        const cudaError_t error = launch_waiting();
        if (late_ == cudaSuccess) late_ = error;
    }
    for (size_t i = joined_.size(); i-- > 0;) {
        if (!has(joined_[i].parts)) continue;
        if (joined_[i].executable) (void)cudaGraphExecDestroy(joined_[i].executable);
        joined_.erase(joined_.begin() + int64_t(i));
    }
}

} // namespace gnv::cuda
