#include "run/weight_group.h"

#include "codec/compact_bf16_layout.h"
#include "core/memory.h"
#include "core/serial.h"
#include "model/weight_source.h"

#include <algorithm>

namespace gnv {

static constexpr uint64_t largest_read = 8 << 20; // so that all threads have work

Result<WeightGroup> WeightGroup::plan(const WeightCatalog & catalog, const std::vector<WeightRef> & refs) {
    WeightGroup group;
    group.layout_ = next_serial();
    for (const WeightRef & ref : refs) {
        const bool known = std::any_of(group.entries_.begin(), group.entries_.end(),
                                       [&](const Entry & entry) { return entry.ref.key() == ref.key(); });
        if (known) continue;
        Entry entry;
        entry.ref = ref;
        GNV_ASSIGN(entry.spec, catalog.spec(ref));
        GNV_ASSIGN(entry.parts, catalog.parts(ref));
        for (size_t c = 0; c < most_components; c++) {
            entry.sections[c] = group.bytes_;
            group.bytes_ += rounded_to_64(entry.parts.sections[c].bytes);
        }
        group.entries_.push_back(std::move(entry));
    }
    return group;
}

std::vector<WeightGroup::Read> WeightGroup::reads() const {
    std::vector<Read> list;
    for (const Entry & entry : entries_)
        for (size_t c = 0; c < most_components; c++) {
            uint64_t to = entry.sections[c];
            for (const WeightPiece & piece : entry.parts.sections[c].pieces) {
                const uint64_t step = piece.widen ? piece.bytes : largest_read;
                for (uint64_t done = 0; done < piece.bytes; done += step) {
                    const uint64_t bytes = std::min(step, piece.bytes - done);
                    list.push_back(
                        {{piece.tensor, piece.offset + done, bytes, piece.widen, piece.fp8_scales}, to + done});
                }
                to += piece.memory_bytes();
            }
        }
    return list;
}

Status WeightGroup::read(const Read & read, const WeightCatalog & catalog, const FolderFiles & files,
                         Trace * trace) const {
    const WeightSource source(catalog.checkpoint(), files);
    const auto & [piece, to] = read;
    const TensorInfo & info = source.tensor(piece.tensor);
    const Span span(trace, "reader", "read", {0, double(piece.bytes)});
    if (piece.fp8_scales >= 0) return source.read_fp8(info, source.tensor(size_t(piece.fp8_scales)), memory_ + to);
    return piece.widen ? source.read_f32(info, piece.offset, memory_ + to, piece.bytes)
                       : source.read(info, piece.offset, memory_ + to, piece.bytes);
}

Status WeightGroup::read_all(const WeightCatalog & catalog, const FolderFiles & files, ThreadPool & threads,
                             Trace * trace) const {
    const std::vector<Read> list = reads();
    return threads.parallel_for(int64_t(list.size()),
                                [&](int64_t i) { return read(list[size_t(i)], catalog, files, trace); });
}

WeightGroup WeightGroup::at(void * memory) const {
    WeightGroup copy = *this;
    for (Entry & entry : copy.entries_) entry.compact = {};
    copy.memory_ = static_cast<uint8_t *>(memory);
    return copy;
}

void WeightGroup::will_need(const WeightCatalog & catalog, const FolderFiles & files) const {
    const WeightSource source(catalog.checkpoint(), files);
    for (const Read & read : reads())
        source.will_need(source.tensor(read.piece.tensor), read.piece.offset, read.piece.bytes);
}

bool WeightGroup::has(const WeightRef & ref) const {
    return std::any_of(entries_.begin(), entries_.end(),
                       [&](const Entry & entry) { return entry.ref.key() == ref.key(); });
}

const WeightGroup::Entry & WeightGroup::entry(const WeightRef & ref) const {
    for (const Entry & entry : entries_)
        if (entry.ref.key() == ref.key()) return entry;
    GNV_CHECK(!"a weight that is not in its group");
    return entries_.front();
}

Tensor WeightGroup::whole(const Entry & entry) const {
    Tensor tensor;
    tensor.dtype = entry.spec.dtype;
    tensor.shape = entry.spec.shape;
    tensor.data = memory_ + entry.sections[0];
    tensor.compact = entry.compact;
    if (tensor.dtype == DType::f4) tensor.block_scales = memory_ + entry.sections[1];
    return tensor;
}

Status WeightGroup::arrange(Backend & device, const std::vector<WeightRef> & refs) {
    for (Entry & entry : entries_) {
        const bool wanted =
            std::any_of(refs.begin(), refs.end(), [&](const WeightRef & ref) { return ref.key() == entry.ref.key(); });
        if (!wanted || entry.spec.format) continue;
        Tensor weight = whole(entry);
        GNV_TRY(device.arrange(weight));
        entry.compact = weight.compact;
    }
    return {};
}

double WeightGroup::saved_bytes(int64_t chosen_experts) const {
    double saved = 0;
    for (const Entry & entry : entries_) {
        const Tensor weight = whole(entry);
        if (!weight.is_compact()) continue;
        const Shape & shape = weight.shape;
        const double all = double(tensor_bytes(weight.dtype, shape)) -
                           double(compact_bytes(shape.rows(), shape.last(), weight.compact.first));
        const bool is_stack = entry.ref.expert_count > 0;
        saved += is_stack ? all * double(chosen_experts) / double(entry.ref.expert_count) : all;
    }
    return saved;
}

Tensor WeightGroup::find(const WeightRef & ref) const {
    const Entry & held = entry(ref);
    Tensor tensor = whole(held);
    const Shape & shape = held.spec.shape;
    int64_t first = 0, rows_each = shape.rank == 2 ? shape[0] : 0;
    if (ref.expert_count > 0) {
        first = ref.first_expert - held.ref.first_expert;
        GNV_CHECK(first + ref.expert_count <= held.ref.expert_count);
        rows_each = shape[1];
        const Shape part =
            ref.flat ? Shape{ref.expert_count * rows_each, shape[2]} : Shape{ref.expert_count, rows_each, shape[2]};
        tensor = rows_from(tensor, first * rows_each, part);
    }
    if (tensor.dtype == DType::f4) {
        const Format & format = *held.spec.format;
        tensor.global_scales =
            reinterpret_cast<const float *>(memory_ + held.sections[size_t(format.unit_component())]) + first;
        tensor.global_scale_rows = rows_each;
    }
    return tensor;
}

Tensor WeightGroup::input_scale(const WeightRef & ref) const {
    const Entry & held = entry(ref);
    Tensor tensor;
    tensor.shape = {std::max(ref.expert_count, 1)};
    const int32_t first = ref.expert_count > 0 ? ref.first_expert - held.ref.first_expert : 0;
    tensor.data =
        reinterpret_cast<float *>(memory_ + held.sections[size_t(held.spec.format->input_component())]) + first;
    return tensor;
}

int64_t WeightGroup::place_of(uint32_t tensor, uint64_t offset, uint64_t bytes) const {
    for (const Entry & entry : entries_) {
        if (entry.compact.table) continue;
        uint64_t at = entry.sections[0];
        for (const WeightPiece & piece : entry.parts.sections[0].pieces) {
            if (piece.tensor == tensor && !piece.widen && piece.offset <= offset &&
                offset + bytes <= piece.offset + piece.bytes)
                return int64_t(at + (offset - piece.offset));
            at += piece.memory_bytes();
        }
    }
    return -1;
}

bool WeightGroup::holds(uint32_t tensor, uint64_t offset, uint64_t bytes) const {
    return place_of(tensor, offset, bytes) >= 0;
}

const uint8_t * WeightGroup::source_bytes(uint32_t tensor, uint64_t offset, uint64_t bytes) const {
    const int64_t place = place_of(tensor, offset, bytes);
    return place < 0 ? nullptr : memory_ + place;
}

} // namespace gnv
