#include "model/fp8_weights.h"

#include "codec/fp8_scales.h"

namespace gnv {

int64_t find_fp8_scales(const Checkpoint & checkpoint, const TensorInfo & weight) {
    constexpr std::string_view suffix = ".weight";
    if (!ends_with(weight.name, suffix)) return -1;
    return checkpoint.find(concat(weight.name.substr(0, weight.name.size() - suffix.size()), fp8_scale_suffix));
}

Result<bool> check_fp8(const TensorSpec & spec, const TensorInfo & weight, const Checkpoint & checkpoint) {
    if (weight.dtype != DType::f8_e4m3 || !role_traits(spec.role).is_linear || spec.shape.size() != 2 ||
        weight.shape != spec.shape)
        return false;
    const int64_t position = find_fp8_scales(checkpoint, weight);
    if (position < 0)
        return fail(Code::model, checkpoint.describe(weight), " is in FP8, but has no ", fp8_scale_suffix,
                    "; download the checkpoint again, or start from the BF16 one");
    const TensorInfo & scales = checkpoint.tensors()[size_t(position)];
    Fp8Scales fitted;
    if (is_float(scales.dtype) && fit_fp8_scales(scales.shape, spec.shape[0], spec.shape[1], fitted)) return true;
    return fail(Code::model, checkpoint.describe(scales), " is ", dtype_name(scales.dtype), " ",
                shape_text(scales.shape), ", an FP8 weight ", shape_text(spec.shape),
                " needs one scale, one a row, or a grid of them");
}

} // namespace gnv
