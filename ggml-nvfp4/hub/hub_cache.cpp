#include "hub/hub_cache.h"

#include "formats/file.h"
#include "formats/new_file.h"

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace gnv {

namespace {

constexpr uint64_t most_reference_bytes = 1024;
constexpr std::chrono::milliseconds lock_interval(50);

// The size of a file; false where there is none.
bool size_of(const std::string & path, uint64_t & size) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
    size = uint64_t(info.st_size);
    return true;
}

} // namespace

Status make_folders(const std::string & path) {
    for (size_t slash = path.find('/', 1); slash != path.npos; slash = path.find('/', slash + 1)) {
        const std::string above = path.substr(0, slash);
        if (mkdir(above.c_str(), 0777) != 0 && errno != EEXIST && !is_directory(above))
            return system_failure(errno, "cannot make the folder ", above);
    }
    if (mkdir(path.c_str(), 0777) != 0 && errno != EEXIST)
        return system_failure(errno, "cannot make the folder ", path);
    return {};
}

Status HubCache::prepare() const {
    for (const std::string & folder :
         {folder_ + "/blobs", folder_ + "/snapshots", folder_ + "/refs", root_ + "/.locks/" + name_})
        GNV_TRY(make_folders(folder));
    return {};
}

std::string HubCache::find_commit(const std::string & revision) const {
    if (is_hex(revision, 40)) return revision;
    Result<std::string> text = read_file(folder_ + "/refs/" + revision, most_reference_bytes);
    if (!text.ok()) return "";
    std::string commit = text.take();
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == ' ')) commit.pop_back();
    return is_hex(commit, 40) ? commit : "";
}

bool HubCache::has_blob(const RemoteFile & file) const {
    uint64_t size = 0;
    return size_of(blob(file.hash), size) && size == file.size;
}

uint64_t HubCache::bytes_here(const RemoteFile & file) const {
    uint64_t size = 0;
    if (has_blob(file)) return file.size;
    return size_of(blob(file.hash) + ".incomplete", size) && size <= file.size ? size : 0;
}

Status HubCache::add_to_snapshot(const RemoteFile & file, const std::string & commit) const {
    const std::string path = snapshot(commit) + "/" + file.name;
    GNV_TRY(make_folders(parent_path(path)));
    std::string target = "../../";
    for (const char c : file.name) target += c == '/' ? "../" : "";
    target += "blobs/" + file.hash;
    if (symlink(target.c_str(), path.c_str()) == 0) return {};
    uint64_t size = 0;
    if (errno == EEXIST && size_of(path, size) && size == file.size) return {};
    if (errno == EEXIST) { // a link to a blob that was removed
        if (unlink(path.c_str()) == 0 && symlink(target.c_str(), path.c_str()) == 0) return {};
    }
    return system_failure(errno, "cannot make the link ", path);
}

Status HubCache::set_reference(const std::string & revision, const std::string & commit) const {
    if (revision == commit) return {};
    const std::string path = folder_ + "/refs/" + revision;
    GNV_TRY(make_folders(parent_path(path)));
    // Written anew under another name, so that no reader sees half of it.
    const std::string fresh = concat(path, ".", getpid(), ".new");
    if (path_exists(fresh)) GNV_TRY(remove_file(fresh));
    GNV_TRY(write_file_synced(fresh, commit));
    if (rename(fresh.c_str(), path.c_str()) != 0) return system_failure(errno, "cannot write ", path);
    return {};
}

HubCache::Lock::~Lock() {
    if (fd_ >= 0) close(fd_);
}

Result<HubCache::Lock> HubCache::lock(const RemoteFile & file, const StopCheck & stop) const {
    const std::string path = concat(root_, "/.locks/", name_, "/", file.hash, ".lock");
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return system_failure(errno, "cannot open ", path);
    Lock out(fd);
    // flock(), as huggingface_hub does; a file system without locks has none.
    while (flock(fd, LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || errno == EINTR)) {
        if (stop && stop()) return fail(Code::cancelled, "stopped on request");
        std::this_thread::sleep_for(lock_interval);
    }
    return out;
}

} // namespace gnv
