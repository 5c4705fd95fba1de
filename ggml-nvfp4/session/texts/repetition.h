// Whether a text repeats itself.
#pragma once

#include <cstdint>
#include <span>

namespace gnv {

// A loop: a piece of up to 64 tokens follows itself without a break, four times or more, over at least 32 tokens. Or a text that
// turns in circles: fewer than a quarter of the 4-grams of 64 tokens are different ones. Of the test data's 10,711 such windows
// of man pages, code and prose 17 are, all in 2 of 90 documents; no document has a loop in its first 256 tokens.
bool tokens_repeat(std::span<const int32_t> ids);

} // namespace gnv
