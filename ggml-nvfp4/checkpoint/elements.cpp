#include "checkpoint/elements.h"

#include "codec/nvfp4.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace gnv {

template <class Stored, auto value_of>
static void read_elements(const uint8_t * bytes, int64_t count, double * out) {
    for (int64_t i = 0; i < count; i++) {
        Stored stored;
        memcpy(&stored, bytes + size_t(i) * sizeof stored, sizeof stored);
        out[i] = double(value_of(stored));
    }
}

template <class Stored>
static Stored as_stored(Stored value) {
    return value;
}

// IEEE half precision without the low byte of its mantissa.
static float e5m2_value(uint8_t byte) { return nvfp4::f16_to_float(uint16_t(byte << 8)); }

// A power of two (OCP Microscaling formats, section 5.4.1).
static double e8m0_value(uint8_t byte) {
    return byte == 0xff ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, byte - 127);
}

static void read_f4(const uint8_t * bytes, int64_t count, double * out) {
    for (int64_t i = 0; i < count; i++) out[i] = double(nvfp4::e2m1_value(uint8_t(bytes[i / 2] >> i % 2 * 4) & 15));
}

static const ElementReader readers[] = {
    read_elements<uint8_t, as_stored<uint8_t>>,              // BOOL
    read_elements<uint8_t, as_stored<uint8_t>>,              // U8
    read_elements<int8_t, as_stored<int8_t>>,                // I8
    read_elements<uint8_t, nvfp4::e4m3_value>,               // F8_E4M3
    read_elements<uint8_t, e5m2_value>,                      // F8_E5M2
    read_elements<uint8_t, e8m0_value>,                      // F8_E8M0
    read_elements<int16_t, as_stored<int16_t>>,              // I16
    read_elements<uint16_t, as_stored<uint16_t>>,            // U16
    read_elements<uint16_t, nvfp4::f16_to_float>,            // F16
    [](const uint8_t * bytes, int64_t count, double * out) { // BF16: the common case, inlined for the vectoriser
        for (int64_t i = 0; i < count; i++) {
            const uint32_t bits = uint32_t(bytes[2 * i]) << 16 | uint32_t(bytes[2 * i + 1]) << 24;
            float value;
            memcpy(&value, &bits, sizeof value);
            out[i] = double(value);
        }
    },
    read_elements<int32_t, as_stored<int32_t>>,   // I32
    read_elements<uint32_t, as_stored<uint32_t>>, // U32
    read_elements<float, as_stored<float>>,       // F32
    read_elements<double, as_stored<double>>,     // F64
    read_elements<int64_t, as_stored<int64_t>>,   // I64
    read_elements<uint64_t, as_stored<uint64_t>>, // U64
    read_f4,                                      // F4
    nullptr,                                      // F6_E2M3
    nullptr,                                      // F6_E3M2
};
static_assert(sizeof readers / sizeof *readers == size_t(DType::count_));

ElementReader element_reader(DType dtype) { return readers[size_t(dtype)]; }

} // namespace gnv
