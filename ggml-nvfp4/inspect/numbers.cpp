#include "inspect/numbers.h"

#include "codec/nvfp4_pack.h"
#include "formats/elements.h"

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
    numbers.tensor_ = &contents.tensor(module.codes);
    numbers.scales_ = &contents.tensor(module.block_scales);
    GNV_ASSIGN(const float stored, contents.read_scalar(module.global_scale));
    numbers.global_scale_ = module.naming->scales_divide ? stored : 1.0f / stored;
    return numbers;
}

Status Numbers::read(int64_t first, int64_t count, NumberBuffers & buffers, double * out) const {
    // A block of codes shares a scale, elements of less than a byte share a byte.
    const int64_t step = scales_ || dtype_traits(tensor_->dtype).bits < 8 ? nvfp4::block_size : 1;
    const int64_t begin = first / step * step, end = std::min((first + count + step - 1) / step * step, count_);
    if (begin == first && end == first + count) return read_aligned(first, count, buffers, out);
    buffers.wide.resize(size_t(end - begin));
    GNV_TRY(read_aligned(begin, end - begin, buffers, buffers.wide.data()));
    std::copy_n(buffers.wide.begin() + (first - begin), count, out);
    return {};
}

Status Numbers::read_aligned(int64_t first, int64_t count, NumberBuffers & buffers, double * out) const {
    const auto bits = uint64_t(scales_ ? 4 : dtype_traits(tensor_->dtype).bits);
    const uint64_t size = uint64_t(count) * bits / 8, blocks = scales_ ? uint64_t(count / nvfp4::block_size) : 0;
    buffers.bytes.resize(size + blocks);
    uint8_t * const bytes = buffers.bytes.data();
    GNV_TRY(contents_->read(*tensor_, offset_ + uint64_t(first) * bits / 8, bytes, size));
    if (!scales_) {
        element_reader(tensor_->dtype)(bytes, count, out);
        return {};
    }
    // Rows end at block boundaries, so that any run of blocks is a weight of one row.
    GNV_TRY(contents_->read(*scales_, uint64_t(first / nvfp4::block_size), bytes + size, blocks));
    buffers.floats.resize(size_t(count));
    nvfp4::dequantize({1, count, nvfp4::Layout::row_major, {bytes, size}, {bytes + size, blocks}, global_scale_},
                    buffers.floats.data());
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
