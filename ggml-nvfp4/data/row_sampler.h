// The choice of rows in one pass over a source of unknown length, in memory that depends only on the sample.
//
// The rule, which other programs can repeat: the rows of a source are numbered from 0 in the order of its files (blank
// lines of JSON Lines are no rows). Row i has the key
//
//     z = seed + source + (i + 1) * 0x9e3779b97f4a7c15        source: position among the --calib options, from 0
//     z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
//     z = (z ^ (z >> 27)) * 0x94d049bb133111eb
//     key = z ^ (z >> 31)                                     (all modulo 2^64: output i of SplitMix64)
//
// or, without shuffling, the key i. Keys of one source never collide: every step is a bijection. Of the usable rows,
// those with the smallest keys are chosen until they fill the budget: a number of rows, or with packing of tokens (the
// last row may overshoot). The result does not depend on the order of the keys, so after any prefix of the rows the
// sampler holds the choice for that prefix, and a row whose key is above all held ones of a full budget need not be
// parsed. Expected number of rows parsed for k chosen ones of n: k (1 + ln(n / k)).
#pragma once

#include "data/picture_tokens.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gnv {

uint64_t row_key(uint64_t seed, uint64_t row);

struct SampledRow {
    uint64_t key = 0;
    uint32_t source = 0;
    uint64_t row = 0;
    std::string where;                 // for messages
    std::string text;                  // empty once encoded
    std::vector<TokenId> ids;          // at most the sequence length
    std::vector<TextPicture> pictures; // those of the ids
    uint64_t pictures_cut = 0;         // those that did not fit, and what follows them
    uint64_t memory = 0;               // of the row and its sequence
    Status failure;                    // of encoding; it counts only if the row is finally chosen
    bool encoded = false;
    bool truncated = false; // the text has more tokens
};

class RowSampler {
  public:
    explicit RowSampler(uint64_t budget) : budget_(budget) {}

    // Whether a row with this key would be held. False for a key means false for all larger ones from then on.
    bool wants(uint64_t key) const { return weight_ < budget_ || (!held_.empty() && key < held_.front().row.key); }
    void add(SampledRow row, uint64_t weight); // weight: its share of the budget, at least 1

    uint64_t weight() const { return weight_; } // of the rows held
    uint64_t memory() const { return memory_; } // of the rows held
    // After for_each() changed the memory of rows.
    void recount_memory();
    size_t size() const { return held_.size(); }
    template <class Visit>
    void for_each(const Visit & visit) {
        for (Held & held : held_) visit(held.row);
    }
    std::vector<SampledRow> take_in_row_order();

  private:
    struct Held {
        SampledRow row;
        uint64_t weight;
        bool operator<(const Held & other) const { return row.key < other.row.key; }
    };
    uint64_t budget_;
    uint64_t weight_ = 0, memory_ = 0;
    std::vector<Held> held_; // a heap, the largest key first
};

} // namespace gnv
