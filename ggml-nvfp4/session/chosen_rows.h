// Ids that a device chose, on their way to the host.
#pragma once

#include "exec/backend.h"
#include "session/sampling/some_logits.h"

#include <vector>

namespace gnv {

class ChosenRows {
  public:
    // ids i32 [S] and their logits f32 [S] of the device, which it waits for.
    Result<std::vector<LargestLogit>> download(Backend & device, const Tensor & ids, const Tensor & logits);

  private:
    HostMemory memory_; // copies to other memory are two waits more
    size_t bytes_ = 0;
};

} // namespace gnv
