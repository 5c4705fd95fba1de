// A reader of Thrift's compact protocol, the notation of Parquet's footer and page headers, for untrusted memory: the
// bytes bound every step, a constant bounds nesting, and the reader allocates nothing.
//
// The first damage makes all further reads return zeros and ok() false: callers check once, where it matters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gnv {

class ThriftReader {
  public:
    enum class Type : uint8_t {
        stop = 0,
        bool_true = 1,
        bool_false = 2,
        i8 = 3,
        i16 = 4,
        i32 = 5,
        i64 = 6,
        real = 7,
        binary = 8,
        list = 9,
        set = 10,
        map = 11,
        structure = 12
    };

    explicit ThriftReader(std::string_view bytes) : bytes_(bytes) {}

    bool ok() const { return ok_; }
    size_t position() const { return at_; }

    // Fields of a structure:   for (StructScope s(reader); reader.next_field(s);) switch (s.id) ...
    // A field that the loop body does not consume must be passed to skip().
    struct StructScope {
        int16_t id = 0;
        Type type = Type::stop;
    };
    bool next_field(StructScope & scope); // false after the last field and after damage
    void skip(const StructScope & field) { skip_value(field.type, 0); }

    // Values. A value of another type than the field announced is damage.
    int64_t integer(const StructScope & field); // i8, i16, i32, i64
    bool boolean(const StructScope & field) {
        return check(field.type <= Type::bool_false) && field.type == Type::bool_true;
    }
    std::string_view binary(const StructScope & field);
    // The number of elements, at most the remaining bytes; element_*() reads each.
    uint64_t list(const StructScope & field, Type element);
    std::string_view element_binary() { return read_binary(); }
    int64_t element_integer() { return zigzag(); }
    bool structure(const StructScope & field) { return check(field.type == Type::structure); }

  private:
    bool check(bool condition) { return ok_ = ok_ && condition; }
    uint8_t byte();
    uint64_t varint();
    int64_t zigzag();
    std::string_view read_binary();
    uint64_t list_header(Type & element);
    void skip_value(Type type, int depth);
    std::string_view bytes_;
    size_t at_ = 0;
    bool ok_ = true;
};

} // namespace gnv
