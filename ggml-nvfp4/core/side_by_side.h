// Work for each of a few devices, in a thread of its own.
#pragma once

#include "core/status.h"

#include <cstddef>
#include <functional>

namespace gnv {

// Calls work(0) in this thread and work(1) to work(count - 1) in threads of their own, and waits for all. The result is
// the failure of the lowest number, at whatever time it occurs. If a thread cannot start, work(0) is not called.
Status run_side_by_side(size_t count, const std::function<Status(size_t)> & work);

} // namespace gnv
