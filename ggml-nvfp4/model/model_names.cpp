#include "model/model_names.h"

#include <charconv>

namespace gnv {

// In the order of Part.
static constexpr struct {
    std::string_view name, block;
} part_prefixes[] = {{"", "layer."}, {"", "block."}, {"draft.", "layer."}};

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
    const auto & part = part_prefixes[size_t(tap.part)];
    const std::string_view name = names.sites[size_t(tap.site)].name;
    if (tap.layer < 0) return concat(part.name, name);
    return concat(part.name, part.block, tap.layer, name.empty() ? "" : ".", name);
}

static bool find_site(const ModelNames & names, std::string_view name, bool in_block, Tap & tap) {
    for (size_t i = 0; i < names.sites.size(); i++) {
        const SiteName & site = names.sites[i];
        if (name != site.name || site.in_block != in_block || site.of_vision != (Part(tap.part) == Part::vision))
            continue;
        tap.site = int32_t(i);
        return true;
    }
    return false;
}

// `name` is that of an output of the part that `tap` names, which has `layers` blocks.
static bool find_in_part(const ModelNames & names, std::string_view name, int64_t layers, Tap & tap) {
    const auto & prefixes = part_prefixes[size_t(tap.part)];
    if (!starts_with(name, prefixes.name)) return false;
    name.remove_prefix(prefixes.name.size());
    if (find_site(names, name, false, tap)) return true;
    if (!starts_with(name, prefixes.block)) return false;
    const char * const begin = name.data() + prefixes.block.size();
    const char * const end = name.data() + name.size();
    const auto [behind, error] = std::from_chars(begin, end, tap.layer);
    if (error != std::errc() || tap.layer < 0 || tap.layer >= layers) return false;
    if (behind == end) return find_site(names, "", true, tap);
    return *behind == '.' && find_site(names, std::string_view(behind + 1, size_t(end - behind - 1)), true, tap);
}

Result<Tap> parse_tap(const ModelNames & names, const std::string & name, int64_t layers, int64_t blocks) {
    for (const Part part : {Part::text, Part::vision, Part::mtp}) {
        Tap tap;
        tap.part = int32_t(part);
        if (find_in_part(names, name, part == Part::vision ? blocks : layers, tap)) return tap;
    }
    std::string known;
    for (const SiteName & site : names.sites) {
        if (site.of_vision && blocks == 0) continue;
        const char * const block = !site.in_block ? "" : site.of_vision ? "block.N" : "layer.N";
        known += concat(known.empty() ? "" : ", ", block, site.in_block && *site.name ? "." : "", site.name);
    }
    return fail(Code::invalid_argument, "there is no output \"", printable(name), "\" in a model of ", layers,
                " layers", blocks > 0 ? concat(" and ", blocks, " vision blocks") : std::string(), "; there are ",
                known);
}

} // namespace gnv
