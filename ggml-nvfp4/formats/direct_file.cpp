#include "formats/direct_file.h"

#include "formats/descriptor.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace gnv {

Result<DirectFile> DirectFile::open(const std::string & path) {
    DirectFile file(path);
#ifdef O_DIRECT
    file.fd_ = above_standard_streams(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_DIRECT));
#else
    errno = EINVAL;
#endif
    if (file.fd_ < 0 && errno == EINVAL) {
        file.is_direct_ = false;
        file.fd_ = above_standard_streams(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    }
    if (file.fd_ < 0) return system_failure(errno, "cannot open ", path);
    struct stat info;
    if (fstat(file.fd_, &info) != 0) return system_failure(errno, "cannot inspect ", path);
    file.size_ = uint64_t(info.st_size);
    return file;
}

DirectFile::DirectFile(DirectFile && other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), is_direct_(other.is_direct_),
      size_(other.size_) {}

DirectFile & DirectFile::operator=(DirectFile && other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    std::swap(is_direct_, other.is_direct_);
    std::swap(size_, other.size_);
    return *this;
}

DirectFile::~DirectFile() {
    if (fd_ >= 0) ::close(fd_);
}

Status DirectFile::read(void * data, uint64_t size, uint64_t offset) const {
    auto * bytes = static_cast<char *>(data);
    while (size > 0) {
        const ssize_t n = pread(fd_, bytes, size_t(size), off_t(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return system_failure(errno, "cannot read ", size, " bytes at byte ", offset, " of ", path_);
        if (n == 0) return fail(Code::format, path_, " ends at byte ", offset);
        bytes += n, offset += uint64_t(n), size -= uint64_t(n);
    }
    return {};
}

uint8_t * DirectFile::align(uint8_t * memory) {
    return memory + (alignment - reinterpret_cast<uintptr_t>(memory) % alignment) % alignment;
}

} // namespace gnv
