// Any bytes as a weight, and as codes and scales: every kernel of this processor gives the reference's bits.
#include "codec/format.h"
#include "codec/nvfp4_pack.h"
#include "fuzz/fuzz_input.h"

#include <cmath>
#include <cstring>

using namespace gnv;
using namespace gnv::fuzz;

struct Packed {
    std::string codes, scales;
    bool operator==(const Packed &) const = default;
};

template <class Quantize>
static Packed pack(int64_t rows, int64_t columns, float global_scale, const Quantize & quantize) {
    Packed out{std::string(size_t(rows * columns / 2), '\1'), std::string(size_t(rows * columns / 16), '\1')};
    nvfp4::Weight weight;
    weight.rows = rows, weight.columns = columns;
    weight.codes = {reinterpret_cast<uint8_t *>(out.codes.data()), out.codes.size()};
    weight.scales = {reinterpret_cast<uint8_t *>(out.scales.data()), out.scales.size()};
    weight.global_scale = global_scale;
    quantize(weight);
    return out;
}

static void check_quantize(const std::string & bytes, int64_t columns) {
    const int64_t rows = int64_t(bytes.size()) / (columns * 2), count = rows * columns;
    std::vector<uint16_t> weights(static_cast<size_t>(count)); // a block of exactly this size
    if (count > 0) memcpy(weights.data(), bytes.data(), weights.size() * 2);
    bool finite = true, kernel_finite = true;
    const float expected = nvfp4::absolute_maximum_reference(DType::bf16, weights.data(), count, finite);
    const float found = absolute_maximum(best_instruction_set(), DType::bf16, weights.data(), count, kernel_finite);
    require(finite == kernel_finite && (!finite || found == expected));
    if (!finite) return;
    const float global = nvfp4::global_scale(DType::bf16, expected);
    const Packed reference = pack(rows, columns, global, [&](const nvfp4::Weight & out) {
        nvfp4::quantize_reference(DType::bf16, weights.data(), out);
    });
    for (const nvfp4::Kernels * kernels : nvfp4::kernels())
        require(reference == pack(rows, columns, global,
                                  [&](const nvfp4::Weight & out) { kernels->quantize_bf16(weights.data(), out); }));
}

static void check_dequantize(const std::string & bytes, int64_t columns, float global) {
    const int64_t rows = int64_t(bytes.size()) / (columns / 2 + columns / 16);
    nvfp4::ConstWeight weight;
    weight.rows = rows, weight.columns = columns;
    const auto * data = reinterpret_cast<const uint8_t *>(bytes.data());
    weight.codes = {data, size_t(rows * columns / 2)};
    weight.scales = {data + weight.codes.size(), size_t(rows * columns / 16)};
    weight.global_scale = global;
    std::vector<float> expected(size_t(rows * columns)), found(expected.size());
    nvfp4::dequantize_reference(weight, expected.data());
    for (const nvfp4::Kernels * kernels : nvfp4::kernels()) {
        kernels->dequantize(weight, found.data());
        for (size_t i = 0; i < found.size(); i++)
            require((std::isnan(expected[i]) && std::isnan(found[i])) ||
                    memcmp(&expected[i], &found[i], sizeof(float)) == 0);
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    Bytes input(data, size);
    const int64_t columns = 16 * (1 + int64_t(input.number(1) % 9));
    float global = 1;
    const auto bits = uint32_t(input.number(4));
    memcpy(&global, &bits, sizeof global);
    const std::string bytes = input.rest();
    check_quantize(bytes, columns);
    if (std::isfinite(global) && global > 0) check_dequantize(bytes, columns, global);
    return 0;
}
