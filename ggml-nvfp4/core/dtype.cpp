#include "core/dtype.h"

namespace gnv {

static const DTypeTraits traits_table[] = {
    {"BOOL", 8}, {"U8", 8},   {"I8", 8},    {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"I16", 16},
    {"U16", 16}, {"F16", 16}, {"BF16", 16}, {"I32", 32},    {"U32", 32},    {"F32", 32},    {"F64", 64},
    {"I64", 64}, {"U64", 64}, {"F4", 4},    {"F6_E2M3", 6}, {"F6_E3M2", 6},
};
static_assert(sizeof traits_table / sizeof *traits_table == size_t(DType::count_));

const DTypeTraits & dtype_traits(DType dtype) { return traits_table[size_t(dtype)]; }

bool dtype_from_name(std::string_view name, DType & out) {
    for (size_t i = 0; i < size_t(DType::count_); i++) {
        if (name == traits_table[i].name) {
            out = DType(i);
            return true;
        }
    }
    return false;
}

} // namespace gnv
