#include "hub/stream/shard_window.h"

#include <algorithm>

namespace gnv {

ShardWindow::ShardWindow(std::vector<uint64_t> sizes, uint64_t limit)
    : sizes_(std::move(sizes)), limit_(limit), uses_(sizes_.size()), held_(sizes_.size()), last_read_(sizes_.size()) {}

void ShardWindow::expect(const std::vector<ShardRead> & reads) {
    for (std::deque<Use> & uses : uses_) uses.clear();
    has_list_ = true;
    for (uint64_t place = 0; place < reads.size(); place++)
        if (reads[place].bytes > 0) uses_[reads[place].shard].push_back({place, reads[place].bytes});
}

void ShardWindow::read(uint32_t shard, uint64_t bytes) {
    last_read_[shard] = ++clock_;
    std::deque<Use> & uses = uses_[shard];
    while (bytes > 0 && !uses.empty()) {
        const uint64_t part = std::min(bytes, uses.front().bytes);
        uses.front().bytes -= part, bytes -= part;
        if (uses.front().bytes == 0) uses.pop_front();
    }
}

uint64_t ShardWindow::next_use(uint32_t shard) const {
    return uses_[shard].empty() ? no_use : uses_[shard].front().place;
}

void ShardWindow::add(uint32_t shard) {
    held_[shard] = true;
    used_ += sizes_[shard];
}

void ShardWindow::remove(uint32_t shard) {
    held_[shard] = false;
    used_ -= sizes_[shard];
}

std::optional<uint32_t> ShardWindow::next_missing() const {
    std::optional<uint32_t> first;
    for (uint32_t s = 0; s < sizes_.size(); s++)
        if (!held_[s] && next_use(s) != no_use && (!first || next_use(s) < next_use(*first))) first = s;
    return first;
}

std::optional<std::vector<uint32_t>> ShardWindow::room_for(uint32_t shard, const std::vector<bool> & busy,
                                                           bool force) const {
    // A file with a further use gives way when all sooner reads are done, as in a run that reads one file after another: they
    // may free room without that.
    uint64_t soonest = no_use;
    for (uint32_t s = 0; s < sizes_.size(); s++) soonest = std::min(soonest, next_use(s));
    const bool is_next = force || next_use(shard) == no_use || next_use(shard) == soonest;
    std::vector<uint32_t> others;
    for (uint32_t s = 0; s < sizes_.size(); s++)
        if (held_[s] && !busy[s] && sizes_[s] > 0) others.push_back(s);
    // The one that is read last goes first.
    std::sort(others.begin(), others.end(), [&](uint32_t a, uint32_t b) {
        return next_use(a) != next_use(b) ? next_use(a) > next_use(b) : last_read_[a] < last_read_[b];
    });
    std::vector<uint32_t> removed;
    uint64_t used = used_;
    for (const uint32_t s : others) {
        if (used + sizes_[shard] <= limit_) break;
        if (!is_next && next_use(s) != no_use) break;
        used -= sizes_[s];
        removed.push_back(s);
    }
    if (used > 0 && used + sizes_[shard] > limit_) return {};
    return removed;
}

WindowCount count_fetches(const std::vector<uint64_t> & sizes, uint64_t limit, const std::vector<ShardRead> & reads) {
    ShardWindow window(sizes, limit);
    window.expect(reads);
    WindowCount count;
    std::vector<bool> was_here(sizes.size());
    const std::vector<bool> none_busy(sizes.size());
    for (const ShardRead & read : reads) {
        if (sizes[read.shard] == 0 || read.bytes == 0) continue;
        if (!window.holds(read.shard)) {
            const std::optional<std::vector<uint32_t>> removed = window.room_for(read.shard, none_busy, true);
            for (const uint32_t other : removed.value_or(std::vector<uint32_t>())) window.remove(other);
            window.add(read.shard);
            count.files++, count.bytes += sizes[read.shard];
            count.again += was_here[read.shard];
            was_here[read.shard] = true;
        }
        window.read(read.shard, read.bytes);
        if (window.next_use(read.shard) == ShardWindow::no_use) window.remove(read.shard);
    }
    return count;
}

} // namespace gnv
