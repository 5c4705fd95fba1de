#include "inspect/numbers.h"

#include "checkpoint/elements.h"

#include <algorithm>

namespace gnv {

Numbers::Numbers(const Contents & contents, std::vector<int64_t> shape)
    : contents_(&contents), shape_(std::move(shape)) {
    for (const int64_t extent : shape_) count_ *= extent; // the file holds them all, so they can be counted
}

Result<Numbers> Numbers::of_tensor(const Contents & contents, uint32_t tensor) {
    const TensorInfo & info = contents.tensor(tensor);
    if (!element_reader(info.dtype))
        return fail(Code::unsupported, contents.checkpoint().describe(info), ": elements of ", dtype_name(info.dtype),
                    " cannot be read one by one");
    Numbers numbers(contents, info.shape);
    numbers.tensor_ = &info;
    return numbers;
}

Result<Numbers> Numbers::of_linear(const Contents & contents, const LinearModule & linear) {
    GNV_ASSIGN(Numbers whole, of_tensor(contents, linear.source));
    Numbers numbers(contents, {linear.rows, linear.columns});
    numbers.tensor_ = whole.tensor_;
    numbers.offset_ = linear.offset;
    return numbers;
}

Result<Numbers> Numbers::of_module(const Contents & contents, uint32_t position) {
    const QuantizedModule & module = contents.modules()[position];
    Numbers numbers(contents, {module.rows, module.columns});
    numbers.module_ = &module;
    numbers.tensor_ = &contents.tensor(module.codes());
    const int unit = module.format->unit_component();
    if (unit < 0) return numbers;
    GNV_ASSIGN(const float stored, contents.read_scalar(uint32_t(module.tensors[size_t(unit)])));
    numbers.scale_ = module.naming->scales_divide ? stored : 1.0f / stored;
    return numbers;
}

Status Numbers::read(int64_t first, int64_t count, NumberBuffers & buffers, double * out) const {
    // Pieces begin at a block, which shares a scale, and at a byte, which small elements share.
    const int64_t step = module_ ? module_->format->block : dtype_traits(tensor_->dtype).bits < 8 ? 16 : 1;
    const int64_t begin = first / step * step, end = std::min((first + count + step - 1) / step * step, count_);
    if (begin == first && end == first + count) return read_aligned(first, count, buffers, out);
    buffers.wide.resize(size_t(end - begin));
    GNV_TRY(read_aligned(begin, end - begin, buffers, buffers.wide.data()));
    std::copy_n(buffers.wide.begin() + (first - begin), count, out);
    return {};
}

Status Numbers::read_aligned(int64_t first, int64_t count, NumberBuffers & buffers, double * out) const {
    if (!module_) {
        const auto bits = uint64_t(dtype_traits(tensor_->dtype).bits);
        buffers.bytes.resize(uint64_t(count) * bits / 8);
        GNV_TRY(contents_->read(*tensor_, offset_ + uint64_t(first) * bits / 8, buffers.bytes.data(),
                                buffers.bytes.size()));
        element_reader(tensor_->dtype)(buffers.bytes.data(), count, out);
        return {};
    }
    // Rows end at block boundaries, so that any run of blocks is a weight of one row.
    const Format & format = *module_->format;
    buffers.bytes.resize(format.packed_bytes(1, count));
    PackedRows packed{1, count, {}};
    uint64_t used = 0;
    for (size_t c = 0; c < format.components.size(); c++) {
        const FormatComponent & component = format.components[c];
        if (component.scope != FormatComponent::Scope::rows) continue;
        const uint64_t size = component.bytes(1, count);
        packed.data[c] = buffers.bytes.data() + used;
        GNV_TRY(contents_->read(contents_->tensor(uint64_t(module_->tensors[c])), component.bytes(1, first),
                                packed.data[c], size));
        used += size;
    }
    buffers.floats.resize(size_t(count));
    format.unpack(buffers.instructions, packed, scale_, buffers.floats.data());
    std::copy(buffers.floats.begin(), buffers.floats.end(), out);
    return {};
}

Result<int64_t> Numbers::read_piece(int64_t piece, NumberBuffers & buffers, std::vector<double> & out) const {
    const int64_t first = piece * piece_elements, count = std::min(piece_elements, count_ - first);
    out.resize(size_t(count));
    GNV_TRY(read(first, count, buffers, out.data()));
    return count;
}

} // namespace gnv
