// Texts that end an answer, found across the borders of tokens. Text that may be the beginning of one is held back until more text
// decides, so an answer never shows a part of a stop string.
#pragma once

#include "core/status.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

inline constexpr size_t most_stop_texts = 64, longest_stop_text = 4096; // bytes

// The failure names the entry: each is valid UTF-8 of 1 to longest_stop_text bytes.
Status check_stop_texts(const std::vector<std::string> & stops);

// The first stop string is the one that ends first; of those that end together, the longest. That does not depend on the
// pieces in which the text arrives.
class StopText {
  public:
    explicit StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {}
    // `text`: whole characters of UTF-8. Returns the text that no stop string can begin in any more, also whole characters.
    // Not called after found().
    std::string push(std::string_view text);
    // The text that is held back, at the end of an answer.
    std::string finish();
    // The position of the stop string that has arrived, in the list.
    std::optional<size_t> found() const { return found_; }

  private:
    std::optional<size_t> stop_at(size_t end) const;
    size_t held_back() const;

    std::vector<std::string> stops_;
    std::string pending_;
    std::optional<size_t> found_;
};

} // namespace gnv
