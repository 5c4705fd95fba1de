#include "hub/content_hash.h"

#define OPENSSL_API_COMPAT 0x10101000L // as in core/sha256.cpp
#include <new>
#include <openssl/sha.h>

namespace gnv {

constexpr size_t sha1_digits = 40;

static SHA_CTX * context(unsigned char * state) { return std::launder(reinterpret_cast<SHA_CTX *>(state)); }

ContentHash::ContentHash(const std::string & wanted, uint64_t size) : is_git_(wanted.size() == sha1_digits) {
    static_assert(sizeof(SHA_CTX) <= sizeof sha1_ && alignof(SHA_CTX) <= 8);
    SHA1_Init(new (sha1_) SHA_CTX);
    const std::string head = "blob " + std::to_string(size);
    if (is_git_) SHA1_Update(context(sha1_), head.c_str(), head.size() + 1);
}

void ContentHash::update(const void * data, uint64_t size) {
    if (is_git_) {
        SHA1_Update(context(sha1_), data, size);
    } else {
        sha256_.update(data, size);
    }
}

std::string ContentHash::finish() {
    if (!is_git_) return sha256_.finish();
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1_Final(digest, context(sha1_));
    static const char digits[] = "0123456789abcdef";
    std::string hex;
    for (const unsigned char byte : digest) hex += {digits[byte >> 4], digits[byte & 15]};
    return hex;
}

} // namespace gnv
