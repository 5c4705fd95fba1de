#include "formats/yaml.h"

#include <algorithm>
#include <yaml.h>

namespace gnv {

bool YamlNode::is_null() const {
    return type == Type::scalar && !quoted && (text.empty() || text == "~" || text == "null" || text == "Null");
}

const YamlNode * YamlNode::find(std::string_view key) const {
    for (size_t i = 0; i < keys.size(); i++)
        if (keys[i].text == key) return &items[i];
    return nullptr;
}

namespace {

// An event of libyaml, which owns memory.
class Event {
  public:
    Event() : event_{} {}
    ~Event() { yaml_event_delete(&event_); }
    Event(const Event &) = delete;
    Event & operator=(const Event &) = delete;
    yaml_event_t * operator->() { return &event_; }
    yaml_event_t * get() { return &event_; }

  private:
    yaml_event_t event_;
};

class YamlParser {
  public:
    explicit YamlParser(const std::string & name) : name_(name) {}
    ~YamlParser() {
        if (is_open_) yaml_parser_delete(&parser_);
    }
    YamlParser(const YamlParser &) = delete;
    YamlParser & operator=(const YamlParser &) = delete;

    Result<YamlNode> parse(std::string_view text) {
        if (yaml_parser_initialize(&parser_) == 0) return Status::out_of_memory();
        is_open_ = true;
        if (text.empty()) text = " "; // libyaml takes no null
        yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char *>(text.data()), text.size());
        YamlNode root;
        {
            Event begin;
            GNV_TRY(next(begin)); // of the stream
        }
        Event document;
        GNV_TRY(next(document));
        if (document->type == YAML_STREAM_END_EVENT) return root; // nothing but comments
        Event first;
        GNV_TRY(next(first));
        GNV_TRY(read(first, root, 0));
        Event end, after;
        GNV_TRY(next(end));
        GNV_TRY(next(after));
        if (after->type != YAML_STREAM_END_EVENT)
            return fail(Code::unsupported, place(line_of(after)), "a second document begins: give one to a file");
        return root;
    }

  private:
    static int64_t line_of(Event & event) { return int64_t(event->start_mark.line) + 1; }
    std::string place(int64_t line) const { return concat(printable_line(name_), ":", line, ": "); }

    Status next(Event & event) {
        if (yaml_parser_parse(&parser_, event.get()) != 0) return {};
        if (parser_.error == YAML_MEMORY_ERROR) return Status::out_of_memory();
        const bool in_scanner = parser_.error == YAML_SCANNER_ERROR || parser_.error == YAML_PARSER_ERROR;
        const auto line = int64_t(in_scanner ? parser_.problem_mark.line : parser_.mark.line) + 1;
        return fail(Code::format, place(line),
                    "this is not YAML: ", parser_.problem ? parser_.problem : "the text cannot be read",
                    "; a value with a special character, such as a pattern, goes in single quotes");
    }

    Status refuse(Event & event, const char * what) const {
        return fail(Code::unsupported, place(line_of(event)), what);
    }

    static std::string text_of(Event & event) {
        const auto & scalar = event->data.scalar;
        return {reinterpret_cast<const char *>(scalar.value), scalar.length};
    }

    Status read(Event & event, YamlNode & node, int level) {
        node.line = line_of(event);
        if (++nodes_ > most_yaml_nodes) return refuse(event, "the file has more values than any of its kind");
        if (level > most_yaml_levels) return refuse(event, "the values are nested too deep");
        if (event->type == YAML_ALIAS_EVENT) return refuse(event, "an alias (*): write the value itself");
        const auto has_extra = [](const yaml_char_t * anchor, const yaml_char_t * tag) { return anchor || tag; };
        constexpr const char * extras = "an anchor (&) or a tag (!): leave it out";
        if (event->type == YAML_SCALAR_EVENT) {
            if (has_extra(event->data.scalar.anchor, event->data.scalar.tag)) return refuse(event, extras);
            node.type = YamlNode::Type::scalar;
            node.text = text_of(event);
            node.quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
            return {};
        }
        if (event->type == YAML_SEQUENCE_START_EVENT) {
            if (has_extra(event->data.sequence_start.anchor, event->data.sequence_start.tag))
                return refuse(event, extras);
            return read_list(node, level);
        }
        GNV_CHECK(event->type == YAML_MAPPING_START_EVENT);
        if (has_extra(event->data.mapping_start.anchor, event->data.mapping_start.tag)) return refuse(event, extras);
        return read_map(node, level);
    }

    Status read_list(YamlNode & node, int level) {
        node.type = YamlNode::Type::list;
        for (;;) {
            Event event;
            GNV_TRY(next(event));
            if (event->type == YAML_SEQUENCE_END_EVENT) return {};
            YamlNode item;
            GNV_TRY(read(event, item, level + 1));
            node.items.push_back(std::move(item));
        }
    }

    Status read_map(YamlNode & node, int level) {
        node.type = YamlNode::Type::map;
        for (;;) {
            Event event;
            GNV_TRY(next(event));
            if (event->type == YAML_MAPPING_END_EVENT) return {};
            if (event->type != YAML_SCALAR_EVENT) return refuse(event, "a key that is no text");
            YamlNode key;
            GNV_TRY(read(event, key, level + 1));
            if (key.text == "<<" && !key.quoted) return refuse(event, "a merge key (<<): write the values themselves");
            const auto same = [&](const YamlNode::Key & other) { return other.text == key.text; };
            const auto before = std::find_if(node.keys.begin(), node.keys.end(), same);
            if (before != node.keys.end())
                return fail(Code::format, place(key.line), printable(key.text), " is there twice, also in line ",
                            before->line, ": leave one of them out");
            Event value;
            GNV_TRY(next(value));
            YamlNode item;
            GNV_TRY(read(value, item, level + 1));
            node.keys.push_back({std::move(key.text), key.line});
            node.items.push_back(std::move(item));
        }
    }

    const std::string & name_;
    yaml_parser_t parser_;
    bool is_open_ = false;
    size_t nodes_ = 0;
};

} // namespace

Result<YamlNode> parse_yaml(std::string_view text, const std::string & name) { return YamlParser(name).parse(text); }

} // namespace gnv
