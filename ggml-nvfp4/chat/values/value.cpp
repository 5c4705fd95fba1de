#include "chat/values/value.h"

#include "chat/values/unicode_text.h"

#include <bit>
#include <cmath>

namespace gnv::chat {

const char * type_name(Kind kind) {
    static const char * const names[] = {"Undefined", "NoneType",    "bool",     "int",   "float",     "str",
                                         "list",      "tuple",       "range",    "view",  "generator", "dict",
                                         "Namespace", "LoopContext", "function", "Macro", "Cycler",    "Joiner"};
    static_assert(std::size(names) == size_t(Kind::count_));
    return names[size_t(kind)];
}

Status fail_undefined(const Value & value) {
    if (value.text.empty()) return Status(Code::invalid_argument, "a value that is undefined is used");
    return fail(Code::invalid_argument, "'", printable(value.text), "' is undefined");
}

Status fail_operands(const char * op, const Value & a, const Value & b) {
    for (const Value * const operand : {&a, &b})
        if (operand->is_undefined()) return fail_undefined(*operand);
    return fail(Code::invalid_argument, "unsupported operand types for ", op, ": '", type_name(a.kind), "' and '",
                type_name(b.kind), "'");
}

static Status fail_depth() { return Status(Code::unsupported, "values are nested too deeply"); }

// --- Dict -----------------------------------------------------------------------------------------------------------------

static uint64_t mix(uint64_t bits) {
    bits = (bits ^ (bits >> 33)) * 0xff51afd7ed558ccdULL;
    return bits ^ (bits >> 33);
}

static uint64_t hash_text(std::string_view text) { return mix(std::hash<std::string_view>()(text)); }

// Keys are what hash_of() takes: equal by Python's rules without recursion into anything but tuples.
static bool same_key(const Value & a, const Value & b) {
    if (a.is_string() || b.is_string()) return a.kind == b.kind && a.text == b.text;
    if (a.is_number() && b.is_number())
        return a.is_whole() && b.is_whole() ? a.as_integer() == b.as_integer() : a.as_real() == b.as_real();
    if (a.kind != b.kind) return false;
    if (a.is(Kind::none) || a.is_undefined()) return true;
    if (!a.is(Kind::tuple)) return a.identity() == b.identity();
    const std::vector<Value> &x = a.sequence->items, &y = b.sequence->items;
    if (x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); i++)
        if (!same_key(x[i], y[i])) return false;
    return true;
}

const Value * Dict::find(std::string_view key) const {
    Entry * const entry = const_cast<Dict *>(this)->find_entry(Value::string(key), hash_text(key));
    return entry ? &entry->value : nullptr;
}

Dict::Entry * Dict::find_entry(const Value & key, uint64_t hash) {
    for (Entry & entry : entries)
        if (entry.hash == hash && same_key(entry.key, key)) return &entry;
    return nullptr;
}

void Dict::set(std::string_view key, const Value & value) { set(Value::string(key), hash_text(key), value); }

void Dict::set(const Value & key, uint64_t hash, const Value & value) {
    if (Entry * const entry = find_entry(key, hash)) {
        entry->value = value;
    } else {
        entries.push_back({hash, key, value});
    }
}

Result<uint64_t> hash_of(const Value & value, uint32_t depth) {
    constexpr uint32_t deepest_key = 20;
    if (value.is_string()) return hash_text(value.text);
    if (value.is_whole()) return mix(uint64_t(value.as_integer()));
    if (value.is(Kind::real)) {
        const bool whole = value.real == std::floor(value.real) && std::abs(value.real) < 0x1p62;
        return mix(whole ? uint64_t(int64_t(value.real)) : std::bit_cast<uint64_t>(value.real));
    }
    if (value.is(Kind::none) || value.is_undefined()) return mix(uint64_t(value.kind) + 1000);
    if (value.is(Kind::tuple)) {
        if (depth > deepest_key) return fail_depth();
        uint64_t hash = 17;
        for (const Value & item : value.sequence->items) {
            GNV_ASSIGN(const uint64_t part, hash_of(item, depth + 1));
            hash = mix(hash * 31 + part);
        }
        return hash;
    }
    if (value.is(Kind::list) || value.is(Kind::dict))
        return fail(Code::invalid_argument, "unhashable type: '", type_name(value.kind), "'");
    return mix(uint64_t(reinterpret_cast<uintptr_t>(value.identity())));
}

// --- Truth, equality, order -----------------------------------------------------------------------------------------------

bool truth(const Value & value) {
    switch (value.kind) {
    case Kind::undefined:
    case Kind::none: return false;
    case Kind::boolean: return value.flag;
    case Kind::integer: return value.integer != 0;
    case Kind::real: return value.real != 0;
    case Kind::string: return !value.text.empty();
    case Kind::list:
    case Kind::tuple:
    case Kind::range:
    case Kind::view: return !value.sequence->items.empty();
    case Kind::dict: return !value.dict->entries.empty();
    default: return true;
    }
}

Result<bool> equal(Workspace & work, const Value & a, const Value & b, uint32_t depth) {
    GNV_TRY(work.step());
    if (depth > work.limits().depth / 3) return fail_depth();
    if (a.is_number() && b.is_number())
        return a.is_whole() && b.is_whole() ? a.as_integer() == b.as_integer() : a.as_real() == b.as_real();
    if (a.kind != b.kind) return false;
    if (a.is(Kind::none) || a.is_undefined()) return true;
    if (a.is_string()) {
        GNV_TRY(work.step_bytes(a.text.size()));
        return a.text == b.text;
    }
    if (a.identity() == b.identity()) return true;
    if (a.is(Kind::list) || a.is(Kind::tuple) || a.is(Kind::range)) {
        const std::vector<Value> &x = a.sequence->items, &y = b.sequence->items;
        if (x.size() != y.size()) return false;
        for (size_t i = 0; i < x.size(); i++) {
            GNV_ASSIGN(const bool same, equal(work, x[i], y[i], depth + 1));
            if (!same) return false;
        }
        return true;
    }
    if (!a.is(Kind::dict) || a.dict->entries.size() != b.dict->entries.size()) return false;
    for (const Dict::Entry & entry : a.dict->entries) {
        GNV_TRY(work.step(1 + b.dict->entries.size() / 16));
        const Dict::Entry * const other = b.dict->find_entry(entry.key, entry.hash);
        if (!other) return false;
        GNV_ASSIGN(const bool same, equal(work, entry.value, other->value, depth + 1));
        if (!same) return false;
    }
    return true;
}

template <class T>
static int order(const T & a, const T & b) {
    return a < b ? -1 : a > b ? 1 : 0;
}

Result<int> compare(Workspace & work, const Value & a, const Value & b, uint32_t depth) {
    GNV_TRY(work.step());
    if (depth > work.limits().depth / 3) return fail_depth();
    if (a.is_number() && b.is_number())
        return a.is_whole() && b.is_whole() ? order(a.as_integer(), b.as_integer()) : order(a.as_real(), b.as_real());
    if (a.is_string() && b.is_string())
        return order(a.text.compare(b.text), 0); // bytes of UTF-8 are in that order, too
    if (a.kind != b.kind || !(a.is(Kind::list) || a.is(Kind::tuple))) return fail_operands("<", a, b);
    const std::vector<Value> &x = a.sequence->items, &y = b.sequence->items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); i++) {
        GNV_ASSIGN(const bool same, equal(work, x[i], y[i], depth + 1));
        if (!same) return compare(work, x[i], y[i], depth + 1);
    }
    return order(x.size(), y.size());
}

// --- Containers -----------------------------------------------------------------------------------------------------------

Result<int64_t> length_of(const Value & value) {
    if (value.is_undefined()) return 0;
    if (value.is_string()) return int64_t(count_code_points(value.text));
    if (value.is_sequence() && !value.is(Kind::generator)) return int64_t(value.sequence->items.size());
    if (value.is(Kind::dict)) return int64_t(value.dict->entries.size());
    return fail(Code::invalid_argument, "object of type '", type_name(value.kind), "' has no len()");
}

Result<bool> contains(Workspace & work, const Value & container, const Value & item) {
    if (container.is_string()) {
        if (!item.is_string())
            return fail(Code::invalid_argument, "'in <string>' requires string as left operand, not ",
                        type_name(item.kind));
        GNV_TRY(work.step_bytes(container.text.size()));
        return container.text.find(item.text) != std::string_view::npos;
    }
    if (container.is(Kind::dict)) {
        GNV_TRY(work.step(1 + container.dict->entries.size() / 16));
        GNV_ASSIGN(const uint64_t hash, hash_of(item));
        return container.dict->find_entry(item, hash) != nullptr;
    }
    if (container.is_undefined()) return false;
    if (!container.is_sequence())
        return fail(Code::invalid_argument, "argument of type '", type_name(container.kind), "' is not iterable");
    Sequence & sequence = *container.sequence;
    const bool once = container.is(Kind::generator);
    for (size_t i = once ? sequence.taken : 0; i < sequence.items.size(); i++) {
        if (once) sequence.taken = i + 1;
        GNV_ASSIGN(const bool same, equal(work, sequence.items[i], item));
        if (same) return true;
    }
    return false;
}

Result<std::vector<Value>> elements_of(Workspace & work, const Value & value) {
    std::vector<Value> out;
    if (value.is_undefined()) return out;
    if (value.is_string()) {
        GNV_TRY(work.step(1 + value.text.size()));
        for (size_t at = 0, bytes = 0; at < value.text.size(); at += bytes) {
            bytes = bytes_of_code_point(value.text, at);
            out.push_back(Value::string(value.text.substr(at, bytes)));
        }
        return out;
    }
    if (value.is_sequence()) {
        Sequence & sequence = *value.sequence;
        GNV_TRY(work.step(1 + sequence.left()));
        out.assign(sequence.items.begin() + ptrdiff_t(sequence.taken), sequence.items.end());
        if (value.is(Kind::generator)) sequence.taken = sequence.items.size();
        return out;
    }
    if (!value.is(Kind::dict))
        return fail(Code::invalid_argument, "'", type_name(value.kind), "' object is not iterable");
    GNV_TRY(work.step(1 + value.dict->entries.size()));
    for (const Dict::Entry & entry : value.dict->entries) out.push_back(entry.key);
    return out;
}

} // namespace gnv::chat
