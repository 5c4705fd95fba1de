#include "api_fields.h"

#include <cmath>

namespace server {

// Of JSON that a client sends: templates and printers follow its levels by recursion, and members are found one by one.
static constexpr int deepest = 64, most_members = 20'000;

Json Fields::parse(const std::string & body) {
    const auto check_size = [members = 0](int depth, Json::parse_event_t event, Json &) mutable {
        if (depth > deepest)
            throw ApiError(400, "the body is nested deeper than " + std::to_string(deepest) + " levels");
        if (event == Json::parse_event_t::key && ++members > most_members)
            throw ApiError(400, "the body has more than " + std::to_string(most_members) + " members");
        return true;
    };
    try {
        Json object = Json::parse(body, check_size);
        if (!object.is_object()) throw ApiError(400, "the body is no JSON object");
        return object;
    } catch (const Json::parse_error & error) {
        throw ApiError(400, "the body is no JSON: the mistake is at byte " + std::to_string(error.byte));
    } catch (const Json::exception &) {
        throw ApiError(400, "the body has a number that is too large");
    }
}

const Json * Fields::take(const std::string & name) {
    taken_.insert(name);
    const auto member = object_.find(name);
    return member == object_.end() || member->is_null() ? nullptr : &*member;
}

void Fields::take_only(const std::string & name, const Json & value, const std::string & why) {
    const Json * const given = take(name);
    if (given && *given != value) throw ApiError(400, name + ": " + why, name, "unsupported_value");
}

bool Fields::flag(const std::string & name) {
    const Json * const given = take(name);
    if (given && !given->is_boolean()) throw ApiError(400, name + " is neither true nor false", name, "invalid_type");
    return given && given->get<bool>();
}

static std::string short_text(double number) {
    char text[32];
    snprintf(text, sizeof text, "%.9g", number);
    return text;
}

double Fields::number(const std::string & name, double absent, double least, double most, bool above) {
    const Json * const given = take(name);
    if (!given) return absent;
    if (!given->is_number()) throw ApiError(400, name + " is no number", name, "invalid_type");
    const auto value = given->get<double>();
    if (value >= least && value <= most && !(above && value == least)) return value;
    const std::string range = (above ? "above " : "from ") + short_text(least) + " up to " + short_text(most);
    throw ApiError(400, name + " is " + given->dump() + "; it must be " + range, name, "out_of_range");
}

int64_t Fields::integer(const std::string & name, int64_t absent, int64_t least, int64_t most) {
    const Json * const given = take(name);
    if (!given) return absent;
    if (!given->is_number_integer()) throw ApiError(400, name + " is no whole number", name, "invalid_type");
    const bool fits = !given->is_number_unsigned() || given->get<uint64_t>() <= uint64_t(INT64_MAX);
    if (fits && given->get<int64_t>() >= least && given->get<int64_t>() <= most) return given->get<int64_t>();
    throw ApiError(400,
                   name + " is " + given->dump() + "; it must be from " + std::to_string(least) + " to " +
                       std::to_string(most),
                   name, "out_of_range");
}

void Fields::refuse_others() const {
    for (const auto & member : object_.items())
        if (!taken_.count(member.key()))
            throw ApiError(400, "this server does not know the parameter '" + member.key() + "'", member.key(),
                           "unknown_parameter");
}

} // namespace server
