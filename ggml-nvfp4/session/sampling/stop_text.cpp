#include "session/sampling/stop_text.h"

#include "core/utf8.h"

#include <algorithm>
#include <utility>

namespace gnv {

Status check_stop_texts(const std::vector<std::string> & stops) {
    if (stops.size() > most_stop_texts)
        return fail(Code::invalid_argument, "stop: ", stops.size(), " texts are more than the ", most_stop_texts,
                    " allowed");
    for (size_t i = 0; i < stops.size(); i++) {
        const std::string & stop = stops[i];
        if (stop.empty() || stop.size() > longest_stop_text)
            return fail(Code::invalid_argument, "stop[", i, "] has ", stop.size(), " bytes; give 1 to ",
                        longest_stop_text);
        const size_t valid = utf8_valid_prefix(stop);
        if (valid < stop.size()) return fail(Code::invalid_argument, "stop[", i, "] is no UTF-8 at byte ", valid);
    }
    return {};
}

// The longest stop string that ends where `end` bytes are pending.
std::optional<size_t> StopText::stop_at(size_t end) const {
    std::optional<size_t> longest;
    for (size_t i = 0; i < stops_.size(); i++) {
        const std::string & stop = stops_[i];
        if (stop.size() > end || pending_.compare(end - stop.size(), stop.size(), stop) != 0) continue;
        if (!longest || stop.size() > stops_[*longest].size()) longest = i;
    }
    return longest;
}

// Bytes at the end that may be the beginning of a stop string. Stop strings begin with a character, so no character is cut.
size_t StopText::held_back() const {
    size_t held = 0;
    for (const std::string & stop : stops_)
        for (size_t size = std::min(stop.size() - 1, pending_.size()); size > held; size--)
            if (pending_.compare(pending_.size() - size, size, stop, 0, size) == 0) held = size;
    return held;
}

std::string StopText::push(std::string_view text) {
    const size_t before = pending_.size();
    pending_ += text;
    for (size_t end = before + 1; end <= pending_.size(); end++) {
        found_ = stop_at(end);
        if (!found_) continue;
        pending_.resize(end - stops_[*found_].size());
        return finish();
    }
    std::string ready = pending_.substr(0, pending_.size() - held_back());
    pending_.erase(0, ready.size());
    return ready;
}

std::string StopText::finish() { return std::exchange(pending_, {}); }

} // namespace gnv
