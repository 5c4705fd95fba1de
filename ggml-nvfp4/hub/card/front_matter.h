// The metadata at the beginning of a README.md on the hub: YAML between two lines "---".
#pragma once

#include "formats/yaml.h"

#include <string>
#include <string_view>
#include <vector>

namespace gnv {

// A map, empty for a text without metadata. `name` is the file's, for messages, which count its lines.
Result<YamlNode> parse_front_matter(std::string_view readme, const std::string & name);

std::string text_at(const YamlNode & map, std::string_view key); // "": no such text
std::vector<std::string> texts_of(const YamlNode * value);       // of a text, or of a list of texts; null: none

// A text as YAML has it: quoted where it could be read as something else.
std::string yaml_quote(std::string_view text);

} // namespace gnv
