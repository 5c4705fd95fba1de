#include "core/sha256.h"

// The functions of OpenSSL 1.1: they allocate nothing, read no configuration and cannot fail. The ones that replace them
// need both, and crash where memory runs out on their first use (OpenSSL 3.0).
#define OPENSSL_API_COMPAT 0x10101000L
#include <openssl/sha.h>

namespace gnv {

struct Sha256::State {
    SHA256_CTX context;
};

Sha256::Sha256(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sha256::Sha256(Sha256 &&) noexcept = default;
Sha256 & Sha256::operator=(Sha256 &&) noexcept = default;
Sha256::~Sha256() = default;

Result<Sha256> Sha256::create() {
    auto state = std::make_unique<State>();
    SHA256_Init(&state->context);
    return Sha256(std::move(state));
}

Status Sha256::update(const void * data, uint64_t size) {
    SHA256_Update(&state_->context, data, size);
    return {};
}

Result<std::string> Sha256::finish() {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_Final(digest, &state_->context);
    static const char digits[] = "0123456789abcdef";
    std::string hex;
    for (const unsigned char byte : digest) {
        hex += digits[byte >> 4];
        hex += digits[byte & 15];
    }
    return hex;
}

Result<std::string> sha256_hex(const void * data, uint64_t size) {
    GNV_ASSIGN(Sha256 hash, Sha256::create());
    GNV_TRY(hash.update(data, size));
    return hash.finish();
}

} // namespace gnv
