#include "formats/json_tree.h"

#include <algorithm>

namespace gnv {

JsonTree JsonTree::copy(const JsonValue & value) {
    JsonTree tree;
    tree.type = value.type();
    // Visiting fails for other types only.
    if (tree.is_object()) {
        (void)value
            .for_each_member([&](std::string_view name, const JsonValue & member) -> Status {
                tree.children.push_back(copy(member));
                tree.children.back().key = name;
                return {};
            })
            .ok();
    } else if (tree.is_array()) {
        (void)value
            .for_each_element([&](size_t, const JsonValue & element) -> Status {
                tree.children.push_back(copy(element));
                return {};
            })
            .ok();
    } else {
        tree.text = value.text();
    }
    return tree;
}

JsonTree JsonTree::make_string(std::string_view content) {
    JsonTree tree;
    tree.type = JsonType::string;
    tree.text = json_quote(content);
    return tree;
}

JsonTree * JsonTree::find(std::string_view path) {
    const size_t slash = std::min(path.find('/'), path.size());
    for (JsonTree & child : children) {
        if (!is_object() || child.key != path.substr(0, slash)) continue;
        return slash == path.size() ? &child : child.find(path.substr(slash + 1));
    }
    return nullptr;
}

void JsonTree::set(std::string_view member, std::string_view json) {
    JsonTree * child = find(member);
    if (!child) child = &children.emplace_back();
    *child = JsonTree();
    child->type = JsonType::real;
    child->key = member, child->text = json;
}

bool JsonTree::erase(std::string_view member) {
    const auto found = std::find_if(children.begin(), children.end(),
                                    [&](const JsonTree & child) { return is_object() && child.key == member; });
    if (found == children.end()) return false;
    children.erase(found);
    return true;
}

static void append(const JsonTree & tree, std::string & out) {
    if (!tree.is_array() && !tree.is_object()) {
        out += tree.text;
        return;
    }
    out += tree.is_object() ? '{' : '[';
    for (const JsonTree & child : tree.children) {
        if (&child != &tree.children.front()) out += ',';
        if (tree.is_object()) out += json_quote(child.key) + ':';
        append(child, out);
    }
    out += tree.is_object() ? '}' : ']';
}

std::string JsonTree::dump() const {
    std::string out;
    append(*this, out);
    return out;
}

} // namespace gnv
