// How a caller stops work that takes long.
#pragma once

#include <functional>

namespace gnv {

// True asks to stop. It is called thousands of times a second, by any thread of the work, also by several at once.
using StopCheck = std::function<bool()>;

} // namespace gnv
