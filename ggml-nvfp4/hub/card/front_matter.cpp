#include "hub/card/front_matter.h"

#include "core/strings.h"
#include "formats/json_writer.h"

namespace gnv {

static constexpr size_t most_bytes = 4 << 20;

// The lines between the first two lines "---"; nothing: the text does not begin with such a line, or has no second one, and the
// hub reads no metadata either.
static std::string_view metadata_of(std::string_view readme) {
    readme = readme.substr(0, most_bytes);
    const size_t first = readme.find('\n');
    if (trimmed(readme.substr(0, first)) != "---" || first == readme.npos) return {};
    for (size_t begin = first + 1; begin < readme.size();) {
        const size_t end = std::min(readme.find('\n', begin), readme.size());
        if (trimmed(readme.substr(begin, end - begin)) == "---") return readme.substr(first, begin - first);
        begin = end + 1;
    }
    return {};
}

Result<YamlNode> parse_front_matter(std::string_view readme, const std::string & name) {
    if (readme.substr(0, 3) == "\xEF\xBB\xBF") readme.remove_prefix(3); // a byte order mark
    GNV_ASSIGN(YamlNode root,
               parse_yaml(metadata_of(readme), name)); // begins at the end of line 1: lines are the file's
    if (root.is_null()) root.type = YamlNode::Type::map;
    if (root.is_map()) return root;
    return fail(Code::format, printable_line(name), ":", root.line, ": its metadata are no map of \"key: value\"");
}

static bool is_text(const YamlNode & node) { return node.type == YamlNode::Type::scalar && !node.is_null(); }

std::string text_at(const YamlNode & map, std::string_view key) {
    const YamlNode * const value = map.find(key);
    return value && is_text(*value) ? value->text : "";
}

std::vector<std::string> texts_of(const YamlNode * value) {
    std::vector<std::string> out;
    if (!value) return out;
    if (is_text(*value)) out.push_back(value->text);
    if (!value->is_list()) return out;
    for (const YamlNode & item : value->items)
        if (is_text(item)) out.push_back(item.text);
    return out;
}

std::string yaml_quote(std::string_view text) {
    const bool is_plain =
        !text.empty() &&
        text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") == text.npos &&
        text.find_first_not_of("0123456789.-") != text.npos && text[0] != '-';
    for (const char * word : {"true", "false", "yes", "no", "on", "off", "null"})
        if (text == word) return json_quote(text);
    return is_plain ? std::string(text) : json_quote(text); // a JSON text is a YAML text
}

} // namespace gnv
