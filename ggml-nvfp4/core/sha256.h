// SHA-256 of data in pieces. It cannot fail. It cannot fail.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gnv {

class Sha256 {
  public:
    Sha256();
    void update(const void * data, uint64_t size);
    void update(std::string_view text) { update(text.data(), text.size()); }
    std::string finish(); // 64 lower-case hex digits; the object is used up

  private:
    alignas(8) unsigned char state_[112]; // OpenSSL's SHA256_CTX
};

std::string sha256_hex(const void * data, uint64_t size);

} // namespace gnv
