#include "codec/nvfp4_pack.h"

#include "codec/nvfp4_variants.h"

namespace gnv::nvfp4 {

static int64_t block_count(const auto & weight) { return weight.rows * (weight.columns / nvfp4::block_size); }

// Binds a variant's loops over blocks to the interface over weights.
template <auto amax, auto quantize_blocks, auto dequantize_blocks>
static constexpr Kernels make_kernels(const char * name) {
    return {
        name,
        amax,
        [](const uint16_t * weights, const nvfp4::Weight & out) {
            quantize_blocks(weights, block_count(out), out.global_scale, out.codes.data(), out.scales.data());
        },
        [](const nvfp4::ConstWeight & weight, float * out) {
            dequantize_blocks(weight.codes.data(), weight.scales.data(), block_count(weight), weight.global_scale, out);
        },
    };
}

#define GNV_KERNELS(variant)                                                                                           \
    make_kernels<variant::absolute_maximum_bf16, variant::quantize_bf16, variant::dequantize>(#variant)
static constexpr Kernels portable_kernels = GNV_KERNELS(portable);
#ifdef __x86_64__
static constexpr Kernels avx2_kernels = GNV_KERNELS(avx2);
static constexpr Kernels avx512_kernels = GNV_KERNELS(avx512);
#endif
#undef GNV_KERNELS

const Kernels & kernels_for([[maybe_unused]] InstructionSet set) {
#ifdef __x86_64__
    if (set == InstructionSet::avx512) return avx512_kernels;
    if (set == InstructionSet::avx2) return avx2_kernels;
#endif
    return portable_kernels;
}

const std::vector<const Kernels *> & kernels() {
    static const std::vector<const Kernels *> found = [] {
        std::vector<const Kernels *> list;
        for (int set = int(best_instruction_set()); set >= 0; set--) list.push_back(&kernels_for(InstructionSet(set)));
        return list;
    }();
    return found;
}

void quantize(InstructionSet set, DType source, const void * weights, const nvfp4::Weight & out) {
    if (source == DType::bf16 && out.layout == nvfp4::Layout::row_major)
        kernels_for(set).quantize_bf16(static_cast<const uint16_t *>(weights), out);
    else
        nvfp4::quantize_reference(source, weights, out);
}

void dequantize(InstructionSet set, const nvfp4::ConstWeight & weight, float * out) {
    if (weight.layout == nvfp4::Layout::row_major)
        kernels_for(set).dequantize(weight, out);
    else
        nvfp4::dequantize_reference(weight, out);
}

} // namespace gnv::nvfp4
