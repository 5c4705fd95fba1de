// A cache of the tokens of short pieces: most words of a text occur again. It has a fixed number of slots, each for one
// piece; a newer piece replaces an older one. It changes the time, never the result.
#pragma once

#include "tokenizer/tokenizer.h"

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace gnv {

class PieceCache {
  public:
    static constexpr size_t longest_piece = 24; // bytes
    static constexpr size_t most_tokens = 9;

    PieceCache() : slots_(size_t(1) << slot_bits) {}

    // The slot for the tokens of `piece`, which has 1 to longest_piece bytes.
    class Slot;
    Slot & slot(std::string_view piece);

    class Slot { // 64 bytes
      public:
        bool holds_piece() const { return count_ != 0; }
        void append_to(std::vector<TokenId> & ids) const { ids.insert(ids.end(), tokens_, tokens_ + count_); }
        // The tokens of the requested piece; more than most_tokens are not kept.
        void keep(const TokenId * tokens, size_t count) {
            if (count > most_tokens) return;
            memcpy(tokens_, tokens, count * sizeof *tokens);
            count_ = uint8_t(count);
        }

      private:
        friend class PieceCache;
        uint64_t key_[3] = {}; // the piece, then zeros
        uint8_t size_ = 0;
        uint8_t count_ = 0; // 0: unknown
        TokenId tokens_[most_tokens] = {};
    };

  private:
    static constexpr int slot_bits = 16;
    std::vector<Slot> slots_;
};

inline PieceCache::Slot & PieceCache::slot(std::string_view piece) {
    uint64_t key[3] = {};
    memcpy(key, piece.data(), piece.size());
    uint64_t hash = (key[0] + piece.size()) * 0x9e3779b97f4a7c15u;
    hash = ((hash ^ hash >> 32) + key[1]) * 0xc2b2ae3d27d4eb4fu;
    hash = ((hash ^ hash >> 32) + key[2]) * 0x9e3779b97f4a7c15u;
    Slot & found = slots_[size_t(hash >> (64 - slot_bits))];
    if (found.size_ != piece.size() || memcmp(found.key_, key, sizeof key) != 0) {
        memcpy(found.key_, key, sizeof key);
        found.size_ = uint8_t(piece.size());
        found.count_ = 0;
    }
    return found;
}

} // namespace gnv
