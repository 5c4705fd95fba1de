#include "chat/values/json_value.h"

namespace gnv::chat {

static Result<Value> list_of_json(Workspace & work, const JsonValue & json) {
    std::vector<Value> items;
    const auto add = [&](size_t, const JsonValue & element) -> Status {
        GNV_ASSIGN(const Value item, value_of_json(work, element));
        items.push_back(item);
        return {};
    };
    GNV_TRY(json.for_each_element(add));
    return work.list(std::move(items));
}

static Result<Value> dict_of_json(Workspace & work, const JsonValue & json) {
    Dict * const dict = work.make<Dict>();
    const auto add = [&](std::string_view key, const JsonValue & element) -> Status {
        GNV_ASSIGN(const Value value, value_of_json(work, element));
        GNV_TRY(work.step(1 + dict->entries.size() / 16));
        dict->set(work.keep(std::string(key)), value);
        work.took(sizeof(Dict::Entry));
        return {};
    };
    GNV_TRY(json.for_each_member(add));
    return Value::of(Kind::dict, dict);
}

Result<Value> value_of_json(Workspace & work, const JsonValue & json) {
    GNV_TRY(work.step());
    switch (json.type()) {
    case JsonType::null: return Value::none();
    case JsonType::boolean: {
        GNV_ASSIGN(const bool flag, json.as_bool());
        return Value::boolean(flag);
    }
    case JsonType::integer: {
        GNV_ASSIGN(const int64_t number, json.as_int());
        return Value::number(number);
    }
    case JsonType::real: {
        GNV_ASSIGN(const double number, json.as_double());
        return Value::number(number);
    }
    case JsonType::string: {
        GNV_ASSIGN(const std::string_view text, json.as_string());
        return Value::string(text);
    }
    case JsonType::array: return list_of_json(work, json);
    default: return dict_of_json(work, json);
    }
}

} // namespace gnv::chat
