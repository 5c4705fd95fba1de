#include "json_guide.h"

namespace server {

static constexpr int deepest = 64, most_blanks = 32; // a model may write blanks for ever

static bool is_blank(unsigned char byte) { return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; }
static bool is_digit(unsigned char byte) { return byte >= '0' && byte <= '9'; }

bool JsonGuide::open(bool is_object) {
    if (depth_ == deepest) return false;
    depth_++;
    kinds_ = kinds_ << 1 | uint64_t(is_object);
    place_ = is_object ? Place::first_key : Place::first_value;
    return true;
}

bool JsonGuide::close(bool is_object) {
    if (depth_ == 0 || is_in_object() != is_object) return false;
    depth_--;
    kinds_ >>= 1;
    place_ = depth_ == 0 ? Place::end : Place::after_value;
    return true;
}

bool JsonGuide::begin_value(unsigned char byte) {
    const auto go_to = [this](Place place, const char * rest = "") {
        place_ = place;
        rest_ = rest;
        return true;
    };
    switch (byte) {
    case '{': return open(true);
    case '[': return open(false);
    case '"': is_key_ = false; return go_to(Place::string);
    case 't': return go_to(Place::word, "rue");
    case 'f': return go_to(Place::word, "alse");
    case 'n': return go_to(Place::word, "ull");
    case '-': return go_to(Place::minus);
    case '0': return go_to(Place::zero);
    default: return is_digit(byte) && go_to(Place::digits);
    }
}

bool JsonGuide::between(unsigned char byte) {
    if (is_blank(byte)) return ++blanks_ <= most_blanks;
    blanks_ = 0;
    switch (place_) {
    case Place::begin: return byte == '{' && open(true);
    case Place::value: return begin_value(byte);
    case Place::first_value: return byte == ']' ? close(false) : begin_value(byte);
    case Place::first_key:
        if (byte == '}') return close(true);
        [[fallthrough]];
    case Place::key:
        is_key_ = true;
        place_ = Place::string;
        return byte == '"';
    case Place::colon: place_ = Place::value; return byte == ':';
    case Place::after_value:
        if (byte == '}' || byte == ']') return close(byte == '}');
        place_ = is_in_object() ? Place::key : Place::value;
        return byte == ',';
    default: return false;
    }
}

bool JsonGuide::inside_string(unsigned char byte) {
    if (place_ == Place::hex) {
        if (--left_ == 0) place_ = Place::string;
        return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
    }
    if (place_ == Place::escape) {
        place_ = byte == 'u' ? Place::hex : Place::string;
        left_ = 4;
        return std::string("\"\\/bfnrtu").find(char(byte)) != std::string::npos;
    }
    if (byte == '\\') place_ = Place::escape;
    if (byte == '"') place_ = is_key_ ? Place::colon : Place::after_value;
    return byte >= 0x20;
}

// The first byte that is no part of the number is what follows a value.
bool JsonGuide::inside_number(unsigned char byte) {
    const bool digit = is_digit(byte), exponent = byte == 'e' || byte == 'E';
    const auto go_to = [this](bool allowed, Place place) {
        place_ = place;
        return allowed;
    };
    switch (place_) {
    case Place::minus: return go_to(digit, byte == '0' ? Place::zero : Place::digits);
    case Place::point: return go_to(digit, Place::fraction);
    case Place::exponent:
        if (byte == '+' || byte == '-') return go_to(true, Place::exponent_sign);
        return go_to(digit, Place::exponent_digits);
    case Place::exponent_sign: return go_to(digit, Place::exponent_digits);
    case Place::zero:
    case Place::digits:
        if (digit && place_ == Place::digits) return true;
        if (byte == '.') return go_to(true, Place::point);
        [[fallthrough]];
    case Place::fraction:
        if (digit && place_ == Place::fraction) return true;
        if (exponent) return go_to(true, Place::exponent);
        [[fallthrough]];
    default:
        if (digit && place_ == Place::exponent_digits) return true;
        place_ = Place::after_value;
        return between(byte);
    }
}

bool JsonGuide::push(unsigned char byte) {
    if (place_ <= Place::end) return between(byte);
    if (place_ == Place::word) {
        const bool fits = byte == static_cast<unsigned char>(*rest_);
        if (fits && *++rest_ == '\0') place_ = Place::after_value;
        return fits;
    }
    return place_ < Place::minus ? inside_string(byte) : inside_number(byte);
}

bool JsonGuide::push(const std::string & bytes) {
    for (const char byte : bytes)
        if (is_complete() || !push(static_cast<unsigned char>(byte))) return false;
    return true;
}

} // namespace server
