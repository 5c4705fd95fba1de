#include "session/texts/repetition.h"

#include <algorithm>
#include <array>
#include <set>

namespace gnv {

static bool has_loop(std::span<const int32_t> ids) {
    constexpr size_t longest_piece = 64, times = 4, shortest_loop = 32;
    for (size_t period = 1; period <= longest_piece && period * times <= ids.size(); period++) {
        size_t same = 0; // consecutive tokens that equal the one a period before
        for (size_t i = period; i < ids.size(); i++) {
            same = ids[i] == ids[i - period] ? same + 1 : 0;
            if (same + period >= std::max(times * period, shortest_loop)) return true;
        }
    }
    return false;
}

static bool turns_in_circles(std::span<const int32_t> ids) {
    constexpr size_t window = 64, step = 16, gram = 4;
    for (size_t first = 0; first + window <= ids.size(); first += step) {
        std::set<std::array<int32_t, gram>> different;
        for (size_t i = first; i + gram <= first + window; i++)
            different.insert({ids[i], ids[i + 1], ids[i + 2], ids[i + 3]});
        if (different.size() * 4 < window - gram + 1) return true;
    }
    return false;
}

bool tokens_repeat(std::span<const int32_t> ids) { return has_loop(ids) || turns_in_circles(ids); }

} // namespace gnv
