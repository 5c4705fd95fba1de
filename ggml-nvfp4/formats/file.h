// Files: positioned reads and writes that are complete or fail with the file's name and the byte, and helpers for
// folders that get their final name only when everything in them is on disk.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace gnv {

// Identifies the content of a file as well as the file system can: it changes with every write. Programs can set the
// time of the last write back; only the system sets the time of the last change of the inode.
struct FileStamp {
    uint64_t device = 0, inode = 0, size = 0;
    int64_t modified_ns = 0, changed_ns = 0;
    bool operator==(const FileStamp &) const = default;
};

struct FilePart {
    const void * data = nullptr;
    uint64_t size = 0;
};

class File {
  public:
    static Result<File> open_read(const std::string & path);  // follows symbolic links; refuses everything except files
    static Result<File> create(const std::string & path);     // refuses to replace an existing file
    static Result<File> open_write(const std::string & path); // an existing file, its content kept
    // To read and write an existing file; refuses links and everything except files.
    static Result<File> open_own(const std::string & path);
    // A scratch file without a name in `folder`: it vanishes when it is closed, also if the process is killed.
    static Result<File> create_unnamed(const std::string & folder);
    File(File && other) noexcept;
    File & operator=(File && other) noexcept;
    ~File();

    const std::string & path() const { return path_; }
    Result<FileStamp> stamp() const;

    // Exactly `size` bytes at `offset`; safe to call from several threads.
    Status read(void * data, uint64_t size, uint64_t offset) const;
    Status write(const void * data, uint64_t size, uint64_t offset) const;
    // The file system is in memory: its files take writes of many threads at once through mappings, else one at a time.
    bool is_in_memory() const;
    // Writes the parts, one behind the other, within the size of such a file, through a mapping that ends with the call. False:
    // that cannot be done, and part of them may be written; write() does it, or tells why. A program that cuts the file
    // meanwhile ends this process.
    bool write_mapped(std::span<const FilePart> parts, uint64_t offset) const;
    // Tells the kernel that [offset, offset + size) will be read soon. A hint: it never fails.
    void will_need(uint64_t offset, uint64_t size) const;
    // Grows the file to `size` and reserves the disk blocks if the file system can, so that a full disk fails here.
    Status reserve(uint64_t size) const;
    Status cut(uint64_t size) const; // to the first `size` bytes
    // An exclusive lock that lasts until the file is closed, also if the process is killed.
    enum class Lock : uint8_t { taken, held_elsewhere, unsupported };
    Result<Lock> lock() const;
    bool is_locked_elsewhere() const; // takes no lock; false if the system cannot tell
    Status sync() const;              // data, and the metadata to find them, are on disk when this returns
    Status close();                   // reports a failure, which the destructor cannot

  private:
    explicit File(std::string path) : path_(std::move(path)) {}
    static Result<File> open(const std::string & path, int flags);
    friend class NewFile; // formats/new_file.h
    // Without a name in the folder of `path`; link_to() gives it one.
    static Result<File> create_linkable(const std::string & path);
    Status link_to(const std::string & path) const;
    int fd_ = -1;
    std::string path_;
};

// Whole small files; larger ones than `limit` are refused.
Result<std::string> read_file(const std::string & path, uint64_t limit);
Status write_file_synced(const std::string & path, const std::string & content); // refuses to replace a file
Status copy_file_synced(const std::string & from, const std::string & to);       // refuses to replace a file
Status copy_content(const File & from, uint64_t size, const File & to);          // the first `size` bytes

struct DirectoryEntry {
    std::string name;
    bool is_directory = false; // after following symbolic links
    bool is_broken_link = false;
    bool is_link = false;
};
// Sorted by name, without "." and "..".
Result<std::vector<DirectoryEntry>> list_directory(const std::string & path);

bool path_exists(const std::string & path); // a broken symbolic link exists
// Fails if a file cannot be made here later: its name is taken, or its folder does not exist or is not writable.
Status check_new_file(const std::string & path);
bool is_directory(const std::string & path);
Status make_directory(const std::string & path);
Status sync_directory(const std::string & path);
Status rename_path(const std::string & from, const std::string & to); // `to` must not exist
// Swaps two paths in one step; Code::unsupported if the file system cannot.
Status exchange_paths(const std::string & a, const std::string & b);
Status remove_file(const std::string & path);
Status remove_empty_folder(const std::string & path); // Code::already_exists if it is not empty
Status remove_tree(const std::string & path);         // a folder and everything in it; does not follow symbolic links
// The absolute path without symbolic links. The last component, and only that, may be missing.
Result<std::string> canonical_path(const std::string & path);
Result<uint64_t> free_disk_bytes(const std::string & path); // available to this user on the file system of `path`
bool on_same_file_system(const std::string & a, const std::string & b); // false where one of them does not exist

std::string join_path(const std::string & folder, const std::string & name);
std::string parent_path(const std::string & path); // "a/b" -> "a", "a" -> "."
std::string base_name(const std::string & path);   // "a/b" -> "b", "a/b/" -> "b"

} // namespace gnv
