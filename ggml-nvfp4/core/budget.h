// The bytes that a run may take of one memory. Planners reserve from a budget by name before anything is allocated; a
// budget that is too small is refused with the smallest sufficient one.
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

    Budget() = default; // undecided: total() is 0 until limit()
    // `place`: the name of the device that has the memory; empty: the host.
    Budget(uint64_t total, std::string place = {}) : total_(total), place_(std::move(place)) {}
    // Of host memory: `bytes`; 0: most of the memory that is free now.
    static Budget of_host(uint64_t bytes);

    bool is_decided() const { return total_ > 0; }
    uint64_t total() const { return total_; }
    uint64_t used() const;
    uint64_t left() const { return total_ - std::min(total_, used()); }
    bool fits() const { return used() <= total_; }
    uint64_t reserved(const char * name) const; // 0 without a reservation of this name
    const std::vector<Reservation> & reservations() const { return reservations_; }

    // Adds to the reservation of this name. Reservations may exceed the total: see fits().
    void reserve(const char * name, uint64_t bytes);
    // As reserve(), for a share that would be max(least, total / part) of another total.
    void reserve_share(const char * name, uint64_t bytes, uint64_t least, uint64_t part);
    // Lowers the total so that at most `bytes` are left.
    void limit(uint64_t bytes, const std::string & place = {});

    // The unreserved bytes as a budget of their own, for another planner; its messages name this budget.
    Budget rest() const;
    // For a rest: the total of the outer budget at which `bytes` would be left. Otherwise `bytes`.
    uint64_t whole(uint64_t bytes) const;
    // "a memory budget of 2.0 MiB (2097152 bytes) is too small PURPOSE: the smallest sufficient one is LEAST bytes"
    std::string refusal(const std::string & purpose, uint64_t least) const;

  private:
    uint64_t total_ = 0;
    std::string place_;
    std::vector<Reservation> reservations_;
    struct Share {
        uint64_t bytes = 0, least = 0, part = 0; // part 0: no share
    } share_;
    struct {                           // of a rest: the outer budget
        uint64_t total = 0, fixed = 0; // fixed: its reservations without the share
        Share share;
    } outer_;
};

// Budgets side by side, for people: a row for each name with a reservation, the sums, the totals, and `more` rows.
struct BudgetColumn {
    const char * title;
    const Budget & budget;
};
std::string budget_table(const std::vector<BudgetColumn> & columns,
                         const std::vector<std::vector<std::string>> & more = {});

} // namespace gnv
