#include "core/sha256.h"

// The functions of OpenSSL 1.1: they allocate nothing, read no configuration and cannot fail. Their successors do both,
// and crash if memory runs out on the first use (OpenSSL 3.0).
#define OPENSSL_API_COMPAT 0x10101000L
#include <new>
#include <openssl/sha.h>

namespace gnv {

static SHA256_CTX * context(unsigned char * state) { return std::launder(reinterpret_cast<SHA256_CTX *>(state)); }

Sha256::Sha256() {
    static_assert(sizeof(SHA256_CTX) == sizeof state_ && alignof(SHA256_CTX) <= 8);
    SHA256_Init(new (state_) SHA256_CTX);
}

void Sha256::update(const void * data, uint64_t size) { SHA256_Update(context(state_), data, size); }

std::string Sha256::finish() {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_Final(digest, context(state_));
    static const char digits[] = "0123456789abcdef";
    std::string hex;
    for (const unsigned char byte : digest) {
        hex += digits[byte >> 4];
        hex += digits[byte & 15];
    }
    return hex;
}

std::string sha256_hex(const void * data, uint64_t size) {
    Sha256 hash;
    hash.update(data, size);
    return hash.finish();
}

} // namespace gnv
