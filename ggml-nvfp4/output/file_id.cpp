#include "output/file_id.h"

#include "formats/file.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/sysmacros.h>
#endif

namespace gnv {

static FileKind kind_of(mode_t mode) {
    if (S_ISREG(mode)) return FileKind::file;
    if (S_ISDIR(mode)) return FileKind::folder;
    return S_ISLNK(mode) ? FileKind::link : FileKind::other;
}

#ifdef STATX_BASIC_STATS
// 0, or the error. Unlike stat() it gives the time of birth, mount points and attributes.
static int inspect_extended(int folder, const std::string & name, EntryInfo & info) {
    constexpr uint64_t mount_root = 0x2000; // STATX_ATTR_MOUNT_ROOT, younger than some headers
    struct statx found = {};
    if (statx(folder, name.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &found))
        return errno;
    info.id = {makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino};
    info.kind = kind_of(found.stx_mode);
    info.size = found.stx_size;
    if (found.stx_mask & STATX_BTIME)
        info.born_ns = int64_t(found.stx_btime.tv_sec) * 1'000'000'000 + found.stx_btime.tv_nsec;
    info.mode = found.stx_mode, info.owner = found.stx_uid;
    info.knows_mounts = (found.stx_attributes_mask & mount_root) != 0;
    info.is_mount = (found.stx_attributes & mount_root) != 0;
    info.is_fixed = (found.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0;
    return 0;
}
#else
static int inspect_extended(int, const std::string &, EntryInfo &) { return ENOSYS; }
#endif

static int inspect(int folder, const std::string & name, EntryInfo & info) {
    const int extended = inspect_extended(folder, name, info);
    if (extended != ENOSYS && extended != EPERM) return extended; // some sandboxes lack statx
    struct stat found;
    if (fstatat(folder, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) return errno;
    info.id = {uint64_t(found.st_dev), uint64_t(found.st_ino)};
    info.kind = kind_of(found.st_mode);
    info.size = uint64_t(found.st_size);
    info.mode = found.st_mode, info.owner = found.st_uid;
    return 0;
}

Result<std::optional<EntryInfo>> find_entry(int folder, const std::string & name, const std::string & path) {
    EntryInfo info;
    const int failed = inspect(folder, name, info);
    if (failed == 0) return std::optional<EntryInfo>(info);
    if (failed == ENOENT || failed == ENOTDIR) return std::optional<EntryInfo>();
    return system_failure(failed, "cannot inspect ", path);
}

Result<std::optional<EntryInfo>> find_entry(const std::string & path) { return find_entry(AT_FDCWD, path, path); }

Status check_may_remove(const EntryInfo & folder, const EntryInfo & entry, const std::string & path) {
    // The device of a file proves nothing: an overlay shows the devices of its layers.
    const bool is_elsewhere = entry.kind == FileKind::folder && entry.id.device != folder.id.device;
    if (entry.is_mount || (!entry.knows_mounts && is_elsewhere))
        return fail(Code::io, path, " is a mount point: it cannot be renamed or removed");
    if (entry.is_fixed || folder.is_fixed)
        return fail(Code::io, path, " cannot be renamed or removed: it or its folder is immutable (lsattr shows it)");
    const uid_t user = geteuid();
    const bool is_sticky = (folder.mode & S_ISVTX) != 0;
    if (is_sticky && user != 0 && folder.owner != user && entry.owner != user)
        return fail(Code::io, path, " cannot be renamed or removed: it belongs to another user");
    return {};
}

Status check_may_write(const std::string & folder) {
    if (faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) == 0) return {};
    return system_failure(errno, "cannot make or remove anything in ", folder);
}

// --- Lookups ------------------------------------------------------------------------------------------------------------

static void prepend_components(std::deque<std::string> & components, const std::string & path) {
    std::vector<std::string> found;
    for (size_t at = 0; at < path.size();) {
        const size_t end = std::min(path.find('/', at), path.size());
        if (end > at) found.push_back(path.substr(at, end - at));
        at = end + 1;
    }
    components.insert(components.begin(), found.begin(), found.end());
}

static Result<std::string> read_link(const std::string & path) {
    std::string target(4096, '\0');
    const ssize_t length = readlink(path.c_str(), target.data(), target.size());
    if (length < 0) return system_failure(errno, "cannot inspect ", path);
    target.resize(size_t(length));
    return target;
}

Result<std::vector<FileId>> lookup_trail(const std::string & path) {
    constexpr int most_links = 40; // as the kernel
    if (path.empty()) return Status(Code::invalid_argument, "a path is empty");
    std::deque<std::string> components;
    prepend_components(components, path);
    if (path[0] != '/') {
        GNV_ASSIGN(const std::string here, canonical_path("."));
        prepend_components(components, here);
    }
    std::vector<FileId> trail;
    std::string at = "/"; // without links
    const auto pass = [&](const std::string & entry) -> Result<FileKind> {
        GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(entry));
        if (!info) return system_failure(ENOENT, "cannot inspect ", path);
        trail.push_back(info->id);
        return info->kind;
    };
    GNV_TRY(pass(at).take_status());
    for (int links = 0; !components.empty();) {
        const std::string name = components.front();
        components.pop_front();
        if (name == ".") continue;
        const std::string entry = name == ".." ? parent_path(at) : join_path(at, name);
        GNV_ASSIGN(const FileKind kind, pass(entry));
        if (kind != FileKind::link) {
            at = entry;
            continue;
        }
        if (++links > most_links) return system_failure(ELOOP, "cannot inspect ", path);
        GNV_ASSIGN(const std::string target, read_link(entry));
        prepend_components(components, target);
        if (!target.empty() && target[0] == '/') at = "/";
    }
    GNV_TRY(pass(at).take_status()); // after "." or ".." the last entry passed is not the end
    return trail;
}

Status InputFiles::add(const std::string & path) {
    Result<std::vector<FileId>> trail = lookup_trail(path);
    if (!trail.ok() && trail.status().code() == Code::not_found) return {};
    if (!trail.ok()) return trail.take_status();
    for (const FileId & id : trail.value()) needed_by_.emplace(id, path);
    return {};
}

const std::string * InputFiles::find(const FileId & id) const {
    const auto found = needed_by_.find(id);
    return found == needed_by_.end() ? nullptr : &found->second;
}

} // namespace gnv
