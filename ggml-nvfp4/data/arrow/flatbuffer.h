// A reader of FlatBuffers, the notation of Arrow's messages, for untrusted memory: every access is checked against the bytes,
// and the reader allocates nothing.
//
// The first damage makes all further reads return defaults and ok() false: callers check once, where it matters. Tables can
// refer to each other in circles; callers bound the depth of their walk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gnv {

class FlatVector;

// A table, by the numbers of its fields in the schema. A default one has no fields.
class FlatTable {
  public:
    FlatTable() = default;
    bool exists() const { return buffer_ != nullptr; }
    // The field, `bytes` long (1, 2, 4 or 8), or `otherwise` where the table lacks it. Numbers are signed.
    int64_t integer(unsigned field, unsigned bytes, int64_t otherwise = 0) const;
    FlatTable table(unsigned field) const;
    std::string_view text(unsigned field) const;
    FlatVector vector(unsigned field, size_t element_bytes) const;

  private:
    friend class FlatBuffer;
    friend class FlatVector;
    FlatTable(class FlatBuffer & buffer, uint64_t at);
    uint64_t place(unsigned field, unsigned bytes) const; // in the buffer; 0: the table lacks it
    uint64_t target(unsigned field) const;                // of an offset that the field holds; 0 likewise
    class FlatBuffer * buffer_ = nullptr;
    uint64_t at_ = 0;        // of the table
    uint64_t fields_at_ = 0; // of the list of places
    unsigned fields_ = 0;
};

// Elements that lie one after another: numbers, structures, or offsets of tables.
class FlatVector {
  public:
    size_t size() const { return size_; }
    // The number `bytes` long at byte `at` of an element.
    int64_t integer(size_t element, size_t at, unsigned bytes) const;
    FlatTable table(size_t element) const; // elements of four bytes

  private:
    friend class FlatTable;
    class FlatBuffer * buffer_ = nullptr;
    uint64_t at_ = 0;
    size_t size_ = 0, element_bytes_ = 1;
};

class FlatBuffer {
  public:
    explicit FlatBuffer(std::string_view bytes) : bytes_(bytes) {}
    FlatBuffer(const FlatBuffer &) = delete; // tables point to it
    FlatBuffer & operator=(const FlatBuffer &) = delete;
    FlatTable root();
    bool ok() const { return ok_; }

  private:
    friend class FlatTable;
    friend class FlatVector;
    bool check(bool condition) { return ok_ = ok_ && condition; }
    bool holds(uint64_t at, uint64_t bytes) { return check(at <= bytes_.size() && bytes <= bytes_.size() - at); }
    uint64_t number(uint64_t at, unsigned bytes); // little endian
    std::string_view bytes_;
    bool ok_ = true;
};

} // namespace gnv
