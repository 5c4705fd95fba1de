#include "quantize/packing/device_packer.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace gnv {

namespace {

constexpr uint64_t largest_piece = 32 << 20;
constexpr uint64_t device_share = 16, host_share = 8; // of the budgets: at most 1 / this
constexpr uint64_t work_share = 8, units_at_once = 24;

// Rows of a module in a piece: the places of the components, from `at` on, and their bytes.
uint64_t place(const Format & format, const LinearModule & linear, int64_t rows, uint64_t at,
               std::array<uint64_t, most_components> * data = nullptr) {
    uint64_t bytes = 0;
    for (size_t c = 0; c < format.components.size(); c++) {
        if (format.components[c].scope != FormatComponent::Scope::rows) continue;
        if (data) (*data)[c] = at + bytes;
        bytes += device_aligned(format.components[c].bytes(rows, linear.columns));
    }
    return bytes;
}

} // namespace

// --- Memory -------------------------------------------------------------------------------------------------------------------

DevicePacker::Size DevicePacker::size_for(const Plan & plan, uint64_t device_budget, uint64_t host_budget,
                                          Backend * device) {
    uint64_t widest_row = 0, units = 0;
    std::map<int32_t, uint64_t> of_block;
    for (const PlanModule & module : plan.modules) {
        const LinearModule & linear = plan.linear(module);
        if (linear.part != gnv::Part::text) continue; // no group of a pass has its weights
        widest_row = std::max(widest_row, place(plan.format(module), linear, 1, 0));
        of_block[linear.layer] += place(plan.format(module), linear, linear.rows, 0);
    }
    uint64_t largest_block = 0;
    for (const auto & [layer, bytes] : of_block) largest_block = std::max(largest_block, bytes);
    for (const PlanUnit & unit : plan.units) units += unit.quantize;
    Size size;
    size.maxima_bytes = device_aligned(units * sizeof(uint32_t));
    const uint64_t budget = std::min(device_budget / device_share, host_budget / host_share);
    if (largest_block == 0 || budget < size.maxima_bytes + 2 * widest_row) return size;
    const uint64_t room = budget - size.maxima_bytes;
    size.piece_bytes = std::min({largest_piece, device_aligned(std::max(largest_block, widest_row)),
                                 room / 2 / device_alignment * device_alignment});
    size.piece_bytes = std::max(size.piece_bytes, widest_row);
    // One piece being filled and one being written, and the loss at the ends of modules.
    const uint64_t wanted = largest_block / size.piece_bytes + 3;
    size.pieces = uint32_t(std::min(wanted, room / size.piece_bytes));
    uint64_t work = 0; // for the widest unit
    for (const PlanModule & module : plan.modules) {
        DeviceQuantizer * const quantizer =
            device ? device->quantizer(plan.quantizer().name(), plan.format(module)) : nullptr;
        if (quantizer) work = std::max(work, quantizer->work_bytes(plan.linear(module).columns));
    }
    size.work_bytes = std::max(work, std::min(units_at_once * work, device_budget / work_share));
    return size;
}

Result<std::unique_ptr<DevicePacker>> DevicePacker::create(Backend & device, const Plan & plan, const Size & size) {
    GNV_CHECK(size.pieces > 0);
    std::unique_ptr<DevicePacker> packer(new DevicePacker(device, plan, size));
    packer->free_slots_.resize(size.pieces);
    std::iota(packer->free_slots_.begin(), packer->free_slots_.end(), 0);
    GNV_ASSIGN(packer->device_memory_, device.allocate(size.device_bytes()));
    GNV_ASSIGN(packer->host_memory_, device.allocate_host(size.host_bytes()));
    return packer;
}

DevicePacker::~DevicePacker() {
    GNV_CHECK(free_slots_.size() == size_.pieces || !host_memory_); // all pieces are destroyed
    (void)device_.synchronize(Queue::compute);                      // queued work must end before memory is freed
    (void)device_.synchronize(Queue::download);
}

uint8_t * DevicePacker::host(uint32_t slot) const {
    return static_cast<uint8_t *>(host_memory_.get()) + slot * size_.piece_bytes;
}
uint8_t * DevicePacker::on_device(uint32_t slot) const {
    return static_cast<uint8_t *>(device_memory_.get()) + slot * size_.piece_bytes;
}

std::shared_ptr<DevicePacker::Piece> DevicePacker::next_piece() {
    auto piece = std::make_shared<Piece>(*this);
    std::unique_lock<std::mutex> lock(mutex_);
    released_.wait(lock, [&] { return !free_slots_.empty(); });
    piece->slot_ = free_slots_.back();
    free_slots_.pop_back();
    return piece;
}

void DevicePacker::release(uint32_t slot) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        free_slots_.push_back(slot); // within the reserved capacity
    }
    released_.notify_all();
}

// --- Packing ------------------------------------------------------------------------------------------------------------------

const uint16_t * DevicePacker::weights_of(const LinearModule & linear, const WeightGroup & weights) const {
    const uint8_t * const data = weights.source_bytes(linear.source, linear.offset, plan_.weight_bytes(linear));
    return reinterpret_cast<const uint16_t *>(data);
}

bool DevicePacker::can_pack(const PlanUnit & unit, const WeightGroup & weights) const {
    if (!unit.quantize) return false;
    const DeviceQuantizer * const quantizer = quantizer_for(plan_.format(unit));
    const int64_t columns = plan_.linear(plan_.modules[unit.first]).columns;
    if (!quantizer || quantizer->work_bytes(columns) > size_.work_bytes) return false;
    for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
        const LinearModule & linear = plan_.linear(plan_.modules[m]);
        const uint16_t * const data = weights_of(linear, weights);
        const bool is_aligned = reinterpret_cast<uintptr_t>(data) % 16 == 0; // for the codec's kernels
        if (plan_.source_of(linear).dtype != DType::bf16 || !data || !is_aligned) return false;
    }
    return true;
}

Status DevicePacker::find_scales(const std::vector<uint32_t> & units, const WeightGroup & weights,
                                 const std::function<Status(uint32_t unit)> & not_finite, std::vector<float> & scales) {
    auto * const maxima = reinterpret_cast<uint32_t *>(on_device(size_.pieces));
    auto * const found = reinterpret_cast<uint32_t *>(host(size_.pieces));
    GNV_CHECK(units.size() * sizeof(uint32_t) <= size_.maxima_bytes);
    device_.clear(maxima, units.size() * sizeof(uint32_t));
    {
        uint64_t bytes = 0;
        std::map<DeviceQuantizer *, std::vector<WeightsToMeasure>> lists;
        for (size_t u = 0; u < units.size(); u++) {
            const PlanUnit & unit = plan_.units[units[u]];
            bytes += unit.source_bytes;
            for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
                const LinearModule & linear = plan_.linear(plan_.modules[m]);
                lists[quantizer_for(plan_.format(unit))].push_back(
                    {weights_of(linear, weights), linear.rows * linear.columns, maxima + u});
            }
        }
        const BackendSpan span(device_, "absolute maximum", {0, double(bytes)});
        for (const auto & [quantizer, list] : lists) quantizer->measure(list);
    }
    device_.download(found, maxima, units.size() * sizeof(uint32_t));
    GNV_TRY(device_.synchronize());
    constexpr uint32_t infinity = 0x7f80;
    for (size_t u = 0; u < units.size(); u++) {
        if (found[u] >= infinity) return not_finite(units[u]);
        const UnitMeasure measure{nvfp4::bf16_to_float(uint16_t(found[u]))};
        GNV_ASSIGN(const UnitScale scale,
                   plan_.quantizer().prepare(plan_.format(plan_.units[units[u]]), DType::bf16, measure, {}));
        scales.push_back(scale.value);
    }
    return {};
}

// Packs the parts of the piece and sends them to the host; the device's other work does not wait for the copy.
Status DevicePacker::send(std::shared_ptr<Piece> piece, const WeightGroup & weights, const UnitStatistics * statistics,
                          const Receiver & receiver) {
    uint8_t * const out = on_device(piece->slot_);
    uint64_t source_bytes = 0, packed = 0;
    std::vector<WeightsToPack> list; // one for each part
    for (const Part & part : piece->parts_) {
        const PlanModule & module = plan_.modules[part.module];
        const LinearModule & linear = plan_.linear(module);
        const Format & format = plan_.format(module);
        source_bytes += uint64_t(part.rows) * plan_.row_bytes(linear);
        packed = part.data[0] + place(format, linear, part.rows, 0);
        PackedRows rows{part.rows, linear.columns, {}};
        for (size_t c = 0; c < format.components.size(); c++)
            if (format.components[c].scope == FormatComponent::Scope::rows) rows.data[c] = out + part.data[c];
        list.push_back({weights_of(linear, weights) + part.row * linear.columns, rows, part.scale});
    }
    {
        const BackendSpan span(device_, "pack", {0, double(source_bytes + packed)});
        if (!plan_.quantizer().needs().empty()) {
            GNV_TRY(pack_units(piece->parts_, list, statistics, receiver));
        } else {
            std::map<DeviceQuantizer *, std::vector<WeightsToPack>> lists;
            for (size_t i = 0; i < list.size(); i++)
                lists[quantizer_for(plan_.format(plan_.modules[piece->parts_[i].module]))].push_back(list[i]);
            for (const auto & [quantizer, some] : lists) quantizer->pack(some);
        }
    }
    device_.order(Queue::compute, Queue::download);
    device_.download(host(piece->slot_), out, packed, Queue::download);
    piece->arrived_ = device_.fence(Queue::download);
    return receiver.take(std::move(piece));
}

// Parts of one unit are neighbours.
Status DevicePacker::pack_units(const std::vector<Part> & parts, const std::vector<WeightsToPack> & weights,
                                const UnitStatistics * statistics, const Receiver & receiver) {
    std::map<DeviceQuantizer *, std::vector<UnitToPack>> lists;
    std::map<DeviceQuantizer *, std::vector<uint32_t>> modules; // of the weights in them, in their order
    for (size_t i = 0; i < parts.size(); i++) {
        const PlanUnit & unit = plan_.units[parts[i].unit];
        DeviceQuantizer * const quantizer = quantizer_for(plan_.format(unit));
        std::vector<UnitToPack> & list = lists[quantizer];
        if (i == 0 || parts[i - 1].unit != parts[i].unit) {
            const UnitInputs inputs = statistics ? statistics->find(unit) : UnitInputs();
            UnitToPack & one = list.emplace_back();
            one.own = UnitStatistics::moments_of(inputs.own);
            one.layer = UnitStatistics::moments_of(inputs.layer);
        }
        list.back().weights.push_back(weights[i]);
        modules[quantizer].push_back(parts[i].module);
    }
    for (auto & [quantizer, list] : lists) {
        GNV_TRY(quantizer->pack_units(list, work(), size_.work_bytes));
        auto module = modules[quantizer].begin();
        for (const UnitToPack & unit : list)
            for (const MethodChoices & rows : unit.choices) {
                if (receiver.choices) receiver.choices(*module, rows);
                ++module;
            }
    }
    return {};
}

Status DevicePacker::pack(const std::vector<uint32_t> & units, const WeightGroup & weights,
                          const UnitStatistics * statistics, const Receiver & receiver) {
    if (units.empty()) return {};
    std::vector<float> scales;
    GNV_TRY(find_scales(units, weights, receiver.not_finite, scales));
    std::shared_ptr<Piece> piece;
    uint64_t used = 0;
    for (size_t u = 0; u < units.size(); u++) {
        const PlanUnit & unit = plan_.units[units[u]];
        for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
            const LinearModule & linear = plan_.linear(plan_.modules[m]);
            const Format & format = plan_.format(unit);
            int64_t rows = 0;
            for (int64_t row = 0; row < linear.rows; row += rows) {
                // A module that fits into a piece of its own is not cut.
                const auto fits = [&](int64_t count) {
                    return used + place(format, linear, count, used) <= size_.piece_bytes;
                };
                rows = linear.rows - row;
                if (piece && !fits(rows)) GNV_TRY(send(std::move(piece), weights, statistics, receiver));
                if (!piece) {
                    piece = next_piece();
                    used = 0;
                }
                while (!fits(rows)) rows = (rows + 1) / 2;
                Part & part = piece->parts_.emplace_back(Part{units[u], m, row, rows, {}, scales[u]});
                used += place(format, linear, rows, used, &part.data);
            }
        }
    }
    return piece ? send(std::move(piece), weights, statistics, receiver) : Status();
}

} // namespace gnv
