// The elements of one big JSON array, one at a time and unparsed: a file that is an array, or an object with exactly
// one array among its members ({"version": 1, "data": [...]}). Only the brackets, quotes and commas between the
// elements are looked at here; whether an element is valid JSON shows when it is parsed.
#pragma once

#include "data/files/byte_stream.h"

namespace gnv {

class JsonArrayReader {
  public:
    static Result<JsonArrayReader> open(const std::string & path, uint64_t limit = max_record_bytes,
                                        const ReadControl & control = {});

    // False at the end of the file, after checking that nothing but blanks follows. The element is valid until the next
    // call. Errors, with file and line: no array, a second array, brackets that do not match, an element above the
    // limit. Of one that the budget of the control has no room for only a part is kept: compare bytes().
    Result<bool> next(std::string_view & element);
    uint64_t line() const { return element_line_; }   // where the element last returned starts
    uint64_t bytes() const { return element_bytes_; } // of the element last returned
    const std::string & path() const { return chars_.path(); }
    const ReadControl & control() const { return chars_.control(); }

  private:
    enum class Place : uint8_t { before, in_array, at_end };

    JsonArrayReader(CharReader chars, uint64_t limit) : chars_(std::move(chars)), limit_(limit) {}
    int next_visible(); // skips blanks; the byte stays unread
    Status expected(const char * what);
    Status read_value();                  // any value, into element_
    Status find_array(bool first_member); // reads members up to an array; without one, up to the end of the object
    Status finish();                      // after the array's "]": the rest of the object and of the file

    CharReader chars_;
    uint64_t limit_;
    Place place_ = Place::before;
    bool in_object_ = false;   // the array is a member
    bool found_array_ = false; // the array that the elements come from has begun
    bool first_element_ = true;
    std::string element_;
    uint64_t element_line_ = 0, element_bytes_ = 0;
};

// Whether a file holds one JSON value after another, as .jsonl files do, in place of one array, or object with an array:
// true where the first value is an object and another value follows, or nothing and the object has no array. Looks at the
// first value only, without keeping it.
Result<bool> holds_json_lines(const std::string & path, const ReadControl & control);

} // namespace gnv
