// Element types of tensors, and the table of their properties.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gnv {

// clang-format off
enum class DType : uint8_t {
    boolean, u8, i8, f8_e4m3, f8_e5m2, f8_e8m0, i16, u16, f16, bf16, i32, u32, f32, f64, i64, u64,
    f4, f6_e2m3, f6_e3m2, // sub-byte: a tensor's bits must fill whole bytes
    count_
};
// clang-format on

struct DTypeTraits {
    const char * name; // as safetensors headers spell it
    int bits;          // of one element
};

const DTypeTraits & dtype_traits(DType dtype);
inline const char * dtype_name(DType dtype) { return dtype_traits(dtype).name; }
inline bool is_float(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16 || dtype == DType::f32; }
// False when safetensors defines no dtype `name`.
bool dtype_from_name(std::string_view name, DType & out);

} // namespace gnv
