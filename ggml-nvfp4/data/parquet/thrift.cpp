#include "data/parquet/thrift.h"

namespace gnv {

static constexpr int deepest_nesting = 32;

uint8_t ThriftReader::byte() {
    if (!check(at_ < bytes_.size())) return 0;
    return static_cast<uint8_t>(bytes_[at_++]);
}

uint64_t ThriftReader::varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const uint8_t part = byte();
        value |= uint64_t(part & 0x7f) << shift;
        if (!(part & 0x80)) return ok_ ? value : 0;
    }
    check(false);
    return 0;
}

int64_t ThriftReader::zigzag() {
    const uint64_t value = varint();
    return int64_t(value >> 1) ^ -int64_t(value & 1);
}

bool ThriftReader::next_field(StructScope & scope) {
    const uint8_t head = byte();
    if (!ok_ || head == 0) return false;
    scope.type = Type(head & 15);
    const int64_t id = head >> 4 ? scope.id + (head >> 4) : zigzag();
    if (!check(id >= -32768 && id <= 32767 && scope.type != Type::stop && scope.type <= Type::structure)) return false;
    scope.id = int16_t(id);
    return true;
}

int64_t ThriftReader::integer(const StructScope & field) {
    if (!check(field.type >= Type::i8 && field.type <= Type::i64)) return 0;
    if (field.type == Type::i8) return static_cast<int8_t>(byte());
    return zigzag();
}

std::string_view ThriftReader::read_binary() {
    const uint64_t size = varint();
    if (!check(size <= bytes_.size() - at_)) return {};
    at_ += size_t(size);
    return bytes_.substr(at_ - size_t(size), size_t(size));
}

std::string_view ThriftReader::binary(const StructScope & field) {
    return check(field.type == Type::binary) ? read_binary() : std::string_view();
}

uint64_t ThriftReader::list_header(Type & element) {
    const uint8_t head = byte();
    element = Type(head & 15);
    const uint64_t count = head >> 4 == 15 ? varint() : head >> 4;
    // An element takes at least one byte.
    return check(count <= bytes_.size() - at_) ? count : 0;
}

uint64_t ThriftReader::list(const StructScope & field, Type element) {
    if (!check(field.type == Type::list)) return 0;
    Type found;
    const uint64_t count = list_header(found);
    return check(found == element || count == 0) ? count : 0;
}

void ThriftReader::skip_value(Type type, int depth) {
    if (!check(depth < deepest_nesting)) return;
    switch (type) {
    case Type::bool_true:
    case Type::bool_false: return; // the field header holds the value
    case Type::i8: byte(); return;
    case Type::i16:
    case Type::i32:
    case Type::i64: varint(); return;
    case Type::real:
        if (check(bytes_.size() - at_ >= 8)) at_ += 8;
        return;
    case Type::binary: read_binary(); return;
    case Type::list:
    case Type::set: {
        Type element;
        const uint64_t count = list_header(element);
        const bool flags = element == Type::bool_true || element == Type::bool_false; // one byte each in a list
        for (uint64_t i = 0; i < count && ok_; i++) skip_value(flags ? Type::i8 : element, depth + 1);
        return;
    }
    case Type::map: {
        const uint64_t count = varint();
        if (count == 0 || !check(count <= bytes_.size() - at_)) return;
        const uint8_t types = byte();
        for (uint64_t i = 0; i < count && ok_; i++) {
            for (const Type part : {Type(types >> 4), Type(types & 15)})
                skip_value(part == Type::bool_true || part == Type::bool_false ? Type::i8 : part, depth + 1);
        }
        return;
    }
    case Type::structure: {
        StructScope scope;
        while (next_field(scope)) skip_value(scope.type, depth + 1);
        return;
    }
    default: check(false);
    }
}

} // namespace gnv
