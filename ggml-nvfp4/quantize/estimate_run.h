// The estimate of a run whose forward pass is planned.
#pragma once

#include "quantize/calibrate.h"
#include "quantize/run_state.h"

namespace gnv {

// `calibration`: null without a forward pass. Before the pass allocates its memory. options.estimate is set.
Result<Estimate> estimate_run(const Plan & plan, const FolderFiles & shards, ThreadPool & threads,
                              const Calibration * calibration, const QuantizeOptions & options);

} // namespace gnv
