// One product of a matrix and a weight on a device, outside of any model: to measure a device, or to load its libraries.
#pragma once

#include "exec/prepared.h"

#include <array>
#include <memory>
#include <optional>

namespace gnv {

// x [positions, columns] in the device's format of activations, times a BF16 weight [rows, columns], in memory of its own
// whose contents the caller decides.
class LoneProduct {
  public:
    static Result<LoneProduct> create(Backend & device, int64_t positions, int64_t columns, int64_t rows);

    const std::array<Tensor, 2> & inputs() const { return inputs_; } // x, the weight
    double flops() const;
    Status run() { return prepared_->run(); } // queues it

  private:
    std::unique_ptr<Graph> graph_;
    std::optional<PreparedGraph> prepared_;
    DeviceMemory arena_, memory_[2];
    std::array<Tensor, 2> inputs_;
};

} // namespace gnv
