// The metadata at the beginning of a README.md on the hub: YAML between two lines "---". Reads the part of YAML that such
// metadata use: block and flow lists, block maps, plain and quoted texts, block texts. Anchors, tags and maps in braces are
// texts like others.
#pragma once

#include "core/status.h"

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gnv {

struct YamlValue {
    enum class Type : uint8_t { null, text, list, map };
    Type type = Type::null;
    std::string text;
    std::vector<YamlValue> items;   // of a list, or of a map in the order of the file
    std::vector<std::string> names; // of the items of a map

    std::span<const YamlValue> list() const {
        return type == Type::list ? std::span<const YamlValue>(items) : std::span<const YamlValue>();
    }
    const YamlValue * find(std::string_view key) const; // null: no such member
    std::string text_of(std::string_view key) const;    // "": no such text
    std::vector<std::string> texts() const;             // of a text, or of a list of texts
};

// An empty map for a text without metadata. `name` is the file's, for messages.
Result<YamlValue> parse_front_matter(std::string_view readme, const std::string & name);

// A text as YAML has it: quoted where it could be read as something else.
std::string yaml_quote(std::string_view text);

} // namespace gnv
