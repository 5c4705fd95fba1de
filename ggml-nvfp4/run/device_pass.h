// What a forward pass keeps on a device with memory of its own beside rows of hidden states (run/device_rows.h): weights of
// the group that computes and, where there is room, of the next, activations, inputs of the batch. Weights come through two host buffers (run/weight_reader.h).
#pragma once

#include "run/device_inputs.h"
#include "run/weight_reader.h"

#include <memory>
#include <vector>

namespace gnv {

// Bytes, for planning.
struct DevicePassSize {
    uint64_t weight_bytes = 0; // of a group
    int weight_buffers = 1;    // 2: the next group comes while one computes
    uint64_t arena_bytes = 0;
    uint64_t input_bytes = 0;  // of a batch
    uint64_t scale_bytes = 0;  // input scales that stand for those of checkpoints
    uint64_t logits_bytes = 0; // on their way to the host, of one variant
};

class DevicePass {
  public:
    // `on_host` becomes true when memory of the device is there and that of the host begins. `threads`: that read weights.
    // With one host buffer for weights; the first may be started then.
    static Result<std::unique_ptr<DevicePass>> create(Backend & device, const DevicePassSize & size, int threads,
                                                      bool & on_host);
    ~DevicePass();

    Status add_host_buffer() { return reader_->add_buffer(); } // the second, before the next start_reading()

    // Starts reading the next weights, over what the last but one call read; with two buffers they may also come to the
    // device over that, behind what is queued so far.
    Status start_reading(std::vector<WeightLoad> loads);
    // To be called now and then while the device computes, `calls` more times with this one: see WeightReader::send.
    void send_weights(size_t calls) { reader_->send(calls); }
    // What is queued after this finds them on the device; with one buffer in place of those before them.
    Result<std::vector<LoadedWeights>> finish_reading() { return reader_->finish(weights_[turn_].get()); }

    // Waits for the last batch.
    Result<DeviceBatch> upload(const BatchInputs & inputs) { return inputs_.upload(device_, inputs); }
    void * arena() const { return arena_.get(); }
    // Where `scales` go; once.
    InputScales upload_scales(const InputScales & scales);
    void * logits() const { return host_logits_.get(); } // in host memory

  private:
    DevicePass(Backend & device, const DevicePassSize & size) : device_(device), size_(size) {}

    Backend & device_;
    const DevicePassSize size_;
    DeviceInputs inputs_;
    std::vector<DeviceMemory> weights_;
    size_t turn_ = 0; // in weights_: of what was started last
    DeviceMemory arena_, scales_;
    HostMemory host_scales_, host_logits_;
    uint64_t scales_used_ = 0;
    std::unique_ptr<WeightReader> reader_;
};

} // namespace gnv
