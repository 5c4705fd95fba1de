// YAML files with the line of every value, for messages: one document of maps, lists and scalars, read by libyaml. Anchors,
// aliases, tags, merge keys and keys that are no texts are refused: none of our files needs them.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

struct YamlNode {
    enum class Type : uint8_t { scalar, list, map };
    struct Key {
        std::string text;
        int64_t line = 0;
    };
    Type type = Type::scalar;
    std::string text;    // of a scalar
    bool quoted = false; // a scalar in quotes or a block: a text, whatever it reads like
    int64_t line = 0;    // from 1
    std::vector<YamlNode> items;
    std::vector<Key> keys; // of the items of a map, in the order of the file; each is there once

    bool is_map() const { return type == Type::map; }
    bool is_list() const { return type == Type::list; }
    bool is_null() const;                              // nothing, "~" or "null"
    const YamlNode * find(std::string_view key) const; // null: no such key
};

inline constexpr int most_yaml_levels = 32;
inline constexpr size_t most_yaml_nodes = 200'000;

// `name` is the file's, for messages: "NAME:LINE: ...". Code::format: no YAML; Code::unsupported: what is named above, or a
// file beyond the limits.
Result<YamlNode> parse_yaml(std::string_view text, const std::string & name);

} // namespace gnv
