#include "checkpoint/elements.h"

#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <vector>

using namespace gnv;

template <class Stored>
static std::vector<double> read(DType dtype, const std::vector<Stored> & stored, int64_t count) {
    std::vector<uint8_t> bytes(1 + stored.size() * sizeof(Stored)); // not aligned
    memcpy(bytes.data() + 1, stored.data(), stored.size() * sizeof(Stored));
    std::vector<double> out(size_t(count), -1.0);
    element_reader(dtype)(bytes.data() + 1, count, out.data());
    return out;
}

// Values from the definitions of the formats.
TEST_CASE("every dtype gives the values of its format") {
    using Doubles = std::vector<double>;
    CHECK(read<uint8_t>(DType::boolean, {0, 1}, 2) == Doubles{0, 1});
    CHECK(read<uint8_t>(DType::u8, {0, 255}, 2) == Doubles{0, 255});
    CHECK(read<int8_t>(DType::i8, {-128, 127}, 2) == Doubles{-128, 127});
    CHECK(read<int16_t>(DType::i16, {-32768, 5}, 2) == Doubles{-32768, 5});
    CHECK(read<uint16_t>(DType::u16, {65535}, 1) == Doubles{65535});
    CHECK(read<int32_t>(DType::i32, {-2147483647}, 1) == Doubles{-2147483647});
    CHECK(read<uint32_t>(DType::u32, {4294967295u}, 1) == Doubles{4294967295.0});
    CHECK(read<int64_t>(DType::i64, {-(int64_t(1) << 53)}, 1) == Doubles{-9007199254740992.0});
    CHECK(read<uint64_t>(DType::u64, {uint64_t(1) << 63}, 1) == Doubles{9223372036854775808.0});
    CHECK(read<float>(DType::f32, {1.5f, -0x1p-149f}, 2) == Doubles{1.5, -0x1p-149});
    CHECK(read<double>(DType::f64, {0.1}, 1) == Doubles{0.1});
    CHECK(read<uint16_t>(DType::bf16, {0x3f80, 0xc049, 0x0001}, 3) == Doubles{1, -3.140625, 0x1p-133});
    CHECK(read<uint16_t>(DType::f16, {0x3c00, 0x0001, 0xfbff}, 3) == Doubles{1, 0x1p-24, -65504});
    CHECK(read<uint8_t>(DType::f8_e4m3, {0x38, 0x01, 0xfe}, 3) == Doubles{1, 0x1p-9, -448});
    CHECK(read<uint8_t>(DType::f8_e5m2, {0x3c, 0x01, 0xfb}, 3) == Doubles{1, 0x1p-16, -57344});
    CHECK(read<uint8_t>(DType::f8_e8m0, {0, 127, 254}, 3) == Doubles{0x1p-127, 1, 0x1p127});
    CHECK(read<uint8_t>(DType::f4, {0x72, 0xf9}, 4) == Doubles{1, 6, -0.5, -6}); // the low nibble first
}

TEST_CASE("what is not finite stays so, and 6-bit floats have no reader") {
    for (const DType dtype : {DType::bf16, DType::f16}) {
        const auto values = read<uint16_t>(dtype, {0x7f80, 0xff80, 0x7fc0, 0x7c00}, 4);
        CHECK(std::isnan(values[2]));
        CHECK(std::isinf(values[dtype == DType::bf16 ? 0 : 3]));
    }
    CHECK(std::isnan(read<uint8_t>(DType::f8_e4m3, {0x7f}, 1)[0]));
    CHECK(std::isinf(read<uint8_t>(DType::f8_e5m2, {0xfc}, 1)[0]));
    CHECK(std::isnan(read<uint8_t>(DType::f8_e5m2, {0x7d}, 1)[0]));
    CHECK(std::isnan(read<uint8_t>(DType::f8_e8m0, {0xff}, 1)[0]));
    for (size_t dtype = 0; dtype < size_t(DType::count_); dtype++)
        CHECK((element_reader(DType(dtype)) == nullptr) == (dtype_traits(DType(dtype)).bits == 6));
}
