// Which files of a streamed source are on the disk: by hand, and against every order of removals.
#include "hub/stream/shard_window.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <random>
#include <utility>

using namespace gnv;

namespace {

// The fewest fetches that any choice of removals needs, for files of one size.
uint64_t fewest_fetches(const std::vector<ShardRead> & reads, size_t at, std::vector<uint32_t> held, size_t room) {
    for (; at < reads.size(); at++) {
        const uint32_t wanted = reads[at].shard;
        if (std::find(held.begin(), held.end(), wanted) != held.end()) continue;
        if (held.size() < room) {
            held.push_back(wanted);
            return 1 + fewest_fetches(reads, at + 1, held, room);
        }
        uint64_t fewest = UINT64_MAX;
        for (uint32_t & gives_way : held) {
            const uint32_t before = std::exchange(gives_way, wanted);
            fewest = std::min(fewest, fewest_fetches(reads, at + 1, held, room));
            gives_way = before;
        }
        return 1 + fewest;
    }
    return 0;
}

} // namespace

TEST_CASE("a window takes files in the order of the list, and gives them up as late as it can") {
    ShardWindow window({10, 20, 30, 40}, 60);
    CHECK_FALSE(window.has_list());
    CHECK_FALSE(window.next_missing());
    window.expect({{2, 5}, {0, 1}, {2, 5}, {1, 7}, {3, 1}});
    for (const uint32_t next : {2, 0, 1}) {
        CHECK(window.next_missing() == next);
        CHECK(window.room_for(next, std::vector<bool>(4), false)->empty());
        window.add(next);
    }
    CHECK(window.used() == 60);
    CHECK(window.next_missing() == 3); // for which there is no room
    // It waits for those that are read sooner, unless nothing moves.
    const std::vector<bool> none(4), first = {true, false, false, false};
    CHECK_FALSE(window.room_for(3, none, false));
    CHECK(window.room_for(3, none, true) == std::vector<uint32_t>{1, 0, 2});
    window.read(0, 1);
    CHECK(window.next_use(0) == ShardWindow::no_use);
    CHECK_FALSE(window.room_for(3, none, false));
    window.read(2, 5);
    CHECK(window.next_use(2) == 2);
    window.read(1, 6);
    CHECK(window.next_use(1) == 3); // a byte is left
    window.read(1, 1);
    window.read(2, 6); // more than expected
    CHECK(window.next_use(2) == ShardWindow::no_use);
    CHECK_FALSE(window.room_for(3, {true, true, true, false}, true)); // all are being read
    CHECK(window.room_for(3, first, false) == std::vector<uint32_t>{1, 2});
    // One that is of use later stays as long as sooner reads may make room.
    window.expect({{0, 1}, {3, 1}, {1, 1}, {2, 1}});
    CHECK_FALSE(window.room_for(3, none, false));
    window.read(0, 1);
    CHECK(window.room_for(3, none, false) == std::vector<uint32_t>{0, 2});
    window.forget(1);
    CHECK(window.next_use(1) == ShardWindow::no_use);
    // A file that no limit has room for gets the window to itself.
    window.set_limit(30);
    for (const uint32_t other : {0, 1, 2}) window.remove(other);
    CHECK(window.room_for(3, none, false)->empty());
}

TEST_CASE("no choice of removals fetches fewer files") {
    std::mt19937 random(1);
    for (int run = 0; run < 200; run++) {
        const size_t files = 3 + random() % 3, room = 1 + random() % (files - 1);
        std::vector<ShardRead> reads;
        for (size_t i = 0; i < 11; i++) reads.push_back({uint32_t(random() % files), 1 + random() % 9});
        const std::vector<uint64_t> sizes(files, 100);
        const WindowCount count = count_fetches(sizes, 100 * room, reads);
        CHECK(count.files == fewest_fetches(reads, 0, {}, room));
        CHECK(count.bytes == 100 * count.files);
    }
}

TEST_CASE("files that are in the cache are not fetched") {
    const WindowCount count = count_fetches({0, 50, 70}, 70, {{0, 1}, {1, 2}, {0, 3}, {2, 4}, {1, 1}});
    CHECK(count.files == 3);
    CHECK(count.bytes == 170);
    CHECK(count.again == 1);
}
