#include "core/budget.h"

#include "core/memory.h"
#include "core/strings.h"
#include "core/table.h"

#include <string_view>

namespace gnv {

Budget Budget::of_host(uint64_t bytes) { return bytes > 0 ? bytes : std::max<uint64_t>(1, available_memory() / 5 * 4); }

uint64_t Budget::used() const {
    uint64_t sum = 0;
    for (const Reservation & one : reservations_) sum += one.bytes;
    return sum;
}

uint64_t Budget::reserved(const char * name) const {
    uint64_t sum = 0;
    for (const Reservation & one : reservations_)
        if (std::string_view(one.name) == name) sum += one.bytes;
    return sum;
}

void Budget::reserve(const char * name, uint64_t bytes) {
    for (Reservation & one : reservations_)
        if (std::string_view(one.name) == name) {
            one.bytes += bytes;
            return;
        }
    reservations_.push_back({name, bytes});
}

void Budget::reserve_share(const char * name, uint64_t bytes, uint64_t least, uint64_t part) {
    reserve(name, bytes);
    if (part > 1) share_ = {bytes, least, part};
}

void Budget::limit(uint64_t bytes, const std::string & place) {
    if (!place.empty()) place_ = place;
    total_ = std::max<uint64_t>(1, used() + (is_decided() ? std::min(left(), bytes) : bytes));
}

Budget Budget::rest() const {
    Budget rest(std::max<uint64_t>(1, left()), place_);
    rest.outer_ = {total_, used() - share_.bytes, share_};
    return rest;
}

uint64_t Budget::whole(uint64_t bytes) const {
    if (outer_.total == 0) return bytes;
    if (bytes == total_) return outer_.total;
    const uint64_t wanted = bytes + outer_.fixed, part = outer_.share.part;
    if (part < 2) return wanted;
    return std::max(wanted + outer_.share.least, (wanted * part + part - 2) / (part - 1));
}

std::string Budget::refusal(const std::string & purpose, uint64_t least) const {
    const std::string given = concat(bytes_text(whole(total_)), " (", whole(total_), " bytes)");
    return concat(place_.empty() ? concat("a memory budget of ", given)
                                 : concat("a budget of ", given, " of the memory of ", place_),
                  " is too small", purpose.empty() ? "" : " ", purpose, ": the smallest sufficient one is ",
                  whole(least), " bytes (", bytes_text(whole(least)), ")");
}

std::string budget_table(const std::vector<BudgetColumn> & columns,
                         const std::vector<std::vector<std::string>> & more) {
    std::vector<std::vector<std::string>> rows = {{"memory"}};
    for (const BudgetColumn & column : columns) rows[0].push_back(column.title);
    std::vector<std::string_view> names;
    for (const BudgetColumn & column : columns)
        for (const Budget::Reservation & one : column.budget.reservations())
            if (one.bytes > 0 && std::find(names.begin(), names.end(), one.name) == names.end())
                names.push_back(one.name);
    const auto add = [&](std::string_view name, auto bytes_of) {
        rows.push_back({std::string(name)});
        for (const BudgetColumn & column : columns) rows.back().push_back(bytes_text(bytes_of(column.budget)));
    };
    for (const std::string_view name : names)
        add(name, [&](const Budget & budget) { return budget.reserved(name.data()); });
    add("together", [](const Budget & budget) { return budget.used(); });
    add("budget", [](const Budget & budget) { return budget.total(); });
    rows.insert(rows.end(), more.begin(), more.end());
    std::vector<bool> right(columns.size() + 1, true);
    right[0] = false;
    return format_table(rows, right);
}

} // namespace gnv
