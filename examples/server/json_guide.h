// Whether a text can become a JSON object (RFC 8259): a pushdown automaton over bytes, small enough to copy for each token that is
// tried. Bytes of strings from 0x80 on are not looked at.
#pragma once

#include <cstdint>
#include <string>

namespace server {

class JsonGuide {
  public:
    // False if no JSON object begins with the bytes so far and this one; the guide is useless then.
    bool push(unsigned char byte);
    bool push(const std::string & bytes);
    // The object has ended; only blanks may follow, and the guide takes none.
    bool is_complete() const { return place_ == Place::end; }

  private:
    enum class Place : uint8_t {
        begin,
        value,
        first_value,
        first_key,
        key,
        colon,
        after_value,
        end, // between tokens of JSON
        string,
        escape,
        hex,
        word, // inside of one
        minus,
        zero,
        digits,
        point,
        fraction,
        exponent,
        exponent_sign,
        exponent_digits
    };
    bool begin_value(unsigned char byte);
    bool between(unsigned char byte);
    bool inside_string(unsigned char byte);
    bool inside_number(unsigned char byte);
    bool open(bool is_object);
    bool close(bool is_object);
    bool is_in_object() const { return (kinds_ & 1) != 0; }

    Place place_ = Place::begin;
    bool is_key_ = false;    // of the string
    uint8_t depth_ = 0;      // of containers, at most 64
    uint8_t left_ = 0;       // digits of \uXXXX
    uint8_t blanks_ = 0;     // in a row
    const char * rest_ = ""; // of true, false, null
    uint64_t kinds_ = 0;     // of containers, the innermost in the lowest bit; 1: an object
};

} // namespace server
