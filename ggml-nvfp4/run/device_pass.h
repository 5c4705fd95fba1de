// What a forward pass keeps on a device with memory of its own beside rows of hidden states (run/device_rows.h): weights of
// the group that computes and, where there is room, of the next, activations, inputs of the batch, statistics of a layer.
// Weights come through two host buffers (run/weight_reader.h).
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
    int64_t experts = 0;
    size_t observers = 0; // variants that observe
    bool magnitudes = false;

    uint64_t statistic_bytes() const; // of one layer, all observers
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

    // Waits for the last batch. `observer`: whose statistics the batch adds to.
    Result<DeviceBatch> upload(const BatchInputs & inputs, size_t observer);
    void * arena() const { return arena_.get(); }
    // Where `scales` go; once.
    InputScales upload_scales(const InputScales & scales);
    void * logits() const { return host_logits_.get(); } // in host memory

    // Statistics are those of one layer.
    void clear_statistics();
    // Queues a look at the maxima of an observer; after synchronize() first_bad_of_watched() is the first observed input that
    // was not finite, or count_.
    void watch(size_t observer);
    Observed first_bad_of_watched() const;
    // What the device measured becomes `statistics`, where there is room for it.
    Status take_statistics(size_t observer, LayerStatistics & statistics);

  private:
    DevicePass(Backend & device, const DevicePassSize & size) : device_(device), size_(size) {}
    template <class T>
    T * statistic(size_t observer, uint64_t offset) const;

    Backend & device_;
    const DevicePassSize size_;
    DeviceInputs inputs_;
    std::vector<DeviceMemory> weights_;
    size_t turn_ = 0; // in weights_: of what was started last
    DeviceMemory arena_, scales_, statistics_;
    HostMemory host_scales_, host_statistics_, host_logits_;
    uint64_t scales_used_ = 0;
    std::unique_ptr<WeightReader> reader_;
};

} // namespace gnv
