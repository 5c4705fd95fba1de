#include "inspect/inspect_text.h"

#include "core/table.h"
#include "formats/json_writer.h"

#include <algorithm>
#include <map>

namespace gnv {

static constexpr size_t worst_count = 10;

static std::vector<const ComparedItem *> items_of(const Comparison & comparison, Difference difference) {
    std::vector<const ComparedItem *> out;
    for (const ComparedItem & item : comparison.items)
        if (item.difference == difference) out.push_back(&item);
    return out;
}

// --- For people -------------------------------------------------------------------------------------------------------

// Errors of all weights of a role together.
struct RoleErrors {
    std::string role;
    uint64_t weights = 0;
    NumberErrors sum;
    double worst = 0; // largest relative squared error of one weight
};

static std::string quantization_text(std::vector<const ComparedItem *> items) {
    items.erase(std::remove_if(items.begin(), items.end(), [](const ComparedItem * item) { return !item->errors; }),
                items.end());
    if (items.empty()) return {};
    std::map<std::string, RoleErrors> roles;
    for (const ComparedItem * item : items) {
        RoleErrors & role = roles[item->role];
        role.role = item->role;
        role.weights++;
        role.sum.error_squares += item->errors->error_squares;
        role.sum.reference_squares += item->errors->reference_squares;
        role.sum.other_squares += item->errors->other_squares;
        role.sum.products += item->errors->products;
        role.sum.max_absolute = std::max(role.sum.max_absolute, item->errors->max_absolute);
        role.worst = std::max(role.worst, item->errors->relative_squared_error());
    }
    std::vector<std::vector<std::string>> rows = {
        {"quantized", "weights", "rel. squared error", "worst", "SQNR dB", "cosine", "max error"}};
    for (const auto & [name, role] : roles)
        rows.push_back({name, count_text(role.weights), number_text(role.sum.relative_squared_error(), 5),
                        number_text(role.worst, 5), number_text(role.sum.sqnr_db(), 4),
                        number_text(role.sum.cosine(), 7), number_text(role.sum.max_absolute, 4)});
    std::string out = "\n" + format_table(rows, {false, true, true, true, true, true, true});

    const size_t shown = std::min(worst_count, items.size());
    std::stable_sort(items.begin(), items.end(), [](const ComparedItem * a, const ComparedItem * b) {
        return a->errors->relative_squared_error() > b->errors->relative_squared_error();
    });
    rows = {{"worst", "rel. squared error", "SQNR dB", "cosine", "max error"}};
    for (size_t i = 0; i < shown; i++) {
        const NumberErrors & errors = *items[i]->errors;
        rows.push_back({printable(items[i]->name), number_text(errors.relative_squared_error(), 5),
                        number_text(errors.sqnr_db(), 4), number_text(errors.cosine(), 7),
                        number_text(errors.max_absolute, 4)});
    }
    return out + "\n" + format_table(rows, {false, true, true, true, true});
}

static std::string list_text(const std::vector<const ComparedItem *> & items, const char * title, size_t limit) {
    if (items.empty()) return {};
    std::vector<std::vector<std::string>> rows = {{title, "here", "there", "different", "max error", "max rel. error"}};
    for (size_t i = 0; i < std::min(limit, items.size()); i++) {
        const ComparedItem & item = *items[i];
        rows.push_back({printable(item.name), item.here, item.there});
        if (!item.errors) continue;
        rows.back().push_back(count_text(item.errors->different));
        rows.back().push_back(number_text(item.errors->max_absolute, 4));
        rows.back().push_back(number_text(item.errors->max_relative, 4));
    }
    std::string out = "\n" + format_table(rows, {false, false, false, true, true, true});
    if (items.size() > limit) out += concat("... and ", count_text(items.size() - limit), " more\n");
    return out;
}

std::string comparison_text(const Contents & here, const Contents & there, const Comparison & comparison,
                            size_t list_limit) {
    const auto count = [&](Difference difference) { return count_text(comparison.count(difference)); };
    std::string out =
        format_table({{"here", here.checkpoint().folder()}, {"there", there.checkpoint().folder()}}, {false, false});
    out += concat("\n", count_text(comparison.equal), " equal, ", count(Difference::values), " with other values, ",
                  count(Difference::form), " with another dtype or shape, ", count(Difference::quantized),
                  " quantized on one side, ", count(Difference::only_here), " only here, ",
                  count(Difference::only_there), " only there\n");
    out += quantization_text(items_of(comparison, Difference::quantized));
    out += list_text(items_of(comparison, Difference::values), "other values", list_limit);
    out += list_text(items_of(comparison, Difference::form), "another dtype or shape", list_limit);
    out += list_text(items_of(comparison, Difference::only_here), "only here", list_limit);
    out += list_text(items_of(comparison, Difference::only_there), "only there", list_limit);
    for (const Contents * side : {&here, &there})
        for (const std::string & note : side->notes())
            out += "note: " + printable_line(side->checkpoint().folder() + ": " + note) + "\n";
    return out;
}

// --- For programs -----------------------------------------------------------------------------------------------------

static void write_errors(JsonWriter & json, const NumberErrors & errors) {
    json.member("elements", errors.elements).member("different", errors.different);
    json.member("first_different", errors.first_different).member("not_finite", errors.not_finite);
    json.member("max_absolute_error", errors.max_absolute).member("max_relative_error", errors.max_relative);
    json.member("relative_squared_error", errors.relative_squared_error()); // not finite becomes null
    json.member("sqnr_db", errors.sqnr_db()).member("cosine", errors.cosine());
}

std::string comparison_json(const Contents & here, const Contents & there, const Comparison & comparison) {
    JsonWriter json;
    json.begin_object().member("schema", "ggml-nvfp4.inspect.1").member("kind", "comparison");
    json.member("here", here.checkpoint().folder()).member("there", there.checkpoint().folder());
    json.member("equal", comparison.equal);
    for (const Difference difference :
         {Difference::values, Difference::form, Difference::quantized, Difference::only_here, Difference::only_there}) {
        std::string key = difference_name(difference);
        std::replace(key.begin(), key.end(), ' ', '_');
        json.key(key).begin_array();
        for (const ComparedItem * item : items_of(comparison, difference)) {
            json.begin_object().member("name", item->name).member("role", item->role);
            if (!item->here.empty()) json.member("here", item->here);
            if (!item->there.empty()) json.member("there", item->there);
            if (item->errors) write_errors(json, *item->errors);
            json.end_object();
        }
        json.end_array();
    }
    return json.end_object().take() + "\n";
}

} // namespace gnv
