#include "model/model_names.h"

#include <charconv>
#include <iterator>

namespace gnv {

static constexpr std::string_view part_prefixes[] = {"", "vision.", "draft."}; // in the order of Part

int32_t ModelNames::find_input(std::string_view name) const {
    for (size_t i = 0; i < inputs.size(); i++)
        if (!inputs[i].is_choice && name == inputs[i].name) return int32_t(i);
    return -1;
}

int32_t ModelNames::choices() const {
    for (size_t i = 0; i < inputs.size(); i++)
        if (inputs[i].is_choice) return int32_t(i);
    return -1;
}

std::string tap_name(const ModelNames & names, const Tap & tap) {
    const std::string_view part = part_prefixes[size_t(tap.part)];
    const std::string_view name = names.sites[size_t(tap.site)].name;
    if (tap.layer < 0) return concat(part, name);
    return concat(part, "layer.", tap.layer, name.empty() ? "" : ".", name);
}

static bool find_site(const ModelNames & names, std::string_view name, bool in_block, Tap & tap) {
    for (size_t i = 0; i < names.sites.size(); i++) {
        if (name != names.sites[i].name || names.sites[i].in_block != in_block) continue;
        tap.site = int32_t(i);
        return true;
    }
    return false;
}

Result<Tap> parse_tap(const ModelNames & names, const std::string & name, int64_t layers) {
    Tap tap;
    std::string_view rest = name;
    for (size_t part = 1; part < std::size(part_prefixes); part++)
        if (starts_with(rest, part_prefixes[part])) {
            tap.part = int32_t(part);
            rest.remove_prefix(part_prefixes[part].size());
            break;
        }
    if (find_site(names, rest, false, tap)) return tap;
    constexpr std::string_view prefix = "layer.";
    if (starts_with(rest, prefix)) {
        const char * const begin = rest.data() + prefix.size();
        const char * const end = rest.data() + rest.size();
        const auto [behind, error] = std::from_chars(begin, end, tap.layer);
        const bool whole = behind == end, more = !whole && *behind == '.';
        if (error == std::errc() && tap.layer >= 0 && tap.layer < layers && (whole || more) &&
            find_site(names, std::string_view(behind + (more ? 1 : 0), size_t(end - behind - (more ? 1 : 0))), true,
                      tap))
            return tap;
    }
    std::string known;
    for (const SiteName & site : names.sites)
        if (*site.name) known += concat(known.empty() ? "" : ", ", site.in_block ? "layer.N." : "", site.name);
    return fail(Code::invalid_argument, "there is no output \"", printable(name), "\" in a model of ", layers,
                " layers; there are layer.N, ", known);
}

} // namespace gnv
