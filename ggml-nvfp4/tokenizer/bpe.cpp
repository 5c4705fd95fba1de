#include "tokenizer/bpe.h"

#include <algorithm>
#include <functional>

namespace gnv {

// --- Table ----------------------------------------------------------------------------------------------------------------

MergeTable::MergeTable(size_t expected) {
    size_t slots = 16;
    while (slots < 2 * expected) slots *= 2;
    slots_.resize(slots);
    mask_ = slots - 1;
    results_.reserve(expected);
}

void MergeTable::grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    for (const Slot & entry : old)
        if (entry.rank != no_rank) slots_[slot(entry.left, entry.right)] = entry;
}

void MergeTable::add(TokenId left, TokenId right, TokenId result) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    Slot & entry = slots_[slot(left, right)];
    if (entry.rank == no_rank) used_++;
    entry = {left, right, uint32_t(results_.size())};
    results_.push_back(result);
}

// --- Pieces ---------------------------------------------------------------------------------------------------------------

static constexpr size_t longest_short_piece = 64;
static constexpr size_t longest_piece_kept = 16 << 10; // memory for longer ones is freed

void Merger::merge(std::string_view piece, std::vector<TokenId> & ids) {
    if (piece.size() <= longest_short_piece) {
        merge_short(piece, ids);
    } else {
        merge_long(piece, ids);
    }
}

void Merger::merge_short(std::string_view piece, std::vector<TokenId> & ids) const {
    TokenId tokens[longest_short_piece];
    uint32_t ranks[longest_short_piece]; // ranks[i]: of the pair i, i + 1
    size_t count = piece.size();
    for (size_t i = 0; i < count; i++) tokens[i] = byte_tokens_[static_cast<uint8_t>(piece[i])];
    for (size_t i = 0; i + 1 < count; i++) ranks[i] = merges_.rank(tokens[i], tokens[i + 1]);
    while (count > 1) {
        uint32_t * const best = std::min_element(ranks, ranks + count - 1);
        if (*best == MergeTable::no_rank) break;
        const auto at = size_t(best - ranks);
        tokens[at] = merges_.result(*best);
        std::copy(tokens + at + 2, tokens + count, tokens + at + 1);
        std::copy(ranks + at + 1, ranks + count - 1, ranks + at);
        count--;
        if (at > 0) ranks[at - 1] = merges_.rank(tokens[at - 1], tokens[at]);
        if (at + 1 < count) ranks[at] = merges_.rank(tokens[at], tokens[at + 1]);
    }
    ids.insert(ids.end(), tokens, tokens + count);
}

uint32_t Merger::rank_at(uint32_t at, uint32_t size) const {
    const uint32_t next = symbols_[at].next;
    return next == size ? MergeTable::no_rank : merges_.rank(symbols_[at].id, symbols_[next].id);
}

void Merger::merge_long(std::string_view piece, std::vector<TokenId> & ids) {
    const auto size = uint32_t(piece.size());
    symbols_.resize(size);
    heap_.clear();
    heap_.reserve(2 * piece.size()); // a merge takes one entry and adds two at most
    const auto push = [&](uint32_t at) {
        const uint32_t rank = symbols_[at].rank = rank_at(at, size);
        if (rank == MergeTable::no_rank) return;
        heap_.push_back(uint64_t(rank) << 32 | at);
        std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    };
    for (uint32_t at = 0; at < size; at++)
        symbols_[at] = {byte_tokens_[static_cast<uint8_t>(piece[at])], at - 1, at + 1, MergeTable::no_rank};
    for (uint32_t at = 0; at < size; at++) push(at);
    while (!heap_.empty()) {
        const auto rank = uint32_t(heap_.front() >> 32), at = uint32_t(heap_.front());
        std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
        heap_.pop_back();
        Symbol & left = symbols_[at];
        if (left.rank != rank) continue;
        Symbol & right = symbols_[left.next];
        left.id = merges_.result(rank);
        left.next = right.next;
        right.rank = MergeTable::no_rank;
        if (left.next < size) symbols_[left.next].previous = at;
        push(at);
        if (at > 0) push(left.previous);
    }
    for (uint32_t at = 0; at < size; at = symbols_[at].next) ids.push_back(symbols_[at].id);
    if (size <= longest_piece_kept) return;
    std::vector<Symbol>().swap(symbols_);
    std::vector<uint64_t>().swap(heap_);
}

} // namespace gnv
