// The devices of a run that divides its work: opened together, and of one model, so that the result does not tell how
// many there are.
#pragma once

#include "exec/backend.h"

#include <memory>
#include <vector>

namespace gnv {

class DeviceList {
  public:
    // Fails as opening one does, and Code::invalid_argument for a device that is named twice, for the CPU beside another
    // device, and for devices of different models: their kernels round differently. The threads must outlive it.
    static Result<DeviceList> open(const std::vector<OpenDevice> & choices, ThreadPool & threads);

    size_t count() const { return backends_.size(); }
    Backend & first() const { return *backends_.front(); }
    Backend & operator[](size_t i) const { return *backends_[i]; }
    std::vector<Backend *> all() const;
    size_t find(const Backend & backend) const; // its place in the list, which must have it

  private:
    std::vector<std::unique_ptr<Backend>> backends_;
};

} // namespace gnv
