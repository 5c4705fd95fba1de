// What programs share that render conversations.
#pragma once

#include <cstdint>
#include <ctime>

namespace tools {

// Now, in seconds since 1970 on the clock that people here look at: what a chat template shows as the date.
inline int64_t local_time() {
    const time_t now = time(nullptr);
    tm local = {};
    localtime_r(&now, &local);
    return int64_t(timegm(&local));
}

} // namespace tools
