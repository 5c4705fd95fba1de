// What a name leads to, whatever it is called: two names with one id are one file or folder.
#pragma once

#include "core/status.h"

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace gnv {

struct FileId {
    uint64_t device = 0, inode = 0;
    auto operator<=>(const FileId &) const = default;
};

enum class FileKind : uint8_t { file, folder, link, other };

// An entry of a folder as it is: a link is not followed.
struct EntryInfo {
    FileId id;
    FileKind kind = FileKind::other;
    uint64_t size = 0;
    int64_t born_ns = 0; // 0 where the file system does not say
    uint32_t mode = 0, owner = 0;
    bool is_mount = false;     // something else is mounted here
    bool knows_mounts = false; // else a mount point shows by another device only
    bool is_fixed = false;     // immutable, or may only grow: nothing in it can be renamed or removed
};

// `name` in the open folder `folder`; AT_FDCWD and a path work, too. Nothing where there is no such entry. `path` is for
// messages.
Result<std::optional<EntryInfo>> find_entry(int folder, const std::string & name, const std::string & path);
Result<std::optional<EntryInfo>> find_entry(const std::string & path);
// Fails unless this process may rename or remove `entry` of `folder`; `path` is the entry's, for messages.
Status check_may_remove(const EntryInfo & folder, const EntryInfo & entry, const std::string & path);
// Fails unless this process may make and remove entries of the folder.
Status check_may_write(const std::string & folder);

// Ids of all that a lookup of an existing path passes through, from the root on: folders, links, what they lead to, and
// the end itself, which is the last. Whatever of these goes, the path no longer leads where it did.
Result<std::vector<FileId>> lookup_trail(const std::string & path);

// The files that a run reads, with all that leads to them.
class InputFiles {
  public:
    // A path that does not exist is none that could be lost.
    Status add(const std::string & path);
    // The path that a lookup of which passes through `id`; null when there is none.
    const std::string * find(const FileId & id) const;

  private:
    std::map<FileId, std::string> needed_by_;
};

} // namespace gnv
