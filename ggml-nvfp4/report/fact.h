// Reading a document of facts for a page: a fact that is missing, null or of another kind is simply not shown.
#pragma once

#include "formats/json.h"

#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gnv {

class Fact {
  public:
    Fact() = default;
    explicit Fact(JsonValue value) : value_(std::move(value)), known_(!value_.is_null()) {}

    bool known() const { return known_; } // neither missing nor null
    Fact operator[](std::string_view key) const {
        JsonValue found;
        return known_ && value_.is_object() && value_.find(key, found) ? Fact(found) : Fact();
    }
    // NaN if it is no number.
    double number() const {
        if (!known_ || value_.is_string() || value_.is_array() || value_.is_object()) return std::nan("");
        const Result<double> number = value_.as_double();
        return number.ok() ? number.value() : std::nan("");
    }
    std::string text() const { // "" if it is no text
        if (!known_ || !value_.is_string()) return "";
        const Result<std::string_view> text = value_.as_string();
        return text.ok() ? std::string(text.value()) : std::string();
    }
    bool is_true() const {
        if (!known_ || value_.type() != JsonType::boolean) return false;
        const Result<bool> flag = value_.as_bool();
        return flag.ok() && flag.value();
    }
    bool is_text() const { return known_ && value_.is_string(); }
    std::vector<Fact> items() const { // of an array
        std::vector<Fact> out;
        if (known_ && value_.is_array())
            (void)value_
                .for_each_element([&](size_t, const JsonValue & item) -> Status {
                    out.emplace_back(item);
                    return {};
                })
                .ok();
        return out;
    }
    std::vector<std::pair<std::string, Fact>> members() const { // of an object, in its order
        std::vector<std::pair<std::string, Fact>> out;
        if (known_ && value_.is_object())
            (void)value_
                .for_each_member([&](std::string_view key, const JsonValue & member) -> Status {
                    out.emplace_back(std::string(key), Fact(member));
                    return {};
                })
                .ok();
        return out;
    }
    std::vector<double> numbers() const {
        std::vector<double> out;
        for (const Fact & item : items()) out.push_back(item.number());
        return out;
    }

  private:
    JsonValue value_;
    bool known_ = false;
};

} // namespace gnv
