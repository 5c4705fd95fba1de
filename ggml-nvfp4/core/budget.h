// How much memory of one place a run may take, and what takes it. Planners reserve from a budget before anything is
// allocated; a budget that is too small is refused with the least that would do.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace gnv {

class Budget {
  public:
    struct Reservation {
        const char * name;
        uint64_t bytes;
    };

    // Not decided: total() is 0, and limit() decides.
    Budget() = default;
    // `place`: the name of the device whose memory it is; empty: the host's.
    Budget(uint64_t total, std::string place = {}) : total_(total), place_(std::move(place)) {}
    // Of the host's memory: `bytes`, or where that is 0 most of what is free now.
    static Budget of_host(uint64_t bytes);

    bool is_decided() const { return total_ > 0; }
    uint64_t total() const { return total_; }
    uint64_t used() const;
    uint64_t left() const { return total_ - std::min(total_, used()); }
    bool fits() const { return used() <= total_; }
    uint64_t reserved(const char * name) const; // 0: nothing has this name
    const std::vector<Reservation> & reservations() const { return reservations_; }

    // Adds to what the name has. More than what is left may be reserved: see fits().
    void reserve(const char * name, uint64_t bytes);
    // As reserve(), of something that would take max(least, total / part) of another total.
    void reserve_share(const char * name, uint64_t bytes, uint64_t least, uint64_t part);
    // No more than `bytes` are left from here on.
    void limit(uint64_t bytes, const std::string & place = {});

    // What is left, as the budget of a plan of its own, whose messages speak of this budget.
    Budget rest() const;
    // The total of the budget that this one is the rest of, at which `bytes` would be the rest. Without one: `bytes`.
    uint64_t whole(uint64_t bytes) const;
    // "a memory budget of 2.0 MiB (2097152 bytes) is too small PURPOSE: the least that would do is LEAST bytes"
    std::string refusal(const std::string & purpose, uint64_t least) const;

  private:
    uint64_t total_ = 0;
    std::string place_;
    std::vector<Reservation> reservations_;
    struct Share {
        uint64_t bytes = 0, least = 0, part = 0; // part 0: there is none
    } share_;
    struct {                           // of a rest: the budget that it is the rest of
        uint64_t total = 0, fixed = 0; // fixed: reserved there, without the share
        Share share;
    } outer_;
};

// Budgets side by side, for people: a row for each name that reserves something, the sums, the totals, and `more` rows.
struct BudgetColumn {
    const char * title;
    const Budget & budget;
};
std::string budget_table(const std::vector<BudgetColumn> & columns,
                         const std::vector<std::vector<std::string>> & more = {});

} // namespace gnv
