#include "data/arrow/flatbuffer.h"

namespace gnv {

uint64_t FlatBuffer::number(uint64_t at, unsigned bytes) {
    if (!holds(at, bytes)) return 0;
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= uint64_t(uint8_t(bytes_[size_t(at) + i])) << (8 * i);
    return value;
}

static int64_t with_sign(uint64_t value, unsigned bytes) {
    const unsigned unused = 64 - 8 * bytes;
    return int64_t(value << unused) >> unused;
}

FlatTable FlatBuffer::root() { return FlatTable(*this, number(0, 4)); }

// A table begins with the distance back to the list of its fields' places: sizes of list and table, then a place a field.
FlatTable::FlatTable(FlatBuffer & buffer, uint64_t at) : buffer_(&buffer), at_(at) {
    const int64_t list = int64_t(at) - with_sign(buffer.number(at, 4), 4);
    if (!buffer.check(list >= 0)) return;
    const uint64_t bytes = buffer.number(uint64_t(list), 2);
    if (!buffer.check(bytes >= 4) || !buffer.holds(uint64_t(list), bytes)) return;
    fields_at_ = uint64_t(list) + 4;
    fields_ = unsigned(bytes - 4) / 2;
}

uint64_t FlatTable::place(unsigned field, unsigned bytes) const {
    if (field >= fields_ || !buffer_->ok()) return 0;
    const uint64_t distance = buffer_->number(fields_at_ + 2 * uint64_t(field), 2);
    return distance && buffer_->holds(at_ + distance, bytes) ? at_ + distance : 0;
}

uint64_t FlatTable::target(unsigned field) const {
    const uint64_t from = place(field, 4);
    return from ? from + buffer_->number(from, 4) : 0;
}

int64_t FlatTable::integer(unsigned field, unsigned bytes, int64_t otherwise) const {
    const uint64_t at = place(field, bytes);
    return at ? with_sign(buffer_->number(at, bytes), bytes) : otherwise;
}

FlatTable FlatTable::table(unsigned field) const {
    const uint64_t at = target(field);
    return at ? FlatTable(*buffer_, at) : FlatTable();
}

FlatVector FlatTable::vector(unsigned field, size_t element_bytes) const {
    FlatVector out;
    const uint64_t at = target(field);
    if (!at) return out;
    const uint64_t size = buffer_->number(at, 4);
    if (!buffer_->holds(at + 4, size * element_bytes)) return out;
    out.buffer_ = buffer_;
    out.at_ = at + 4;
    out.size_ = size_t(size);
    out.element_bytes_ = element_bytes;
    return out;
}

std::string_view FlatTable::text(unsigned field) const {
    const FlatVector bytes = vector(field, 1);
    return bytes.size_ ? buffer_->bytes_.substr(size_t(bytes.at_), bytes.size_) : std::string_view();
}

int64_t FlatVector::integer(size_t element, size_t at, unsigned bytes) const {
    return with_sign(buffer_->number(at_ + element * element_bytes_ + at, bytes), bytes);
}

FlatTable FlatVector::table(size_t element) const {
    const uint64_t from = at_ + element * element_bytes_;
    return FlatTable(*buffer_, from + buffer_->number(from, 4));
}

} // namespace gnv
