// The identity behind a name: two names with one id are one file or folder.
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
    int64_t born_ns = 0; // 0 if the file system does not record it
    uint32_t mode = 0, owner = 0;
    bool is_mount = false;     // a mount point
    bool knows_mounts = false; // else only another device shows a mount point
    bool is_fixed = false;     // immutable, or append-only: its entries cannot be renamed or removed
};

// `name` in the open folder `folder`, or AT_FDCWD and a path. Empty without such an entry. `path` is for messages.
Result<std::optional<EntryInfo>> find_entry(int folder, const std::string & name, const std::string & path);
Result<std::optional<EntryInfo>> find_entry(const std::string & path);
// Fails unless this process may rename or remove `entry` of `folder`; `path` is the entry's, for messages.
Status check_may_remove(const EntryInfo & folder, const EntryInfo & entry, const std::string & path);
// Fails unless this process may make and remove entries of the folder.
Status check_may_write(const std::string & folder);

// Ids of every folder and link that a lookup of an existing path passes through, from the root to the end itself, which
// is the last. If one of them is removed, the path no longer leads to the same end.
Result<std::vector<FileId>> lookup_trail(const std::string & path);

// The files that a run reads, with the folders and links that lead to them.
class InputFiles {
  public:
    // Ignores a path that does not exist: it cannot be lost.
    Status add(const std::string & path);
    // A path whose lookup passes through `id`; null without one.
    const std::string * find(const FileId & id) const;

  private:
    std::map<FileId, std::string> needed_by_;
};

} // namespace gnv
