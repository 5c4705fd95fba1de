#include "chat/values/python_text.h"
#include "core/utf8.h"

#include <algorithm>
#include <cmath>

namespace gnv::chat {

namespace {

void append_json_string(std::string & out, std::string_view text, bool ascii) {
    const auto append_unit = [&](uint32_t unit) {
        char escape[16];
        snprintf(escape, sizeof escape, "\\u%04x", unit);
        out += escape;
    };
    out += '"';
    for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
        const char32_t c = utf8_decode(text, at, bytes);
        static constexpr std::string_view plain = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
        const size_t place = c < 0x80 ? plain.find(char(c)) : plain.npos;
        if (place != plain.npos) {
            out += '\\';
            out += letters[place];
        } else if (c < 0x20) {
            append_unit(c);
        } else if (c < 0x80 || !ascii) {
            out += text.substr(at, bytes);
        } else if (c < 0x10000) {
            append_unit(c);
        } else {
            append_unit(0xd800 + ((c - 0x10000) >> 10));
            append_unit(0xdc00 + ((c - 0x10000) & 0x3ff));
        }
    }
    out += '"';
}

std::string json_number(const Value & value) {
    switch (value.kind) {
    case Kind::none: return "null";
    case Kind::boolean: return value.flag ? "true" : "false";
    case Kind::integer: return std::to_string(value.integer);
    default:
        if (std::isnan(value.real)) return "NaN";
        if (std::isinf(value.real)) return value.real < 0 ? "-Infinity" : "Infinity";
        return real_text(value.real);
    }
}

class DumpWriter {
  public:
    DumpWriter(Workspace & work, const JsonStyle & style) : work_(work), style_(style) {}

    Status write(const Value & value, uint32_t depth = 0) {
        GNV_TRY(work_.step());
        GNV_TRY(work_.room(out.size()));
        if (depth > work_.limits().depth / 3)
            return Status(Code::unsupported, "values are nested too deeply to be written as JSON");
        if (value.is_string()) {
            append_json_string(out, value.text, style_.ascii);
        } else if (value.is(Kind::none) || value.is_number()) {
            out += json_number(value);
        } else if (value.is(Kind::list) || value.is(Kind::tuple)) {
            return write_list(value.sequence->items, depth);
        } else if (value.is(Kind::dict)) {
            return write_dict(*value.dict, depth);
        } else {
            return fail(Code::invalid_argument, "Object of type ", type_name(value.kind), " is not JSON serializable");
        }
        return {};
    }
    std::string out;

  private:
    void separate(bool first, uint32_t depth) {
        if (!first) out += style_.item_separator;
        break_line(depth);
    }
    void break_line(uint32_t depth) {
        if (!style_.indented) return;
        out += '\n';
        for (uint32_t i = 0; i < depth; i++) out += style_.indent;
    }
    Status write_list(const std::vector<Value> & items, uint32_t depth) {
        out += '[';
        for (size_t i = 0; i < items.size(); i++) {
            separate(i == 0, depth + 1);
            GNV_TRY(write(items[i], depth + 1));
        }
        if (!items.empty()) break_line(depth);
        out += ']';
        return {};
    }
    Status write_dict(const Dict & dict, uint32_t depth) {
        std::vector<const Dict::Entry *> entries;
        for (const Dict::Entry & entry : dict.entries) entries.push_back(&entry);
        if (style_.sort_keys) GNV_TRY(sort(entries));
        out += '{';
        for (size_t i = 0; i < entries.size(); i++) {
            separate(i == 0, depth + 1);
            const Value & key = entries[i]->key;
            if (!key.is_string() && !key.is_number() && !key.is(Kind::none))
                return fail(Code::invalid_argument, "keys must be str, int, float, bool or None, not ",
                            type_name(key.kind));
            append_json_string(out, key.is_string() ? std::string(key.text) : json_number(key), style_.ascii);
            out += style_.key_separator;
            GNV_TRY(write(entries[i]->value, depth + 1));
        }
        if (!entries.empty()) break_line(depth);
        out += '}';
        return {};
    }
    Status sort(std::vector<const Dict::Entry *> & entries) {
        Status failure;
        std::stable_sort(entries.begin(), entries.end(), [&](const Dict::Entry * a, const Dict::Entry * b) {
            const Result<int> order = compare(work_, a->key, b->key);
            if (!order.ok()) failure = copy_of(order.status());
            return order.ok() && order.value() < 0;
        });
        return failure;
    }
    Workspace & work_;
    const JsonStyle & style_;
};

} // namespace

Result<std::string> json_of(Workspace & work, const Value & value, const JsonStyle & style) {
    DumpWriter writer(work, style);
    GNV_TRY(writer.write(value));
    return std::move(writer.out);
}

} // namespace gnv::chat
