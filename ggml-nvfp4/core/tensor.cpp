#include "core/tensor.h"

namespace gnv {

std::string dims_text(const Shape & shape) {
    std::string text = "[";
    for (int i = 0; i < shape.rank; i++) text += (i > 0 ? ", " : "") + std::to_string(shape.dims[i]);
    return text + "]";
}

uint64_t tensor_bytes(DType dtype, const Shape & shape) {
    return (uint64_t(shape.elements()) * uint64_t(dtype_traits(dtype).bits) + 7) / 8;
}

uint64_t stored_bytes(const Tensor & weight, const Shape & shape) {
    const uint64_t bytes = tensor_bytes(weight.dtype, shape);
    return weight.is_compact() ? bytes / 4 * 3 : bytes;
}

Tensor rows_from(const Tensor & weight, int64_t first, const Shape & shape) {
    const int64_t columns = weight.shape.last();
    Tensor rows = weight;
    rows.shape = shape;
    rows.data = weight.as<uint8_t>() + stored_bytes(weight, {first, columns});
    if (weight.is_compact()) rows.compact.first += first / 2;
    if (weight.block_scales) rows.block_scales += first * (columns / 16);
    return rows;
}

} // namespace gnv
