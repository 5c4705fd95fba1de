// The request of a caller to stop long work.
#pragma once

#include <functional>

namespace gnv {

// True asks to stop. Any thread of the work may call it, thousands of times a second, also several threads at once.
using StopCheck = std::function<bool()>;

} // namespace gnv
