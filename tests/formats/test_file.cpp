#include "formats/file.h"
#include "formats/new_file.h"
#include "scratch.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

using namespace gnv;
using gnv::test::ScratchFolder;

TEST_CASE("a new file: what stands in its way is told before it is made") {
    const ScratchFolder folder;
    CHECK(check_new_file(folder / "a").ok());
    CHECK_FALSE(path_exists(folder / "a"));
    folder.save("a", "content");
    CHECK(check_new_file(folder / "a").code() == Code::already_exists);
    const Status missing = check_new_file(folder / "nowhere/a");
    CHECK(missing.code() == Code::not_found);
    CHECK(missing.message().find("the folder for a, does not exist") != std::string::npos);
    const Status fixed = check_new_file("/proc/sys/kernel/a"); // no file can be made there, not even by root
    CHECK_FALSE(fixed.ok());
    CHECK(fixed.message().find("/proc/sys/kernel, the folder for a") != std::string::npos);
}

TEST_CASE("positioned reads and writes are complete or fail with file and byte") {
    const ScratchFolder folder;
    const std::string path = folder / "data";
    {
        File file = File::create(path).take();
        CHECK(file.reserve(10).ok());
        CHECK(file.write("world", 5, 5).ok());
        CHECK(file.write("hello", 5, 0).ok());
        CHECK(file.sync().ok());
        CHECK(file.close().ok());
    }
    CHECK(File::create(path).status().code() == Code::already_exists);
    CHECK(read_file(path, 100).value() == "helloworld");
    CHECK(read_file(path, 9).status().code() == Code::format);
    const File file = File::open_read(path).take();
    char bytes[4];
    const Status short_read = file.read(bytes, 4, 8);
    CHECK(short_read.code() == Code::format);
    CHECK(short_read.message() == path + " ends at byte 10, 2 bytes before the data it promises");
    CHECK(file.write(bytes, 1, 0).code() == Code::io); // opened for reading
}

TEST_CASE("writes through mappings: parts of any size at any place, from several threads") {
    const ScratchFolder on_disk, in_memory("/dev/shm");
    CHECK_FALSE(in_memory.path().empty());
    for (const ScratchFolder * const folder : {&on_disk, &in_memory}) {
        CAPTURE(folder->path());
        const std::string path = *folder / "data";
        const File file = File::create(path).take();
        constexpr uint64_t size = 9'000'001;
        REQUIRE(file.reserve(size).ok());
        std::string expected(size, '\0');
        for (size_t i = 0; i < size; i++) expected[i] = char(i * 2654435761 >> 13);
        // Three threads in turn write neighbours that share pages.
        std::vector<uint64_t> ends = {0};
        for (uint64_t step = 1; ends.back() < size; step = step * 5 % 1'500'007)
            ends.push_back(std::min(size, ends.back() + step));
        std::vector<std::thread> threads;
        std::atomic<int> failed = 0;
        for (size_t t = 0; t < 3; t++)
            threads.emplace_back([&, t] {
                for (size_t i = t; i + 1 < ends.size(); i += 3) {
                    const char * const data = expected.data() + ends[i];
                    const uint64_t bytes = ends[i + 1] - ends[i], first = bytes / 3;
                    const FilePart parts[] = {{data, first}, {data, 0}, {data + first, bytes - first}};
                    failed += !file.write_mapped(parts, ends[i]);
                }
            });
        for (std::thread & thread : threads) thread.join();
        REQUIRE(failed == 0);
        CHECK((read_file(path, size).value() == expected));
        CHECK(file.stamp().value().size == size);
        // What cannot be done is told, and ends nothing: beyond the end, and in a file to read.
        const FilePart part = {expected.data(), 5000};
        CHECK_FALSE(file.write_mapped({&part, 1}, size + 8192));
        CHECK_FALSE(File::open_read(path).value().write_mapped({&part, 1}, 0));
        CHECK((read_file(path, size).value() == expected));
    }
}

TEST_CASE("a stamp changes when the content does") {
    const ScratchFolder folder;
    const std::string path = folder / "data";
    CHECK(write_file_synced(path, "a").ok());
    const File file = File::open_read(path).take();
    const FileStamp before = file.stamp().value();
    CHECK(before == file.stamp().value());
    File writer = File::open_write(path).take();
    CHECK(writer.write("ab", 2, 0).ok());
    CHECK_FALSE(before == file.stamp().value());
}

TEST_CASE("a stamp changes when the content does and the time of the last write is put back") {
    const ScratchFolder folder;
    const std::string path = folder.save("data", "a");
    const File file = File::open_read(path).take();
    const FileStamp before = file.stamp().value();
    const FileStamp again = File::open_read(path).value().stamp().value();
    CHECK(before == again);
    File writer = File::open_write(path).take();
    CHECK(writer.write("b", 1, 0).ok());
    const timespec times[2] = {{before.modified_ns / 1'000'000'000, before.modified_ns % 1'000'000'000},
                               {before.modified_ns / 1'000'000'000, before.modified_ns % 1'000'000'000}};
    REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
    const FileStamp after = file.stamp().value();
    CHECK(after.modified_ns == before.modified_ns);
    CHECK(after.size == before.size);
    CHECK_FALSE(after == before);
}

TEST_CASE("a lock is of one open file, also within a process, and goes with it") {
    const ScratchFolder folder;
    const std::string path = folder / "journal";
    {
        const File first = File::create(path).take();
        const File second = File::open_own(path).take();
        CHECK_FALSE(second.is_locked_elsewhere());
        CHECK(first.lock().value() == File::Lock::taken);
        CHECK(second.is_locked_elsewhere());
        CHECK(second.lock().value() == File::Lock::held_elsewhere);
        REQUIRE(rename_path(path, path + "-moved").ok()); // and is the file's, not the name's
        CHECK(File::open_own(path + "-moved").value().lock().value() == File::Lock::held_elsewhere);
        REQUIRE(rename_path(path + "-moved", path).ok());
    }
    CHECK(File::open_own(path).value().lock().value() == File::Lock::taken);
    REQUIRE(symlink("journal", (folder / "link").c_str()) == 0);
    CHECK_FALSE(File::open_own(folder / "link").ok());
}

TEST_CASE("a new file has its name when it is complete, and what lies beside it stays") {
    const ScratchFolder folder;
    folder.save("a.partial", "mine");
    {
        NewFile unfinished = NewFile::create(folder / "a").take();
        CHECK(unfinished.file().write("x", 1, 0).ok());
        CHECK_FALSE(path_exists(folder / "a"));
    }
    CHECK(list_directory(folder.path()).value().size() == 1);
    NewFile file = NewFile::create(folder / "a").take();
    CHECK(file.file().write("content", 7, 0).ok());
    CHECK(file.publish().ok());
    CHECK(read_file(folder / "a", 100).value() == "content");
    CHECK(read_file(folder / "a.partial", 100).value() == "mine");
    CHECK(NewFile::create(folder / "a").status().code() == Code::already_exists);
    NewFile late = NewFile::create(folder / "b").take();
    folder.save("b", "appeared");
    CHECK(late.publish().code() == Code::already_exists);
    CHECK(read_file(folder / "b", 100).value() == "appeared");
}

TEST_CASE("only files are opened, and links are followed") {
    const ScratchFolder folder;
    CHECK(File::open_read(folder.path()).status().code() == Code::invalid_argument);
    CHECK(File::open_read(folder / "absent").status().code() == Code::not_found);
    CHECK(write_file_synced(folder / "blob", "content").ok());
    REQUIRE(symlink("blob", (folder / "link").c_str()) == 0);
    REQUIRE(symlink("nowhere", (folder / "broken").c_str()) == 0);
    CHECK(read_file(folder / "link", 100).value() == "content");
    CHECK(copy_file_synced(folder / "link", folder / "copy").ok());
    CHECK(read_file(folder / "copy", 100).value() == "content");
    const auto entries = list_directory(folder.path()).take();
    REQUIRE(entries.size() == 4);
    CHECK(entries[1].name == "broken");
    CHECK(entries[1].is_broken_link);
    CHECK_FALSE(entries[3].is_broken_link);
}

TEST_CASE("renames replace nothing, exchanges swap, trees go with all they hold") {
    const ScratchFolder folder;
    CHECK(make_directory(folder / "a").ok());
    CHECK(make_directory(folder / "b").ok());
    CHECK(write_file_synced(folder / "a/file", "1").ok());
    CHECK_FALSE(rename_path(folder / "a", folder / "b").ok());
    CHECK(rename_path(folder / "a", folder / "c").ok());
    CHECK_FALSE(path_exists(folder / "a"));
    const Status exchanged = exchange_paths(folder / "b", folder / "c");
    CHECK((exchanged.ok() || exchanged.code() == Code::unsupported));
    if (exchanged.ok()) CHECK(path_exists(folder / "b/file"));
    REQUIRE(symlink(folder.path().c_str(), (folder / "c/loop").c_str()) == 0);
    CHECK(remove_tree(folder / "c").ok());
    CHECK(path_exists(folder.path()));
    CHECK(remove_tree(folder / "c").code() == Code::not_found);
}

TEST_CASE("paths") {
    CHECK(join_path("a", "b") == "a/b");
    CHECK(join_path("a/", "b") == "a/b");
    CHECK(parent_path("a/b/") == "a");
    CHECK(parent_path("a") == ".");
    CHECK(parent_path("/a") == "/");
    CHECK(base_name("a/b/") == "b");
    const ScratchFolder folder;
    const std::string real = canonical_path(folder.path()).take();
    CHECK(canonical_path(folder / "./new").value() == real + "/new");
    CHECK(canonical_path(folder / "absent/new").status().code() == Code::not_found);
    CHECK(canonical_path("").status().code() == Code::invalid_argument);
    CHECK(free_disk_bytes(folder.path()).value() > 0);
}
