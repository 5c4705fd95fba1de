// Which files of a streamed source are on the disk, within a limit: what to fetch next, what to give up for it. It moves no
// bytes, so that a plan and a run decide alike.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace gnv {

struct ShardRead {
    uint32_t shard = 0;
    uint64_t bytes = 0;
};

class ShardWindow {
  public:
    static constexpr uint64_t no_use = UINT64_MAX;

    // `sizes`: of the files.
    ShardWindow(std::vector<uint64_t> sizes, uint64_t limit);

    // The reads to come, in their order; replaces what was expected.
    void expect(const std::vector<ShardRead> & reads);
    // Once expect() was called, a file without a further use is of no use.
    bool has_list() const { return has_list_; }
    void read(uint32_t shard, uint64_t bytes);
    // The place in the list of the next expected read of the file; no_use: none.
    uint64_t next_use(uint32_t shard) const;

    bool holds(uint32_t shard) const { return held_[shard]; }
    void add(uint32_t shard);
    void remove(uint32_t shard);
    uint64_t used() const { return used_; }
    uint64_t limit() const { return limit_; }
    void set_limit(uint64_t limit) { limit_ = limit; }

    void forget(uint32_t shard) { uses_[shard].clear(); } // nothing of it will be read

    // The file that is read next, as the list says, of those that are not held. Fetched in this order, and with room_for(), files
    // come and go as in a run that reads one after another.
    std::optional<uint32_t> next_missing() const;
    // The files to remove for another one; nothing: it has to wait. Files in `busy` stay, and while another file is to be read
    // sooner, so do all that are still of use, unless `force`. A file that fits into no limit gets all of it.
    std::optional<std::vector<uint32_t>> room_for(uint32_t shard, const std::vector<bool> & busy, bool force) const;

  private:
    struct Use {
        uint64_t place = 0, bytes = 0; // left
    };
    std::vector<uint64_t> sizes_;
    uint64_t limit_ = 0, used_ = 0, clock_ = 0;
    bool has_list_ = false;
    std::vector<std::deque<Use>> uses_; // by file
    std::vector<bool> held_;
    std::vector<uint64_t> last_read_; // for files that the list does not name
};

struct WindowCount {
    uint64_t files = 0, bytes = 0, again = 0;
};
// What these reads fetch, one after another. Files of size 0 are on the disk anyway.
WindowCount count_fetches(const std::vector<uint64_t> & sizes, uint64_t limit, const std::vector<ShardRead> & reads);

} // namespace gnv
