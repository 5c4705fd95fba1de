// The number that a message about a budget names.
#pragma once

#include <cstdint>
#include <doctest/doctest.h>
#include <string>

namespace gnv::test {

inline uint64_t smallest_budget(const std::string & message) {
    const std::string before = "the smallest sufficient one is ";
    const size_t at = message.find(before);
    REQUIRE_MESSAGE(at != std::string::npos, message);
    return std::stoull(message.substr(at + before.size()));
}

} // namespace gnv::test
