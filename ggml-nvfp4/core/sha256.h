// SHA-256 of data in pieces.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <memory>
#include <string>

namespace gnv {

class Sha256 {
  public:
    static Result<Sha256> create();
    Sha256(Sha256 &&) noexcept;
    Sha256 & operator=(Sha256 &&) noexcept;
    ~Sha256();
    Status update(const void * data, uint64_t size);
    Result<std::string> finish(); // 64 lower-case hex digits; the object is used up

  private:
    struct State;
    explicit Sha256(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

Result<std::string> sha256_hex(const void * data, uint64_t size);

} // namespace gnv
