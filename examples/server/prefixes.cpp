#include "prefixes.h"

#include <algorithm>

namespace server {

static constexpr size_t unit = 64; // positions: bits do not depend on a division at its multiples
static constexpr size_t tail = 16; // ids: the beginning of an answer, which the next turn writes in another way

static size_t common(const std::vector<int32_t> & a, const std::vector<int32_t> & b) {
    const size_t size = std::min(a.size(), b.size());
    return size_t(std::mismatch(a.begin(), a.begin() + ptrdiff_t(size), b.begin()).first - a.begin());
}

Session Prefixes::find(const std::vector<int32_t> & ids, size_t & count) {
    for (;;) {
        auto longest = kept_.end();
        for (auto kept = kept_.begin(); kept != kept_.end(); ++kept) {
            const size_t size = kept->ids.size();
            if (size + 1 >= ids.size() || common(kept->ids, ids) < size) continue;
            if (longest == kept_.end() || size > longest->ids.size()) longest = kept;
        }
        count = 0;
        if (longest == kept_.end()) return nullptr;
        gnv_session_t * copy = nullptr;
        const gnv_status status = gnv_session_copy(longest->session.get(), &copy);
        if (status == GNV_OK) {
            count = longest->ids.size();
            kept_.splice(kept_.end(), kept_, longest);
            return Session(copy);
        }
        if (status != GNV_OUT_OF_MEMORY) check(engine_, status);
        drop();
    }
}

std::vector<size_t> Prefixes::stops(const std::vector<int32_t> & ids, size_t begun) const {
    std::vector<size_t> stops;
    if (most_ == 0 || ids.size() < tail) return stops;
    const size_t end = (ids.size() - tail) / unit * unit;
    size_t parting = 0;
    for (const Kept & kept : kept_) parting = std::max(parting, common(kept.ids, ids) / unit * unit);
    if (parting > begun && parting < end) stops.push_back(parting);
    if (end > begun) stops.push_back(end);
    return stops;
}

void Prefixes::keep(gnv_session_t * session, const std::vector<int32_t> & ids, size_t count) {
    std::vector<int32_t> beginning(ids.begin(), ids.begin() + ptrdiff_t(count));
    const auto is_same = [&](const Kept & kept) { return kept.ids == beginning; };
    if (std::any_of(kept_.begin(), kept_.end(), is_same)) return; // of a text that ran beside this one
    if (kept_.size() == most_) drop();
    gnv_session_t * copy = nullptr;
    if (gnv_session_copy(session, &copy) == GNV_OK) kept_.push_back({std::move(beginning), Session(copy)});
}

bool Prefixes::drop() {
    if (kept_.empty()) return false;
    kept_.pop_front();
    return true;
}

} // namespace server
