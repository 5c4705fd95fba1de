#include "models/config_reader.h"

namespace gnv {

bool ConfigReader::find(const char * key, JsonValue & out) {
    known_.insert(key);
    return object_.find(key, out) && !out.is_null();
}

std::string ConfigReader::where(const char * key) const {
    return object_.where() + (prefix_.empty() ? ": " : ".") + key;
}

Status ConfigReader::check_int(const JsonValue & value, int64_t low, int64_t high, int64_t & out) const {
    GNV_ASSIGN(const int64_t number, value.as_int());
    if (number < low || number > high)
        return fail(Code::format, value.where(), ": ", number, " is not in ", low, "..", high);
    out = number;
    return {};
}

Status ConfigReader::require_int(const char * key, int64_t low, int64_t high, int64_t & out) {
    known_.insert(key);
    GNV_ASSIGN(const JsonValue value, object_.get(key));
    return check_int(value, low, high, out);
}

Status ConfigReader::optional_int(const char * key, int64_t low, int64_t high, int64_t & out) {
    JsonValue value;
    return find(key, value) ? check_int(value, low, high, out) : Status();
}

Status ConfigReader::optional_double(const char * key, double low, double high, double & out) {
    JsonValue value;
    if (!find(key, value)) return {};
    GNV_ASSIGN(const double number, value.as_double());
    if (!(number >= low && number <= high))
        return fail(Code::format, value.where(), ": ", number, " is not in ", low, "..", high);
    out = number;
    return {};
}

Status ConfigReader::optional_bool(const char * key, bool & out) {
    JsonValue value;
    if (!find(key, value)) return {};
    GNV_ASSIGN(out, value.as_bool());
    return {};
}

Status ConfigReader::expect(const FixedKey & fixed) {
    JsonValue value;
    if (!find(fixed.key, value)) return {};
    const std::string text = value.text();
    std::string list;
    for (const char * accepted : fixed.accepted) {
        if (!accepted) break;
        if (text == accepted) return {};
        list += (list.empty() ? "" : " or ") + std::string(accepted);
    }
    return fail(Code::unsupported, value.where(), ": ", printable(text), " is not supported, only ", list);
}

Status ConfigReader::unknown_keys(std::vector<std::string> & out) const {
    return object_.for_each_member([&](std::string_view key, const JsonValue &) -> Status {
        if (known_.find(key) == known_.end()) out.push_back(prefix_ + printable(key, 60));
        return {};
    });
}

} // namespace gnv
