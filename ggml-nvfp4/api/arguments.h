// Checks of callers' arguments: structures of any version, lists, numbers of enumerations. Every argument is checked
// before it is used, and the same mistake gets the same message from every function.
#pragma once

#include "api/handles.h"

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

namespace gnv::api {

constexpr uint64_t most_items = 10'000'000;            // of a caller's list
constexpr uint64_t most_bytes = uint64_t(1) << 47;     // of one array: the address space of a process
constexpr uint64_t largest_struct = 4096;              // of any version
constexpr uint64_t smallest_struct = sizeof(uint64_t); // struct_size itself

// Sizes of real versions are multiples of the alignment: no field is cut in two.
template <class Struct>
bool is_struct_size(uint64_t size) {
    static_assert(offsetof(Struct, struct_size) == 0);
    return size >= smallest_struct && size <= largest_struct && size % alignof(Struct) == 0;
}

// Copies the fields of the caller's version of an option structure over the defaults in `out`; NULL: none.
template <class Options>
Status take_options(const Options * given, Options & out, const char * name) {
    if (!given) return {};
    if (!is_struct_size<Options>(given->struct_size))
        return fail(Code::invalid_argument, name, ".struct_size is ", given->struct_size,
                    ", the size of no version of it; use ", name, "_init");
    const size_t size = given->struct_size < sizeof(Options) ? size_t(given->struct_size) : sizeof(Options);
    memcpy(static_cast<void *>(&out), given, size);
    out.struct_size = sizeof(Options);
    return {};
}

template <class Info>
Status check_struct(const Info * out, const char * name) {
    if (!out) return fail(Code::invalid_argument, "the ", name, " to fill is NULL");
    if (is_struct_size<Info>(out->struct_size)) return {};
    return fail(Code::invalid_argument, name, ".struct_size is ", out->struct_size,
                ", the size of no version of it; set it to sizeof(", name, ")");
}

// Copies the fields that the caller's version of a result structure has.
template <class Info>
Status give_struct(Info info, Info * out, const char * name) {
    GNV_TRY(check_struct(out, name));
    const size_t size = out->struct_size < sizeof(Info) ? size_t(out->struct_size) : sizeof(Info);
    info.struct_size = out->struct_size;
    memcpy(static_cast<void *>(out), &info, size);
    return {};
}

// For an enumeration with the numbers 0 to `last`.
template <class Enum>
Status check_number(Enum value, Enum last, const char * what) {
    if (int(value) >= 0 && int(value) <= int(last)) return {};
    return fail(Code::invalid_argument, what, ": ", int(value), " is not in 0..", int(last));
}

// `last`: the last supported format.
inline Status check_format(gnv_text_format format, const char * function, gnv_text_format last = GNV_TEXT_JSON) {
    return check_number(format, last, concat(function, ": format").c_str());
}

// The width of texts for people, see format_table().
inline size_t text_width(const Owned * handle) { return size_t(std::max(0, handle->engine->options.text_columns)); }

// The body of the functions that give a text: `write(format)` returns std::string or Result<std::string>.
template <class Handle, class Write>
gnv_status give_text(const Handle * handle, gnv_text_format format, gnv_text_t ** out, const char * function,
                     const Write & write, gnv_text_format last = GNV_TEXT_JSON) {
    if (out) *out = nullptr;
    return call(engine_of(handle), [&]() -> Status {
        if (!out) return fail(Code::invalid_argument, function, ": an argument is NULL");
        GNV_TRY(check_format(format, function, last));
        Result<std::string> text = write(format);
        if (text.ok()) *out = make_text(text.take());
        return text.take_status();
    });
}

inline Status check_flags(uint32_t flags, uint32_t known, const char * what) {
    if ((flags & ~known) == 0) return {};
    return fail(Code::invalid_argument, what, ": unknown bits ", flags & ~known);
}

inline Status check_pointers(std::initializer_list<const void *> pointers, const char * function) {
    for (const void * pointer : pointers)
        if (!pointer) return fail(Code::invalid_argument, function, ": an argument is NULL");
    return {};
}

// For another handle of a call on `engine`; NULL passes. Only handles of the same engine live as long as the call.
template <class Handle>
Status check_engine(const gnv_engine_t * engine, const Handle * handle, const char * what) {
    if (!handle || handle->engine == engine) return {};
    return fail(Code::invalid_argument, what, " is of another engine");
}

inline Status check_list(const void * list, uint64_t count, const char * what, uint64_t most = most_items) {
    if (count > most)
        return fail(Code::invalid_argument, what, ": ", count, " entries are more than the ", most, " allowed");
    if (count > 0 && !list) return fail(Code::invalid_argument, what, " is NULL, with ", count, " entries");
    return {};
}

inline Result<std::vector<std::string>> take_texts(const char * const * list, uint64_t count, const char * what) {
    GNV_TRY(check_list(list, count, what));
    std::vector<std::string> texts;
    for (uint64_t i = 0; i < count; i++) {
        if (!list[i]) return fail(Code::invalid_argument, what, "[", i, "] is NULL");
        texts.emplace_back(list[i]);
    }
    return texts;
}

inline std::string text_or_empty(const char * text) { return text ? text : ""; }

} // namespace gnv::api
