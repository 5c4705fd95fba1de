// A lane of a pass: a device with its work space, its rows of hidden states (pass/lane_rows.h) and its end of the stream
// of weights (run/weight_stream.h). If the device's memory is the host's (the CPU), uploads and downloads are aliases:
// the lane allocates no second copy and copies nothing.
#pragma once

#include "core/budget.h"
#include "core/memory.h"
#include "exec/host_tensor.h"
#include "pass/lane_rows.h"
#include "run/lane_inputs.h"
#include "run/statistic_window.h"
#include "run/weight_stream.h"

#include <memory>
#include <vector>

namespace gnv {

// The memory of a lane, for planning.
struct LaneSize {
    LaneRowsSize rows;
    uint64_t weight_bytes = 0; // of a group
    int weight_buffers = 1;    // 2: the next group is uploaded while one computes
    uint64_t arena_bytes = 0;
    uint64_t input_bytes = 0;   // of a batch, on a device with memory of its own; twice as many on the way there
    uint64_t given_bytes = 0;   // of its given rows, for a device that reads the rest in place
    uint64_t scale_bytes = 0;   // input scales that replace those of checkpoints
    int64_t logits_rows = 0;    // of the head, at a time
    int64_t logits_columns = 0; // of the head; 0: no head
    StatisticWindow::Size statistics;

    // By purpose, without the buffers of the stream.
    void reserve(const Backend & device, Budget & on_host, Budget & on_device) const;
    uint64_t logits_bytes(const Backend & device) const; // of one variant, in the device's dtype
};

class Lane {
  public:
    // The free memory of the device within `wanted`; undecided if that is the host's.
    static Result<Budget> budget(Backend & device, const Budget & wanted);
    static Result<std::unique_ptr<Lane>> create(Backend & device, const LaneSize & size);
    ~Lane();
    // After create(); separate, so that callers know which of the two memories is short.
    Status allocate_host(const std::string & scratch_folder);

    Backend & device() { return device_; }
    bool aliases() const { return upload_.aliases(); }
    // Before the first weights: they come from the memory of the first lane if this device reaches that one, else from
    // the host. Both lanes live until no work is left, see settle().
    void follow(Lane & first);
    void settle(); // waits for all queued work; a failure stays with the device
    LaneRows & rows() { return *rows_; }
    void * arena() const { return arena_.get(); }

    // Before the stream starts its next load, once all work with the load before the present one is queued.
    Status expect_weights(const WeightStream & stream);
    void send_weights(const WeightStream & stream, size_t calls) { upload_.send(stream, calls); }
    // Work queued after this finds the weights on the device; they replace those of the load before the last.
    void finish_weights(const WeightStream & stream);
    const std::vector<WeightGroup> & weights() const { return weights_; } // by group of the load

    // The device may still compute the last batch. On the CPU `inputs` must live as long as the batch.
    Result<DeviceBatch> upload(const BatchInputs & inputs, ThreadPool & threads) {
        return inputs_.upload(device_, inputs, threads);
    }
    StatisticWindow & window() { return window_; }
    // Variants with their own input scales in memory of the device; once.
    void take_variants(const std::vector<TextVariant> & variants);
    const TextVariant & variant(size_t number) const { return variants_[number]; }
    // A tensor of the device in host memory, numbers as F32: the tensor, or `copy`.
    Result<Tensor> show(const Tensor & tensor, HostTensor & copy);
    // The same for logits, valid until the next logits of this variant.
    Result<Tensor> show_logits(const Tensor & logits, size_t variant, ThreadPool & threads);
    // Logits on their way to memory of the caller while the device goes on: fetch_logits() queues a copy to one of two
    // places of the host, each with room for half as many as the head makes at a time; write_logits() waits for it.
    struct FetchedLogits {
        Tensor there;
        std::unique_ptr<Fence> copied;
        const void * here = nullptr;
    };
    FetchedLogits fetch_logits(const Tensor & logits, size_t place);
    Status write_logits(const FetchedLogits & logits, float * to, ThreadPool & threads);

  private:
    Lane(Backend & device, const LaneSize & size) : device_(device), size_(size), upload_(device) {}
    InputScales upload_scales(const InputScales & scales);

    Backend & device_;
    const LaneSize size_;
    std::unique_ptr<LaneRows> rows_;
    LaneInputs inputs_;
    std::vector<DeviceMemory> weight_memory_;
    size_t turn_ = 0; // in weight_memory_: of the expected load, or of the last
    StatisticWindow window_;
    DeviceMemory arena_, scales_;
    HostMemory host_scales_, host_logits_;
    AlignedBlock logits_; // as F32, of all variants
    uint64_t scales_used_ = 0;
    std::vector<TextVariant> variants_;
    std::vector<std::unique_ptr<InputScales>> scales_of_variants_;
    WeightUpload upload_;
    std::vector<WeightGroup> weights_;
};

} // namespace gnv
