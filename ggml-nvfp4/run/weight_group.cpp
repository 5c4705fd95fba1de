#include "run/weight_group.h"

#include "codec/nvfp4.h"
#include "core/memory.h"

#include <algorithm>
#include <cstring>

namespace gnv {

static constexpr uint64_t largest_read = 8 << 20; // so that all threads have something to do

Result<WeightGroup> WeightGroup::plan(const WeightCatalog & catalog, const std::vector<WeightRef> & refs) {
    WeightGroup group;
    for (const WeightRef & ref : refs) {
        const bool known = std::any_of(group.entries_.begin(), group.entries_.end(),
                                       [&](const Entry & entry) { return entry.ref.key() == ref.key(); });
        if (known) continue;
        Entry entry;
        entry.ref = ref;
        GNV_ASSIGN(entry.spec, catalog.spec(ref));
        GNV_ASSIGN(entry.parts, catalog.parts(ref));
        const auto place = [&](uint64_t & offset, uint64_t bytes) {
            offset = group.bytes_;
            group.bytes_ += rounded_to_64(bytes);
        };
        place(entry.data, entry.parts.data_bytes);
        place(entry.block_scales, entry.parts.block_scale_bytes);
        place(entry.global_scales, entry.parts.global_scale_bytes);
        place(entry.input_scales, entry.parts.input_scale_bytes);
        group.entries_.push_back(std::move(entry));
    }
    return group;
}

std::vector<WeightGroup::Read> WeightGroup::reads() const {
    std::vector<Read> list;
    const auto add = [&](const std::vector<WeightPiece> & pieces, uint64_t to) {
        for (const WeightPiece & piece : pieces) {
            const uint64_t step = piece.widen ? piece.bytes : largest_read;
            for (uint64_t done = 0; done < piece.bytes; done += step) {
                const uint64_t bytes = std::min(step, piece.bytes - done);
                list.push_back({{piece.tensor, piece.offset + done, bytes, piece.widen}, to + done});
            }
            to += piece.widen ? piece.bytes * 2 : piece.bytes;
        }
    };
    for (const Entry & entry : entries_) {
        add(entry.parts.data, entry.data);
        add(entry.parts.block_scales, entry.block_scales);
        add(entry.parts.global_scales, entry.global_scales);
        add(entry.parts.input_scales, entry.input_scales);
    }
    return list;
}

// 16-bit elements that stand in the second half of [to, to + 2 bytes) become F32, front to back: an element is read before
// its place is written over.
static void widen_in_place(uint8_t * to, uint64_t bytes, DType dtype) {
    const uint8_t * from = to + bytes;
    for (uint64_t i = 0; i < bytes / 2; i++) {
        uint16_t bits;
        memcpy(&bits, from + i * 2, sizeof bits);
        const float value = dtype == DType::bf16 ? nvfp4::bf16_to_float(bits) : nvfp4::f16_to_float(bits);
        memcpy(to + i * 4, &value, sizeof value);
    }
}

Status WeightGroup::load(const WeightCatalog & catalog, const FolderFiles & files, void * memory, ThreadPool & threads,
                         Trace * trace) {
    memory_ = static_cast<uint8_t *>(memory);
    const std::vector<Read> list = reads();
    return threads.parallel_for(int64_t(list.size()), [&](int64_t i) -> Status {
        const Read & read = list[size_t(i)];
        const TensorInfo & info = catalog.checkpoint().tensors()[read.piece.tensor];
        uint8_t * const to = memory_ + read.to;
        const Span span(trace, "reader", "read", {0, double(read.piece.bytes)});
        GNV_TRY(
            files[info.shard]
                ->read(read.piece.widen ? to + read.piece.bytes : to, read.piece.bytes, info.offset + read.piece.offset)
                .add_context(catalog.checkpoint().describe(info)));
        if (read.piece.widen) widen_in_place(to, read.piece.bytes, info.dtype);
        return {};
    });
}

WeightGroup WeightGroup::copy_at(void * memory) const {
    WeightGroup copy = *this;
    copy.memory_ = static_cast<uint8_t *>(memory);
    return copy;
}

void WeightGroup::will_need(const WeightCatalog & catalog, const FolderFiles & files) const {
    for (const Read & read : reads()) {
        const TensorInfo & info = catalog.checkpoint().tensors()[read.piece.tensor];
        files[info.shard]->will_need(info.offset + read.piece.offset, read.piece.bytes);
    }
}

const WeightGroup::Entry & WeightGroup::entry(const WeightRef & ref) const {
    for (const Entry & entry : entries_)
        if (entry.ref.key() == ref.key()) return entry;
    GNV_CHECK(!"a weight that is not in its group");
    return entries_.front();
}

Tensor WeightGroup::find(const WeightRef & ref) const {
    const Entry & held = entry(ref);
    Tensor tensor;
    tensor.dtype = held.spec.dtype;
    tensor.shape = held.spec.shape;
    uint64_t first = 0, elements_each = uint64_t(tensor.shape.elements());
    int64_t rows_each = tensor.shape.rank == 2 ? tensor.shape[0] : 0;
    if (ref.expert_count > 0) {
        first = uint64_t(ref.first_expert - held.ref.first_expert);
        GNV_CHECK(int64_t(first) + ref.expert_count <= held.ref.expert_count);
        rows_each = held.spec.shape[1];
        elements_each = uint64_t(rows_each * held.spec.shape[2]);
        tensor.shape = ref.flat ? Shape{ref.expert_count * rows_each, held.spec.shape[2]}
                                : Shape{ref.expert_count, rows_each, held.spec.shape[2]};
    }
    tensor.data = memory_ + held.data + first * elements_each * uint64_t(dtype_traits(tensor.dtype).bits) / 8;
    if (tensor.dtype == DType::f4) {
        tensor.block_scales = memory_ + held.block_scales + first * elements_each / nvfp4::block_size;
        tensor.global_scales = reinterpret_cast<const float *>(memory_ + held.global_scales) + first;
        tensor.global_scale_rows = rows_each;
    }
    return tensor;
}

Tensor WeightGroup::input_scale(const WeightRef & ref) const {
    const Entry & held = entry(ref);
    Tensor tensor;
    tensor.shape = {std::max(ref.expert_count, 1)};
    const int32_t first = ref.expert_count > 0 ? ref.first_expert - held.ref.first_expert : 0;
    tensor.data = reinterpret_cast<float *>(memory_ + held.input_scales) + first;
    return tensor;
}

const uint8_t * WeightGroup::source_bytes(uint32_t tensor, uint64_t offset, uint64_t bytes) const {
    for (const Entry & entry : entries_) {
        uint64_t at = entry.data;
        for (const WeightPiece & piece : entry.parts.data) {
            if (piece.tensor == tensor && !piece.widen && piece.offset <= offset &&
                offset + bytes <= piece.offset + piece.bytes)
                return memory_ + at + (offset - piece.offset);
            at += piece.widen ? piece.bytes * 2 : piece.bytes;
        }
    }
    return nullptr;
}

} // namespace gnv
