// Byte pair encoding: it merges neighbouring tokens of one piece of text, the lowest rank first and, among equals, the
// leftmost, until no pair of neighbours is in the table.
#pragma once

#include "tokenizer/tokenizer.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace gnv {

// (left, right) -> rank, as an open hash of 12-byte entries, at most half full.
class MergeTable {
  public:
    static constexpr uint32_t no_rank = UINT32_MAX;
    explicit MergeTable(size_t expected = 0);

    // The next merge in order of rank. A pair that was added before takes the new rank.
    void add(TokenId left, TokenId right, TokenId result);

    uint32_t rank(TokenId left, TokenId right) const { return slots_[slot(left, right)].rank; }
    TokenId result(uint32_t rank) const { return results_[rank]; }

  private:
    struct Slot {
        TokenId left = no_token, right = no_token;
        uint32_t rank = no_rank;
    };
    // The slot of the pair, or the empty slot for it.
    size_t slot(TokenId left, TokenId right) const {
        uint64_t hash = (uint64_t(uint32_t(left)) << 32 | uint32_t(right)) * 0x9e3779b97f4a7c15u;
        size_t at = size_t((hash ^ hash >> 32) & mask_);
        while (slots_[at].rank != no_rank && (slots_[at].left != left || slots_[at].right != right))
            at = (at + 1) & mask_;
        return at;
    }
    void grow();

    std::vector<Slot> slots_; // a power of two
    size_t mask_ = 0;
    size_t used_ = 0;
    std::vector<TokenId> results_; // by rank
};

// Merges one piece after another; holds the working memory. Short pieces are rescanned for the best pair, long ones use
// a heap, so that time is n log n for any piece.
class Merger {
  public:
    // `byte_tokens` : the token of each byte. Both must outlive the merger.
    Merger(const MergeTable & merges, const std::array<TokenId, 256> & byte_tokens)
        : merges_(merges), byte_tokens_(byte_tokens) {}

    // Appends the tokens of `piece`, at most 4 GiB. Needs 32 times its size as working memory.
    void merge(std::string_view piece, std::vector<TokenId> & ids);

  private:
    void merge_short(std::string_view piece, std::vector<TokenId> & ids) const;
    void merge_long(std::string_view piece, std::vector<TokenId> & ids);
    uint32_t rank_at(uint32_t at, uint32_t size) const;

    // One token of a long piece; it starts at the byte that is its index. Tokens that were merged away keep no_rank.
    struct Symbol {
        TokenId id;
        uint32_t previous, next; // indices; `next` of the last one is the piece's size
        uint32_t rank;           // of the pair with the next symbol
    };
    const MergeTable & merges_;
    const std::array<TokenId, 256> & byte_tokens_;
    std::vector<Symbol> symbols_;
    std::vector<uint64_t> heap_; // rank << 32 | index of the left symbol; stale entries are skipped
};

} // namespace gnv
