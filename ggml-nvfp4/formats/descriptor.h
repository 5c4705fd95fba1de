// Numbers of open files.
#pragma once

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace gnv {

// A file opened while a standard stream is closed would get its number, and printed text would go into the file.
// Returns a number above theirs, or -1 with errno.
inline int above_standard_streams(int fd) {
    if (fd < 0 || fd > STDERR_FILENO) return fd;
    const int higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), error_number = errno;
    ::close(fd);
    errno = error_number;
    return higher;
}

} // namespace gnv
