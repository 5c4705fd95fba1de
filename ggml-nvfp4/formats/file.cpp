#include "formats/file.h"

#include "formats/descriptor.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif
#endif

namespace gnv {

// --- File ---------------------------------------------------------------------------------------------------------------

static Result<int> open_descriptor(const std::string & path, int flags) {
    for (;;) {
        const int fd = above_standard_streams(::open(path.c_str(), flags | O_CLOEXEC, 0666));
        if (fd >= 0) return fd;
        if (errno != EINTR) return system_failure(errno, "cannot open ", path);
    }
}

Result<File> File::open(const std::string & path, int flags) {
    File file(path); // allocations come before the descriptor
    GNV_ASSIGN(file.fd_, open_descriptor(path, flags));
    return file;
}

Result<File> File::open_read(const std::string & path) {
    // O_NONBLOCK: opening a pipe by mistake fails below instead of waiting for a writer.
    GNV_ASSIGN(File file, open(path, O_RDONLY | O_NONBLOCK));
    struct stat info;
    if (fstat(file.fd_, &info) != 0) return system_failure(errno, "cannot inspect ", path);
    if (!S_ISREG(info.st_mode)) return fail(Code::invalid_argument, path, " is not a regular file");
    return file;
}

Result<File> File::create(const std::string & path) { return open(path, O_RDWR | O_CREAT | O_EXCL); }

Result<File> File::open_write(const std::string & path) { return open(path, O_RDWR); }

Result<File> File::open_own(const std::string & path) {
    GNV_ASSIGN(File file, open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK));
    struct stat info;
    if (fstat(file.fd_, &info) != 0) return system_failure(errno, "cannot inspect ", path);
    if (!S_ISREG(info.st_mode)) return fail(Code::invalid_argument, path, " is not a regular file");
    return file;
}

Result<File> File::create_unnamed(const std::string & folder) {
    std::string name = join_path(folder, ".scratch-XXXXXX");
    File file(name);
#ifdef O_TMPFILE
    Result<int> unnamed = open_descriptor(folder, O_RDWR | O_TMPFILE | O_EXCL);
    if (unnamed.ok()) {
        file.fd_ = unnamed.value();
        return file;
    }
#endif
    file.fd_ = above_standard_streams(mkostemp(name.data(), O_CLOEXEC)); // some file systems need a name for a moment
    if (file.fd_ < 0) return system_failure(errno, "cannot create a scratch file in ", folder);
    if (unlink(name.c_str()) != 0) return system_failure(errno, "cannot remove ", name);
    return file;
}

static constexpr const char * own_descriptors = "/proc/self/fd";

Result<File> File::create_linkable(const std::string & path) {
#if defined(__linux__) && defined(O_TMPFILE)
    if (is_directory(own_descriptors)) {
        File file(path);
        GNV_ASSIGN(file.fd_, open_descriptor(parent_path(path), O_RDWR | O_TMPFILE));
        return file;
    }
#endif
    return fail(Code::unsupported, "no file without a name for ", path);
}

Status File::link_to(const std::string & path) const {
    const std::string own = concat(own_descriptors, "/", fd_); // which needs no privilege, unlike AT_EMPTY_PATH
    if (linkat(AT_FDCWD, own.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return {};
    return system_failure(errno, "cannot give a new file the name ", path);
}

File::File(File && other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

File & File::operator=(File && other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
}

File::~File() {
    if (fd_ >= 0) ::close(fd_);
}

Status File::close() {
    const int fd = std::exchange(fd_, -1);
    if (fd >= 0 && ::close(fd) != 0 && errno != EINTR) return system_failure(errno, "cannot close ", path_);
    return {};
}

Result<FileStamp> File::stamp() const {
    struct stat info;
    if (fstat(fd_, &info) != 0) return system_failure(errno, "cannot inspect ", path_);
    FileStamp stamp;
    stamp.device = info.st_dev;
    stamp.inode = info.st_ino;
    stamp.size = uint64_t(info.st_size);
    stamp.modified_ns = int64_t(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec;
    stamp.changed_ns = int64_t(info.st_ctim.tv_sec) * 1'000'000'000 + info.st_ctim.tv_nsec;
    return stamp;
}

// Linux moves at most 2 GiB - 4 KiB a call; smaller steps also let a signal be noticed.
static constexpr uint64_t largest_step = 1 << 30;

Status File::read(void * data, uint64_t size, uint64_t offset) const {
    auto * bytes = static_cast<char *>(data);
    while (size > 0) {
        const ssize_t n = pread(fd_, bytes, size_t(std::min(size, largest_step)), off_t(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const int error_number = errno;
            return system_failure(error_number, "cannot read ", size, " bytes at byte ", offset, " of ", path_);
        }
        if (n == 0)
            return fail(Code::format, path_, " ends at byte ", offset, ", ", size,
                        " bytes before the data it promises");
        bytes += n, offset += uint64_t(n), size -= uint64_t(n);
    }
    return {};
}

Status File::write(const void * data, uint64_t size, uint64_t offset) const {
    auto * bytes = static_cast<const char *>(data);
    while (size > 0) {
        const ssize_t n = pwrite(fd_, bytes, size_t(std::min(size, largest_step)), off_t(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            const int error_number = n < 0 ? errno : ENOSPC;
            return system_failure(error_number, "cannot write ", size, " bytes at byte ", offset, " of ", path_);
        }
        bytes += n, offset += uint64_t(n), size -= uint64_t(n);
    }
    return {};
}

void File::will_need(uint64_t offset, uint64_t size) const {
#ifdef POSIX_FADV_WILLNEED
    constexpr uint64_t step = 1 << 20; // Linux ignores the part beyond one request of the device
    for (uint64_t done = 0; done < size; done += step)
        posix_fadvise(fd_, off_t(offset + done), off_t(std::min(step, size - done)), POSIX_FADV_WILLNEED);
#else
    (void)offset, (void)size;
#endif
}

Status File::reserve(uint64_t size) const {
    while (ftruncate(fd_, off_t(size)) != 0) {
        const int error_number = errno;
        if (error_number == EINTR) continue;
        return system_failure(error_number, "cannot grow ", path_, " to ", size, " bytes");
    }
#ifdef __linux__
    // Not posix_fallocate: its emulation writes every block if the file system cannot reserve.
    while (size > 0 && fallocate(fd_, 0, 0, off_t(size)) != 0) {
        if (errno == EINTR) continue;
        const int error_number = errno;
        if (error_number == EOPNOTSUPP || error_number == ENOSYS || error_number == EINVAL) break;
        return system_failure(error_number, "cannot reserve ", bytes_text(size), " for ", path_);
    }
#endif
    return {};
}

Status File::cut(uint64_t size) const {
    while (ftruncate(fd_, off_t(size)) != 0) {
        if (errno == EINTR) continue;
        return system_failure(errno, "cannot cut ", path_, " to ", size, " bytes");
    }
    return {};
}

// Locks of an open file description: unlike the older locks of POSIX they also exclude two files that one process
// opened, and unlike flock() they reach the server of a network file system.
static int lock_range(int fd, int command, struct flock & range) {
    range = {};
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    int result = 0;
    do {
        result = fcntl(fd, command, &range);
    } while (result != 0 && errno == EINTR);
    return result;
}

Result<File::Lock> File::lock() const {
#ifdef F_OFD_SETLK
    struct flock range;
    if (lock_range(fd_, F_OFD_SETLK, range) == 0) return Lock::taken;
    if (errno == EAGAIN || errno == EACCES) return Lock::held_elsewhere;
    if (errno == EIO) return system_failure(errno, "cannot lock ", path_);
#endif
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return Lock::taken;
    return errno == EWOULDBLOCK ? Lock::held_elsewhere : Lock::unsupported;
}

bool File::is_locked_elsewhere() const {
#ifdef F_OFD_GETLK
    struct flock range;
    return lock_range(fd_, F_OFD_GETLK, range) == 0 && range.l_type != F_UNLCK;
#else
    return false;
#endif
}

Status File::sync() const {
    while (fdatasync(fd_) != 0) {
        if (errno == EINTR) continue;
        return system_failure(errno, "cannot sync ", path_);
    }
    return {};
}

// --- Whole files ----------------------------------------------------------------------------------------------------------

Result<std::string> read_file(const std::string & path, uint64_t limit) {
    GNV_ASSIGN(const File file, File::open_read(path));
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    if (stamp.size > limit)
        return fail(Code::format, path, " has ", stamp.size, " bytes; at most ", limit, " are expected");
    std::string content(stamp.size, '\0');
    GNV_TRY(file.read(content.data(), content.size(), 0));
    return content;
}

Status write_file_synced(const std::string & path, const std::string & content) {
    GNV_ASSIGN(File file, File::create(path));
    GNV_TRY(file.write(content.data(), content.size(), 0));
    GNV_TRY(file.sync());
    return file.close();
}

Status copy_file_synced(const std::string & from, const std::string & to) {
    GNV_ASSIGN(const File source, File::open_read(from));
    GNV_ASSIGN(const FileStamp stamp, source.stamp());
    GNV_ASSIGN(File target, File::create(to));
    GNV_TRY(copy_content(source, stamp.size, target));
    GNV_TRY(target.sync());
    return target.close();
}

Status copy_content(const File & from, uint64_t size, const File & to) {
    std::string buffer(size_t(std::min<uint64_t>(size, 1 << 20)), '\0');
    for (uint64_t offset = 0; offset < size; offset += buffer.size()) {
        const uint64_t step = std::min<uint64_t>(buffer.size(), size - offset);
        GNV_TRY(from.read(buffer.data(), step, offset));
        GNV_TRY(to.write(buffer.data(), step, offset));
    }
    return {};
}

// --- Folders ---------------------------------------------------------------------------------------------------------------

Result<std::vector<DirectoryEntry>> list_directory(const std::string & path) {
    const std::unique_ptr<DIR, int (*)(DIR *)> folder(opendir(path.c_str()), closedir);
    if (!folder) return system_failure(errno, "cannot list ", path);
    std::vector<DirectoryEntry> entries;
    for (;;) {
        errno = 0;
        const dirent * const item = readdir(folder.get());
        if (!item && errno != 0) return system_failure(errno, "cannot list ", path);
        if (!item) break;
        DirectoryEntry entry;
        entry.name = item->d_name;
        if (entry.name == "." || entry.name == "..") continue;
        const std::string full = join_path(path, entry.name);
        struct stat info;
        if (lstat(full.c_str(), &info) == 0) entry.is_link = S_ISLNK(info.st_mode);
        if (stat(full.c_str(), &info) == 0) {
            entry.is_directory = S_ISDIR(info.st_mode);
        } else {
            entry.is_broken_link = true;
        }
        entries.push_back(std::move(entry));
    }
    std::sort(entries.begin(), entries.end(), [](const auto & a, const auto & b) { return a.name < b.name; });
    return entries;
}

bool path_exists(const std::string & path) {
    struct stat info;
    return lstat(path.c_str(), &info) == 0;
}

Status check_new_file(const std::string & path) {
    if (path_exists(path)) return fail(Code::already_exists, path, " exists; it will not be overwritten");
    const std::string folder = parent_path(path);
    if (!path_exists(folder))
        return fail(Code::not_found, folder, ", the folder for ", base_name(path), ", does not exist");
    if (access(folder.c_str(), W_OK | X_OK) == 0) return {};
    return system_failure(errno, "cannot write to ", folder, ", the folder for ", base_name(path));
}

bool is_directory(const std::string & path) {
    struct stat info;
    return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

Status make_directory(const std::string & path) {
    if (mkdir(path.c_str(), 0777) != 0) return system_failure(errno, "cannot make the folder ", path);
    return {};
}

Status sync_directory(const std::string & path) {
    GNV_ASSIGN(const int fd, open_descriptor(path, O_RDONLY | O_DIRECTORY));
    int failed = 0;
    do {
        failed = fsync(fd) != 0 ? errno : 0;
    } while (failed == EINTR);
    ::close(fd);
    // Some network file systems cannot sync a folder; the library cannot make their renames durable.
    if (failed && failed != EINVAL && failed != ENOTSUP) return system_failure(failed, "cannot sync the folder ", path);
    return {};
}

static int rename_with_flags(const std::string & from, const std::string & to, unsigned flags) {
#if defined(__linux__) && defined(SYS_renameat2)
    return int(syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags));
#else
    (void)from, (void)to, (void)flags;
    errno = ENOSYS;
    return -1;
#endif
}

Status rename_path(const std::string & from, const std::string & to) {
    if (rename_with_flags(from, to, RENAME_NOREPLACE) == 0) return {};
    if (errno == ENOSYS || errno == EINVAL) { // the file system does not know the flag
        if (path_exists(to)) return fail(Code::already_exists, "cannot rename ", from, " to ", to, ": it exists");
        if (rename(from.c_str(), to.c_str()) == 0) return {};
    }
    return system_failure(errno, "cannot rename ", from, " to ", to);
}

Status exchange_paths(const std::string & a, const std::string & b) {
    if (rename_with_flags(a, b, RENAME_EXCHANGE) == 0) return {};
    if (errno == ENOSYS || errno == EINVAL)
        return fail(Code::unsupported, "this file system cannot exchange ", a, " and ", b);
    return system_failure(errno, "cannot exchange ", a, " and ", b);
}

Status remove_file(const std::string & path) {
    if (unlink(path.c_str()) != 0) return system_failure(errno, "cannot remove ", path);
    return {};
}

Status remove_empty_folder(const std::string & path) {
    if (rmdir(path.c_str()) != 0 && errno != ENOENT) return system_failure(errno, "cannot remove the folder ", path);
    return {};
}

Status remove_tree(const std::string & path) {
    struct stat info;
    if (lstat(path.c_str(), &info) != 0) return system_failure(errno, "cannot remove ", path);
    if (!S_ISDIR(info.st_mode)) return remove_file(path);
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(path));
    for (const DirectoryEntry & entry : entries) GNV_TRY(remove_tree(join_path(path, entry.name)));
    if (rmdir(path.c_str()) != 0) return system_failure(errno, "cannot remove the folder ", path);
    return {};
}

Result<std::string> canonical_path(const std::string & path) {
    const auto resolve = [](const std::string & existing) {
        const std::unique_ptr<char, void (*)(void *)> resolved(realpath(existing.c_str(), nullptr), free);
        return resolved ? std::string(resolved.get()) : std::string();
    };
    if (path.empty()) return Status(Code::invalid_argument, "a path is empty");
    std::string resolved = resolve(path);
    if (!resolved.empty()) return resolved;
    if (errno != ENOENT || path_exists(path)) return system_failure(errno, "cannot resolve ", path);
    const std::string parent = resolve(parent_path(path));
    if (parent.empty()) return system_failure(errno, "cannot resolve the folder of ", path);
    return join_path(parent, base_name(path));
}

Result<uint64_t> free_disk_bytes(const std::string & path) {
    struct statvfs info;
    if (statvfs(path.c_str(), &info) != 0) return system_failure(errno, "cannot ask for the free space at ", path);
    return uint64_t(info.f_bavail) * uint64_t(info.f_frsize);
}

bool on_same_file_system(const std::string & a, const std::string & b) {
    struct stat first, second;
    return stat(a.c_str(), &first) == 0 && stat(b.c_str(), &second) == 0 && first.st_dev == second.st_dev;
}

// --- Names ---------------------------------------------------------------------------------------------------------------

static std::string without_trailing_slashes(const std::string & path) {
    size_t end = path.size();
    while (end > 1 && path[end - 1] == '/') end--;
    return path.substr(0, end);
}

std::string join_path(const std::string & folder, const std::string & name) {
    if (folder.empty()) return name;
    return folder.back() == '/' ? folder + name : folder + "/" + name;
}

std::string parent_path(const std::string & path) {
    const std::string clean = without_trailing_slashes(path);
    const size_t slash = clean.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : clean.substr(0, slash);
}

std::string base_name(const std::string & path) {
    const std::string clean = without_trailing_slashes(path);
    const size_t slash = clean.rfind('/');
    return slash == std::string::npos || clean == "/" ? clean : clean.substr(slash + 1);
}

} // namespace gnv
