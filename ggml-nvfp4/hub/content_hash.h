// The hash by which the hub names the content of a file: SHA-256 of large files (Git LFS), else the SHA-1 that Git gives a
// blob: of "blob SIZE", a NUL and the content.
#pragma once

#include "core/sha256.h"

#include <cstdint>
#include <string>

namespace gnv {

class ContentHash {
  public:
    // `wanted`: the hash in hex, whose length says which one it is; `size`: of the content.
    ContentHash(const std::string & wanted, uint64_t size);
    void update(const void * data, uint64_t size);
    std::string finish(); // lower-case hex; the object is used up

  private:
    bool is_git_;
    Sha256 sha256_;
    alignas(8) unsigned char sha1_[96]; // OpenSSL's SHA_CTX
};

} // namespace gnv
