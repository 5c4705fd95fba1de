// A writer of JSON without a tree: documents of any size, and no destructor has work to do if memory runs out.
#pragma once

#include "formats/json.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gnv {

// A JSON string literal, quotes included. Invalid UTF-8 becomes U+FFFD.
std::string json_quote(std::string_view text);

//   JsonWriter json(JsonWriter::Form::indented);
//   json.begin_object().member("name", name).key("shape").value(shape).end_object();
//   json.take();
class JsonWriter {
  public:
    enum class Form : uint8_t {
        compact,  // no blanks
        indented, // two blanks a level, one value a line
    };
    explicit JsonWriter(Form form = Form::compact) : form_(form) {}

    JsonWriter & begin_object() { return begin('{'); }
    JsonWriter & end_object() { return end('}'); }
    JsonWriter & begin_array() { return begin('['); }
    JsonWriter & end_array() { return end(']'); }
    JsonWriter & key(std::string_view name);

    JsonWriter & value(std::string_view text);
    JsonWriter & value(const char * text) { return text ? value(std::string_view(text)) : value(nullptr); }
    JsonWriter & value(const std::string & text) { return value(std::string_view(text)); }
    JsonWriter & value(std::nullptr_t) { return raw("null"); }
    JsonWriter & value(bool flag) { return raw(flag ? "true" : "false"); }
    JsonWriter & value(double number); // the shortest text that reads back as the same double; null for NaN and Inf
    JsonWriter & value(const JsonValue & parsed); // with the order of its keys
    template <class Integer>
    std::enable_if_t<std::is_integral_v<Integer>, JsonWriter &> value(Integer number) {
        return raw(std::to_string(number));
    }
    template <class T>
    JsonWriter & value(const std::vector<T> & list) {
        begin_array();
        for (const T & item : list) value(item);
        return end_array();
    }
    template <class T>
    JsonWriter & member(std::string_view name, const T & content) {
        return key(name).value(content);
    }

    std::string take() { return std::move(out_); }

  private:
    JsonWriter & begin(char bracket);
    JsonWriter & end(char bracket);
    JsonWriter & raw(std::string_view text);
    void separate(); // writes the comma and blanks between two values
    void break_line();

    Form form_;
    std::string out_;
    size_t depth_ = 0;
    bool empty_ = true; // nothing in the innermost object or array yet
    bool after_key_ = false;
};

} // namespace gnv
