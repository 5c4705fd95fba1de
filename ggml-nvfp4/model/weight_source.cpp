#include "model/weight_source.h"

#include "codec/fp8_scales.h"
#include "codec/nvfp4.h"

#include <cmath>
#include <cstring>
#include <vector>

namespace gnv {

Status WeightSource::read(const TensorInfo & tensor, uint64_t offset, void * out, uint64_t bytes) const {
    const FolderFile & file = *(*files_)[tensor.shard];
    Status status = file.read(out, bytes, tensor.offset + offset);
    if (status.ok()) return {};
    // The header promised no more than the file had when it was opened.
    if (Status changed; status.code() == Code::format)
        if (changed = checkpoint_->check_unchanged(file, tensor.shard); !changed.ok()) status = std::move(changed);
    return std::move(status).add_context(checkpoint_->describe(tensor));
}

Status WeightSource::read_f32(const TensorInfo & tensor, uint64_t offset, void * out, uint64_t bytes) const {
    if (tensor.dtype == DType::f32) return read(tensor, offset, out, bytes);
    // 16-bit elements are read into the second half of `out` and widened front to back: each is read before it is
    // overwritten.
    auto * const to = static_cast<uint8_t *>(out);
    GNV_TRY(read(tensor, offset, to + bytes, bytes));
    for (uint64_t i = 0; i < bytes / 2; i++) {
        const float value = nvfp4::load_element(tensor.dtype, to + bytes, int64_t(i));
        memcpy(to + i * 4, &value, sizeof value);
    }
    return {};
}

Status WeightSource::read_fp8(const TensorInfo & weight, const TensorInfo & scales, void * out) const {
    Fp8Scales fitted;
    GNV_CHECK(fit_fp8_scales(scales.shape, weight.shape[0], weight.shape[1], fitted)); // when the model was matched
    std::vector<uint8_t> bytes(size_t(scales.bytes));
    GNV_TRY(read(scales, 0, bytes.data(), bytes.size()));
    for (int64_t i = 0; i < scales.elements(); i++) {
        const float scale = nvfp4::load_element(scales.dtype, bytes.data(), i);
        if (!(scale > 0) || !std::isfinite(scale))
            return fail(Code::bad_value, checkpoint_->describe(scales), ": element ", i, " is ", double(scale),
                        "; scales are numbers above zero");
        fitted.values.push_back(scale);
    }
    auto * const codes = static_cast<uint8_t *>(out) + 3 * weight.bytes;
    GNV_TRY(read(weight, 0, codes, weight.bytes));
    unpack_fp8(codes, fitted, weight.shape[0], weight.shape[1], static_cast<float *>(out));
    return {};
}

void WeightSource::will_need(const TensorInfo & tensor, uint64_t offset, uint64_t bytes) const {
    (*files_)[tensor.shard]->will_need(tensor.offset + offset, bytes);
}

// --- Rows -------------------------------------------------------------------------------------------------------------------

DType WeightSource::row_dtype(const LinearModule & linear) const {
    return linear.stored ? DType::f32 : tensor(linear.source).dtype;
}

Status WeightSource::read_rows(const LinearModule & linear, int64_t first, int64_t rows, void * out,
                               InstructionSet set) const {
    const Format * const format = linear.stored;
    if (!format) {
        const uint64_t row_bytes = uint64_t(linear.columns) * uint64_t(dtype_traits(row_dtype(linear)).bits) / 8;
        return read(tensor(linear.source), linear.offset + uint64_t(first) * row_bytes, out,
                    uint64_t(rows) * row_bytes);
    }
    std::vector<uint8_t> bytes(format->packed_bytes(rows, linear.columns));
    PackedRows packed{rows, linear.columns, {}};
    float scale = 1;
    uint64_t used = 0;
    for (size_t c = 0; c < format->components.size(); c++) {
        const FormatComponent & component = format->components[c];
        const uint64_t size = component.bytes(rows, linear.columns);
        if (component.scope == FormatComponent::Scope::unit)
            GNV_TRY(read(tensor(size_t(linear.parts[c])), 0, &scale, sizeof scale));
        if (component.scope != FormatComponent::Scope::rows) continue;
        packed.data[c] = bytes.data() + used;
        GNV_TRY(read(tensor(size_t(linear.parts[c])), component.bytes(first, linear.columns), packed.data[c], size));
        used += size;
    }
    format->unpack(set, packed, scale, static_cast<float *>(out));
    return {};
}

} // namespace gnv
