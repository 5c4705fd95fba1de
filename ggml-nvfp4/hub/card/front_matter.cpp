#include "hub/card/front_matter.h"

#include "formats/json_writer.h"

namespace gnv {

namespace {

constexpr size_t most_bytes = 4 << 20, most_depth = 32, most_values = 200'000;

struct Line {
    size_t indent = 0, number = 0;
    std::string_view text; // without the indent and blanks at the end
    std::string_view raw;  // the whole line
};

std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(" \t\r");
    return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// Where the quoted text that begins at `at` ends, its closing quote included; npos: never.
size_t quoted_end(std::string_view text, size_t at) {
    const char quote = text[at];
    for (size_t i = at + 1; i < text.size(); i++) {
        if (quote == '"' && text[i] == '\\') {
            i++;
        } else if (text[i] == quote) {
            if (quote == '\'' && i + 1 < text.size() && text[i + 1] == '\'') {
                i++;
            } else {
                return i + 1;
            }
        }
    }
    return text.npos;
}

// Calls visit(position) for each character outside quotes until it returns false.
template <class Visit>
void for_each_plain(std::string_view text, const Visit & visit) {
    for (size_t i = 0; i < text.size(); i++) {
        const bool begins = i == 0 || std::string_view(" [,{:").find(text[i - 1]) != std::string_view::npos;
        if (begins && (text[i] == '"' || text[i] == '\'')) {
            const size_t end = quoted_end(text, i);
            if (end != text.npos) {
                i = end - 1;
                continue;
            }
        }
        if (!visit(i)) return;
    }
}

std::string_view without_comment(std::string_view text) {
    size_t end = text.size();
    for_each_plain(text, [&](size_t i) {
        if (text[i] != '#' || (i > 0 && text[i - 1] != ' ')) return true;
        end = i;
        return false;
    });
    return trimmed(text.substr(0, end));
}

// Where "key:" ends; npos for a text that is no member of a map.
size_t key_end(std::string_view text) {
    size_t colon = text.npos;
    for_each_plain(text, [&](size_t i) {
        if (text[i] != ':' || (i + 1 < text.size() && text[i + 1] != ' ')) return true;
        colon = i;
        return false;
    });
    return colon;
}

bool is_item(std::string_view text) { return text == "-" || text.substr(0, 2) == "- "; }

std::string unquoted(std::string_view text) {
    if (text.size() < 2 || (text[0] != '"' && text[0] != '\'') || quoted_end(text, 0) != text.size())
        return std::string(text);
    std::string out;
    for (size_t i = 1; i + 1 < text.size(); i++) {
        if (text[0] == '\'' && text[i] == '\'') {
            i++;
            out += '\'';
        } else if (text[0] == '"' && text[i] == '\\' && i + 2 < text.size()) {
            i++;
            out += text[i] == 'n' ? '\n' : text[i] == 't' ? '\t' : text[i];
        } else {
            out += text[i];
        }
    }
    return out;
}

class Parser {
  public:
    Parser(std::vector<Line> lines, const std::string & name) : lines_(std::move(lines)), name_(name) {}

    Result<YamlValue> parse() {
        YamlValue out;
        out.type = YamlValue::Type::map;
        if (lines_.empty()) return out;
        GNV_TRY(block(lines_[0].indent, out, 0));
        if (next_ < lines_.size()) return problem("is indented less than the lines before it");
        return out;
    }

  private:
    Status problem(const char * what) const {
        const Line & line = lines_[std::min(next_, lines_.size() - 1)];
        return fail(Code::format, name_, ": line ", line.number, " of its metadata ", what, ": \"",
                    printable(line.text, 60), "\"");
    }

    Status count(size_t depth) {
        if (depth > most_depth) return problem("is nested too deeply");
        return ++values_ > most_values ? problem("is one of too many values") : Status();
    }

    // The lines from the next one on that are indented by `indent`.
    Status block(size_t indent, YamlValue & out, size_t depth) {
        GNV_TRY(count(depth));
        if (is_item(lines_[next_].text)) return list(indent, out, depth);
        if (key_end(lines_[next_].text) != std::string_view::npos) return map(indent, out, depth);
        std::string text;
        while (next_ < lines_.size() && lines_[next_].indent >= indent)
            text += concat(text.empty() ? "" : " ", lines_[next_++].text);
        return scalar(text, out);
    }

    Status list(size_t indent, YamlValue & out, size_t depth) {
        out.type = YamlValue::Type::list;
        while (next_ < lines_.size() && lines_[next_].indent == indent && is_item(lines_[next_].text)) {
            out.items.emplace_back();
            Line & line = lines_[next_];
            const std::string_view rest = trimmed(line.text.substr(1));
            if (rest.empty()) {
                next_++;
                GNV_TRY(nested(indent + 1, out.items.back(), depth));
            } else if (key_end(rest) != rest.npos || is_item(rest)) { // the rest is a line of its own, further right
                line.indent += size_t(rest.data() - line.text.data());
                line.text = rest;
                GNV_TRY(block(line.indent, out.items.back(), depth + 1));
            } else {
                GNV_TRY(value(rest, indent, out.items.back(), depth));
            }
        }
        if (next_ < lines_.size() && lines_[next_].indent > indent) return problem("is indented too far");
        return {};
    }

    Status map(size_t indent, YamlValue & out, size_t depth) {
        out.type = YamlValue::Type::map;
        while (next_ < lines_.size() && lines_[next_].indent == indent && !is_item(lines_[next_].text)) {
            const std::string_view text = lines_[next_].text;
            const size_t colon = key_end(text);
            if (colon == text.npos) return problem("is no \"key: value\"");
            out.names.push_back(unquoted(trimmed(text.substr(0, colon))));
            YamlValue & member = out.items.emplace_back();
            const std::string_view rest = trimmed(text.substr(colon + 1));
            if (rest.empty()) {
                next_++;
                const bool is_list =
                    next_ < lines_.size() && lines_[next_].indent == indent && is_item(lines_[next_].text);
                GNV_TRY(nested(is_list ? indent : indent + 1, member, depth));
            } else {
                GNV_TRY(value(rest, indent, member, depth));
            }
        }
        if (next_ < lines_.size() && lines_[next_].indent > indent) return problem("is indented too far");
        return {};
    }

    // A block that is indented at least by `least`; null where there is none.
    Status nested(size_t least, YamlValue & out, size_t depth) {
        if (next_ >= lines_.size() || lines_[next_].indent < least) return count(depth);
        return block(lines_[next_].indent, out, depth + 1);
    }

    // The value `rest` at the end of the next line, of an entry indented by `indent`, and the lines that continue it.
    Status value(std::string_view rest, size_t indent, YamlValue & out, size_t depth) {
        GNV_TRY(count(depth));
        next_++;
        std::string text(rest);
        if (rest[0] == '|' || rest[0] == '>') {
            const char * const between = rest[0] == '|' ? "\n" : " ";
            text.clear();
            while (next_ < lines_.size() && lines_[next_].indent > indent)
                text += concat(text.empty() ? "" : between, lines_[next_++].text);
            out.type = YamlValue::Type::text;
            out.text = text;
            return {};
        }
        const bool is_flow = rest[0] == '[';
        const auto is_open = [&] { return is_flow && text.back() != ']'; };
        while (next_ < lines_.size() && (lines_[next_].indent > indent || (is_open() && lines_[next_].text == "]")))
            text += concat(" ", lines_[next_++].text);
        return scalar(text, out);
    }

    Status scalar(std::string_view text, YamlValue & out) {
        if (text.size() < 2 || text[0] != '[' || text.back() != ']') {
            out.text = unquoted(text);
            out.type = text == "null" || text == "~" ? YamlValue::Type::null : YamlValue::Type::text;
            return {};
        }
        out.type = YamlValue::Type::list;
        const std::string_view inside = text.substr(1, text.size() - 2);
        size_t begin = 0;
        const auto add = [&](size_t end) {
            const std::string_view item = trimmed(inside.substr(begin, end - begin));
            begin = end + 1;
            if (item.empty()) return;
            out.items.emplace_back();
            out.items.back().type = YamlValue::Type::text;
            out.items.back().text = unquoted(item);
        };
        for_each_plain(inside, [&](size_t i) {
            if (inside[i] == ',') add(i);
            return true;
        });
        add(inside.size());
        values_ += out.items.size();
        return count(0);
    }

    std::vector<Line> lines_;
    const std::string & name_;
    size_t next_ = 0, values_ = 0;
};

} // namespace

const YamlValue * YamlValue::find(std::string_view key) const {
    for (size_t i = 0; i < names.size(); i++)
        if (names[i] == key) return &items[i];
    return nullptr;
}

std::string YamlValue::text_of(std::string_view key) const {
    const YamlValue * const value = find(key);
    return value && value->type == Type::text ? value->text : "";
}

std::vector<std::string> YamlValue::texts() const {
    std::vector<std::string> out;
    if (type == Type::text) out.push_back(text);
    for (const YamlValue & item : list())
        if (item.type == Type::text) out.push_back(item.text);
    return out;
}

Result<YamlValue> parse_front_matter(std::string_view readme, const std::string & name) {
    YamlValue none;
    none.type = YamlValue::Type::map;
    if (readme.substr(0, 3) == "\xEF\xBB\xBF") readme.remove_prefix(3); // a byte order mark
    std::vector<Line> lines;
    bool opened = false;
    for (size_t begin = 0, number = 1; begin < readme.size() && begin < most_bytes; number++) {
        const size_t end = std::min(readme.find('\n', begin), readme.size());
        const std::string_view raw = readme.substr(begin, end - begin), text = without_comment(trimmed(raw));
        begin = end + 1;
        if (!opened) {
            if (trimmed(raw) != "---") return none;
            opened = true;
        } else if (trimmed(raw) == "---") {
            return Parser(std::move(lines), name).parse();
        } else if (!text.empty()) {
            const size_t indent = raw.find_first_not_of(' ');
            if (raw[indent] == '\t')
                return fail(Code::format, name, ": line ", number, " of its metadata is indented by a tab");
            lines.push_back({indent, number, text, raw});
        }
    }
    return none; // never closed: the hub reads no metadata either
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
