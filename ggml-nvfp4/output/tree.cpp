#include "output/tree.h"

#include "core/side_by_side.h"
#include "formats/file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <unistd.h>

namespace gnv {

namespace {

// An open folder and the names in it.
class OpenFolder {
  public:
    // Fails if `name` in `parent` is no longer the folder `id`.
    static Result<OpenFolder> open(int parent, const std::string & name, const FileId & id, const std::string & path) {
        const auto was_replaced = [&path] {
            return fail(Code::already_exists, path,
                        " was replaced while it was read: another run or program changed it; run again");
        };
        const int fd = openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) return was_replaced();
        if (fd < 0) return system_failure(errno, "cannot list ", path);
        DIR * const stream = fdopendir(fd);
        if (!stream) {
            Status failure = system_failure(errno, "cannot list ", path);
            ::close(fd);
            return failure;
        }
        OpenFolder folder(stream);
        GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(fd, ".", path));
        if (!info || info->id != id) return was_replaced();
        folder.info_ = *info;
        return folder;
    }

    int descriptor() const { return dirfd(stream_.get()); }
    const EntryInfo & info() const { return info_; }

    Result<std::vector<std::string>> names(const std::string & path) const {
        std::vector<std::string> names;
        for (;;) {
            errno = 0;
            const dirent * const item = readdir(stream_.get());
            if (!item && errno != 0) return system_failure(errno, "cannot list ", path);
            if (!item) break;
            const std::string name = item->d_name;
            if (name != "." && name != "..") names.push_back(name);
        }
        std::sort(names.begin(), names.end());
        return names;
    }

  private:
    explicit OpenFolder(DIR * stream) : stream_(stream, closedir) {}
    std::unique_ptr<DIR, int (*)(DIR *)> stream_;
    EntryInfo info_;
};

constexpr uint64_t large_bytes = 64 << 20;
constexpr size_t most_threads = 8;

class TreeWalk {
  public:
    TreeWalk(std::string top, const MayRemove & may_remove, bool removes, std::string last)
        : top_(std::move(top)), may_remove_(may_remove), removes_(removes), last_(std::move(last)) {}

    Status visit(int parent, const std::string & name, const FileId & id, const std::string & prefix) {
        const std::string path = prefix.empty() ? top_ : join_path(top_, prefix);
        GNV_ASSIGN(const OpenFolder folder, OpenFolder::open(parent, name, id, path));
        GNV_ASSIGN(std::vector<std::string> names, folder.names(path));
        const auto put_last = prefix.empty() ? std::find(names.begin(), names.end(), last_) : names.end();
        const bool has_last = put_last != names.end();
        if (has_last) names.erase(put_last);
        if ((!names.empty() || has_last) && faccessat(folder.descriptor(), ".", W_OK | X_OK, AT_EACCESS) != 0)
            return system_failure(errno, "cannot remove anything from ", path);
        std::vector<std::string> large;
        for (const std::string & entry : names) GNV_TRY(visit_entry(folder, entry, prefix, large));
        GNV_TRY(unlink_all(folder, large, prefix));
        return has_last ? visit_entry(folder, last_, prefix, large) : Status();
    }

  private:
    // `large`: gets the name in place of a removal that takes long.
    Status visit_entry(const OpenFolder & folder, const std::string & name, const std::string & prefix,
                       std::vector<std::string> & large) {
        TreeEntry entry;
        entry.name = prefix.empty() ? name : prefix + "/" + name;
        const std::string path = join_path(top_, entry.name);
        GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(folder.descriptor(), name, path));
        if (!info) return {}; // removed meanwhile
        entry.info = *info;
        GNV_TRY(may_remove_(entry));
        GNV_TRY(check_may_remove(folder.info(), *info, path));
        const bool is_folder = info->kind == FileKind::folder;
        if (is_folder) GNV_TRY(visit(folder.descriptor(), name, info->id, entry.name));
        if (!removes_) return {};
        if (info->kind == FileKind::file && info->size >= large_bytes && name != last_) {
            large.push_back(name);
            return {};
        }
        return unlink_entry(folder, name, path, is_folder ? AT_REMOVEDIR : 0);
    }

    static Status unlink_entry(const OpenFolder & folder, const std::string & name, const std::string & path,
                               int flags) {
        if (unlinkat(folder.descriptor(), name.c_str(), flags) == 0 || errno == ENOENT) return {};
        return system_failure(errno, "cannot remove ", path);
    }

    Status unlink_all(const OpenFolder & folder, const std::vector<std::string> & names, const std::string & prefix) {
        std::atomic<size_t> next = 0;
        return run_side_by_side(std::min(names.size(), most_threads), [&](size_t) -> Status {
            for (size_t i = next++; i < names.size(); i = next++) {
                const std::string path = join_path(top_, prefix.empty() ? names[i] : prefix + "/" + names[i]);
                GNV_TRY(unlink_entry(folder, names[i], path, 0));
            }
            return {};
        });
    }

    const std::string top_;
    const MayRemove & may_remove_;
    const bool removes_;
    const std::string last_;
};

} // namespace

Status check_tree(const std::string & folder, const FileId & id, const MayRemove & may_remove) {
    return TreeWalk(folder, may_remove, false, "").visit(AT_FDCWD, folder, id, "");
}

Status remove_tree(const std::string & folder, const FileId & id, const MayRemove & may_remove,
                   const std::string & last) {
    GNV_TRY(TreeWalk(folder, may_remove, true, last).visit(AT_FDCWD, folder, id, ""));
    if (rmdir(folder.c_str()) != 0) return system_failure(errno, "cannot remove the folder ", folder);
    return {};
}

} // namespace gnv
