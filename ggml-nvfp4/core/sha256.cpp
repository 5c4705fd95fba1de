#include "core/sha256.h"

#include <new>
#include <openssl/evp.h>

namespace gnv {

struct Sha256::State {
    EVP_MD_CTX * context = nullptr;
    ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sha256::Sha256(Sha256 &&) noexcept = default;
Sha256 & Sha256::operator=(Sha256 &&) noexcept = default;
Sha256::~Sha256() = default;

Result<Sha256> Sha256::create() {
    auto state = std::make_unique<State>();
    state->context = EVP_MD_CTX_new();
    if (!state->context) throw std::bad_alloc();
    if (EVP_DigestInit_ex(state->context, EVP_sha256(), nullptr) != 1)
        return Status(Code::out_of_memory, "libcrypto cannot start SHA-256; most likely no memory is left");
    return Sha256(std::move(state));
}

Status Sha256::update(const void * data, uint64_t size) {
    if (EVP_DigestUpdate(state_->context, data, size) != 1) return Status(Code::internal, "SHA-256 update failed");
    return {};
}

Result<std::string> Sha256::finish() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (EVP_DigestFinal_ex(state_->context, digest, &length) != 1) return Status(Code::internal, "SHA-256 failed");
    static const char digits[] = "0123456789abcdef";
    std::string hex;
    for (unsigned i = 0; i < length; i++) {
        hex += digits[digest[i] >> 4];
        hex += digits[digest[i] & 15];
    }
    return hex;
}

Result<std::string> sha256_hex(const void * data, uint64_t size) {
    GNV_ASSIGN(Sha256 hash, Sha256::create());
    GNV_TRY(hash.update(data, size));
    return hash.finish();
}

} // namespace gnv
