// What all work with the hub shares: addresses, credentials, retries, the number of connections, progress.
#pragma once

#include "hub/http.h"

#include <functional>
#include <string>

namespace gnv {

struct HubProgress {
    uint64_t bytes = 0, bytes_total = 0, files = 0, files_total = 0;
};

struct HubOptions {
    HttpOptions http;
    RetryRule retry;     // of calls of the API; files have more tries
    std::string cache;   // the folder that holds models--ORG--NAME
    int connections = 8; // files at a time
    std::function<bool(const HubProgress &)>
        progress; // from any thread, as often as wanted; false asks to stop. May be empty
    std::function<void(const std::string &)> say; // one line for people; may be empty

    void tell(const std::string & line) const {
        if (say) say(line);
    }
};

} // namespace gnv
