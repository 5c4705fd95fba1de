// Dates as Python's strftime writes them in the C locale, from a time that the caller gives.
#pragma once

#include "core/status.h"

namespace gnv::chat {

// `local_time`: seconds since 1970-01-01 00:00 on the clock that is shown.
Result<std::string> date_text(std::string_view format, int64_t local_time);

} // namespace gnv::chat
