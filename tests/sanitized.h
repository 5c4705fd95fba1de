// Whether this is a build with a sanitizer that keeps freed memory and surrounds allocations, so that peaks mean little.
#pragma once

#if defined(__has_feature) // Clang's way to say it
#define GNV_HAS_FEATURE(name) __has_feature(name)
#else
#define GNV_HAS_FEATURE(name) 0
#endif

namespace gnv::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || GNV_HAS_FEATURE(address_sanitizer) ||             \
    GNV_HAS_FEATURE(thread_sanitizer)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

} // namespace gnv::test
