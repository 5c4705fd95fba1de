#include "formats/file_room.h"

#include "formats/descriptor.h"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

#ifndef FALLOC_FL_KEEP_SIZE
#define FALLOC_FL_KEEP_SIZE 1
#endif

namespace gnv {

Result<std::shared_ptr<FileRoom>> FileRoom::open(const std::string & path) {
    std::shared_ptr<FileRoom> room(new FileRoom(path)); // allocations come before the descriptor
    do {
        room->fd_ = above_standard_streams(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    } while (room->fd_ < 0 && errno == EINTR);
    if (room->fd_ < 0) return system_failure(errno, "cannot open ", path);
    return room;
}

FileRoom::~FileRoom() {
    if (fd_ >= 0) ::close(fd_);
}

Status FileRoom::grow(uint64_t size) const {
    while (ftruncate(fd_, off_t(size)) != 0) {
        const int error_number = errno;
        if (error_number == EINTR) continue;
        return system_failure(error_number, "cannot grow ", path_, " to ", size, " bytes");
    }
    return {};
}

Status FileRoom::reserve(uint64_t offset, uint64_t size) const {
#ifdef __linux__
    // Not posix_fallocate: its emulation writes every block if the file system cannot reserve.
    while (size > 0 && fallocate(fd_, FALLOC_FL_KEEP_SIZE, off_t(offset), off_t(size)) != 0) {
        if (errno == EINTR) continue;
        const int error_number = errno;
        if (error_number == EOPNOTSUPP || error_number == ENOSYS || error_number == EINVAL) break;
        return system_failure(error_number, "cannot reserve ", bytes_text(size), " for ", path_);
    }
#else
    (void)offset, (void)size;
#endif
    return {};
}

} // namespace gnv
