// The order of work: as many units at a time as memory takes.
//
//   totals ─► finite? diagonals ─► host: shares, order of blocks ─► panels, factors ─► host: again with more damping where
//   that failed ─► tiles of rows: packed to nearest, then method after method for rows that have not won yet
#include "cuda/moment_pack.cuh"

#include "codec/moment_blend.h"
#include "cuda/moment_work.cuh"
#include "cuda/nvfp4_pack.cuh"
#include "exec/backend.h"

#include <algorithm>
#include <vector>

namespace gnv::cuda {

namespace {

constexpr int choice_count = method_count + 2; // rows by method, judged, error_parts
constexpr uint64_t choice_bytes = choice_count * sizeof(unsigned long long);
constexpr int least_tiles = 8;        // that there is memory for
constexpr int64_t most_modules = 256; // of a unit: q, k and v are three

// Memory that is handed out from the front. Without memory it counts.
class Region {
  public:
    explicit Region(void * memory) : memory_(static_cast<uint8_t *>(memory)) {}
    template <class T>
    T * take(int64_t count) {
        auto * const at = memory_ ? reinterpret_cast<T *>(memory_ + used_) : nullptr;
        used_ += device_aligned(uint64_t(count) * sizeof(T));
        return at;
    }
    uint64_t used() const { return used_; }

  private:
    uint8_t * memory_;
    uint64_t used_ = 0;
};

struct Shape {
    int64_t columns;
    bool is_full;
    int64_t elements() const { return columns * (is_full ? columns : 16); } // of a total
    int64_t blocks() const { return columns / 16; }
};

// What a unit has of its own. `copies` are for totals that are in host memory.
void place_unit(Region & region, const Shape & shape, MomentUnit & unit, float * (&copies)[2]) {
    const int64_t n = shape.columns;
    for (float *& copy : copies) copy = region.take<float>(shape.elements());
    unit.order = region.take<int32_t>(shape.blocks());
    unit.flags = region.take<uint32_t>(1);
    unit.diagonals = region.take<float>(2 * n);
    unit.local = region.take<float>(n * 16);
    unit.held_panels = region.take<float>(shape.elements());
    if (!shape.is_full) return;
    unit.full = region.take<float>(n * n);
    unit.upper = region.take<float>(n * (n + 16) / 2);
    unit.diagonal = region.take<float>(n);
    unit.local_upper = region.take<float>(n * 16);
    unit.local_inverse = region.take<float>(n * 16);
    unit.local_diagonal = region.take<float>(n);
}
// What it needs while it is factored; rows take the same memory afterwards.
void place_matrix(Region & region, const Shape & shape, MomentUnit & unit) {
    if (!shape.is_full) return;
    unit.matrix = region.take<double>(shape.columns * shape.columns);
    unit.rows = region.take<double>(factor_panel * shape.columns);
}
void place_tile(Region & region, const Shape & shape, RowTile & tile) {
    for (float ** const columns : {&tile.values, &tile.differences, &tile.products})
        *columns = region.take<float>(shape.columns * tile_rows);
    tile.found_codes = region.take<uint2>(shape.blocks() * tile_rows);
    tile.found_scales = region.take<uint8_t>(shape.blocks() * tile_rows);
    tile.nearest = region.take<double>(tile_rows);
    tile.errors = region.take<double>(tile_rows);
    tile.state = region.take<uint8_t>(tile_rows);
}

struct Bytes {
    uint64_t total, unit, matrix, tile; // of the layer's total; of a unit; while it is factored; of a tile
    explicit Bytes(const Shape & shape) {
        MomentUnit some_unit = {};
        RowTile some_tile = {};
        float * copies[2];
        Region of_unit(nullptr), of_matrix(nullptr), of_tile(nullptr), of_total(nullptr);
        place_unit(of_unit, shape, some_unit, copies);
        place_matrix(of_matrix, shape, some_unit);
        place_tile(of_tile, shape, some_tile);
        of_total.take<float>(shape.elements());
        total = of_total.used();
        unit = of_unit.used() + device_aligned(sizeof(MomentUnit));
        matrix = of_matrix.used();
        tile = of_tile.used() + device_aligned(sizeof(RowTile));
    }
    // With so many units and modules at a time, and the least number of tiles.
    uint64_t with(int64_t units, int64_t modules) const {
        return total + uint64_t(units) * unit + device_aligned(uint64_t(modules) * choice_bytes) +
               std::max(uint64_t(units) * matrix, least_tiles * tile);
    }
};

template <class T>
cudaError_t send(cudaStream_t stream, const T * to, const T * from, int64_t count) {
    return cudaMemcpyAsync(const_cast<T *>(to), from, size_t(count) * sizeof(T), cudaMemcpyDefault, stream);
}

bool is_on_device(const void * memory) {
    cudaPointerAttributes attributes = {};
    return cudaPointerGetAttributes(&attributes, memory) == cudaSuccess && attributes.type == cudaMemoryTypeDevice;
}

// Units with as many columns and one layer.
class MomentPacking {
  public:
    MomentPacking(cudaStream_t stream, int processors, const Shape & shape, std::span<UnitToPack> units, void * work,
                  uint64_t bytes)
        : stream_(stream), processors_(processors), shape_(shape), given_(units), work_(work), bytes_(bytes),
          units_(units.size()), weights_(units.size()) {}

    cudaError_t run() {
        if (const cudaError_t error = place()) return error;
        if (const cudaError_t error = blend()) return error;
        if (const cudaError_t error = make_states()) return error;
        if (const cudaError_t error = pack_rows()) return error;
        return take_choices();
    }

  private:
    cudaError_t send_units() { return send(stream_, device_units_, units_.data(), int64_t(units_.size())); }
    cudaError_t take_flags() {
        flags_.resize(units_.size());
        for (size_t u = 0; u < units_.size(); u++)
            if (const cudaError_t error = send(stream_, &flags_[u], units_[u].flags, 1)) return error;
        return cudaStreamSynchronize(stream_);
    }
    MomentBatch batch() const {
        return {stream_, device_units_, int(units_.size()), int(shape_.columns), shape_.is_full};
    }
    cudaError_t place();
    cudaError_t place_total(const float * given, float * copy, const float *& there);
    cudaError_t blend();
    cudaError_t make_states();
    cudaError_t factor_units();
    cudaError_t pack_rows();
    cudaError_t pack_tiles(std::vector<RowTile> & tiles);
    cudaError_t take_choices();

    const cudaStream_t stream_;
    const int processors_;
    const Shape shape_;
    const std::span<UnitToPack> given_;
    void * const work_;
    const uint64_t bytes_;

    std::vector<MomentUnit> units_;
    struct Weights {
        double own[3] = {}, layer[3] = {};
    };
    std::vector<Weights> weights_;
    std::vector<uint32_t> flags_;
    MomentUnit * device_units_ = nullptr;
    unsigned long long * choices_ = nullptr; // [modules][choice_count]
    uint64_t rest_ = 0;                      // where memory begins that is for matrices first, then for rows
};

cudaError_t MomentPacking::place_total(const float * given, float * copy, const float *& there) {
    there = given;
    if (!given || is_on_device(given)) return cudaSuccess;
    there = copy;
    return send(stream_, copy, given, shape_.elements());
}

cudaError_t MomentPacking::place() {
    Region region(work_);
    device_units_ = region.take<MomentUnit>(int64_t(units_.size()));
    int64_t modules = 0;
    for (const UnitToPack & unit : given_) modules += int64_t(unit.weights.size());
    choices_ = region.take<unsigned long long>(modules * choice_count);
    if (const cudaError_t error = cudaMemsetAsync(choices_, 0, size_t(modules) * choice_bytes, stream_)) return error;
    const float * layer = nullptr;
    if (const cudaError_t error =
            place_total(given_.front().layer.fitted, region.take<float>(shape_.elements()), layer))
        return error;
    for (size_t u = 0; u < units_.size(); u++) {
        MomentUnit & unit = units_[u];
        const UnitToPack & given = given_[u];
        unit = {};
        unit.columns = int32_t(shape_.columns);
        unit.is_full = shape_.is_full;
        float * copies[2];
        place_unit(region, shape_, unit, copies);
        unit.layer = layer;
        if (const cudaError_t error = place_total(given.own.fitted, copies[0], unit.own)) return error;
        if (const cudaError_t error = place_total(given.own.held, copies[1], unit.held)) return error;
        for (const auto & [from, to] :
             {std::pair(given.own.weights, weights_[u].own), std::pair(given.layer.weights, weights_[u].layer)})
            if (from)
                if (const cudaError_t error = send(stream_, to, from, 3)) return error;
        if (const cudaError_t error = cudaMemsetAsync(unit.flags, 0, sizeof(uint32_t), stream_)) return error;
    }
    rest_ = region.used();
    Region rest(static_cast<uint8_t *>(work_) + rest_);
    for (MomentUnit & unit : units_) place_matrix(rest, shape_, unit);
    GNV_CHECK(rest_ + rest.used() <= bytes_);
    return cudaSuccess;
}

cudaError_t MomentPacking::blend() {
    if (const cudaError_t error = send_units()) return error;
    if (const cudaError_t error = look_at_totals(batch())) return error;
    const int64_t n = shape_.columns;
    std::vector<float> diagonals(units_.size() * size_t(2 * n));
    for (size_t u = 0; u < units_.size(); u++)
        if (const cudaError_t error = send(stream_, diagonals.data() + int64_t(u) * 2 * n, units_[u].diagonals, 2 * n))
            return error;
    if (const cudaError_t error = take_flags()) return error;
    for (size_t u = 0; u < units_.size(); u++) {
        MomentUnit & unit = units_[u];
        const float * const diagonal = diagonals.data() + int64_t(u) * 2 * n;
        const auto inputs = [&](const float * total, const double * given, const double * weights, uint32_t bad,
                                const float * from) -> MomentInputs {
            if (!total || (flags_[u] & bad) != 0) return {};
            return {given ? weights : nullptr, std::span(from, size_t(n))};
        };
        const UnitToPack & given = given_[u];
        const MomentBlend blend = blend_moments(
            n, inputs(unit.own, given.own.weights, weights_[u].own, own_not_finite, diagonal),
            inputs(unit.layer, given.layer.weights, weights_[u].layer, layer_not_finite, diagonal + n), shape_.is_full);
        unit.own_share = blend.own_share;
        unit.layer_share = blend.layer_share;
        unit.mean = blend.mean;
        unit.damping = blend.damping;
        unit.has_local = blend.is_usable;
        unit.is_judged = blend.is_usable && unit.held && (flags_[u] & held_not_finite) == 0;
        unit.is_factored = blend.is_usable && shape_.is_full;
        if (const cudaError_t error = send(stream_, unit.order, blend.order.data(), shape_.blocks())) return error;
    }
    return cudaSuccess;
}

cudaError_t MomentPacking::make_states() {
    if (const cudaError_t error = send_units()) return error;
    if (const cudaError_t error = make_panels(batch())) return error;
    if (shape_.is_full) {
        if (const cudaError_t error = factor_units()) return error;
    } else if (const cudaError_t error = take_flags()) {
        return error;
    }
    for (size_t u = 0; u < units_.size(); u++) {
        MomentUnit & unit = units_[u];
        unit.has_local = unit.has_local && (flags_[u] & local_not_finite) == 0;
        unit.has_full = unit.has_full && unit.has_local;
        unit.is_judged = unit.is_judged && unit.has_local && (flags_[u] & held_not_zero) != 0;
    }
    return send_units();
}

// Those that fail are factored again with ten times the damping.
cudaError_t MomentPacking::factor_units() {
    for (int attempt = 0; attempt < factor_attempts; attempt++) {
        if (const cudaError_t error = factor(batch())) return error;
        if (const cudaError_t error = take_flags()) return error;
        bool again = false;
        for (size_t u = 0; u < units_.size(); u++) {
            MomentUnit & unit = units_[u];
            if (!unit.is_factored) continue;
            unit.has_full = (flags_[u] & not_factored) == 0;
            unit.is_factored = !unit.has_full;
            again = again || unit.is_factored;
            if (!unit.is_factored) continue;
            unit.damping *= 10;
            flags_[u] &= ~uint32_t(not_factored);
            if (const cudaError_t error = send(stream_, unit.flags, &flags_[u], 1)) return error;
        }
        if (!again) break;
        if (const cudaError_t error = send_units()) return error;
    }
    return cudaSuccess;
}

cudaError_t MomentPacking::pack_rows() {
    std::vector<WeightsToPack> weights;
    for (const UnitToPack & unit : given_) weights.insert(weights.end(), unit.weights.begin(), unit.weights.end());
    if (const cudaError_t error = nvfp4_pack(stream_, processors_, weights)) return error;
    const auto most = size_t((bytes_ - rest_) / Bytes(shape_).tile);
    std::vector<RowTile> tiles;
    unsigned long long * choices = choices_;
    for (size_t u = 0; u < units_.size(); u++)
        for (const WeightsToPack & one : given_[u].weights) {
            for (int64_t row = 0; row < one.packed.rows; row += tile_rows) {
                RowTile tile = {};
                tile.unit = uint32_t(u);
                tile.rows = int32_t(std::min<int64_t>(tile_rows, one.packed.rows - row));
                tile.weights = one.weights + row * shape_.columns;
                tile.codes = one.packed.data[0] + row * shape_.columns / 2;
                tile.scales = one.packed.data[1] + row * shape_.blocks();
                tile.global = one.scale;
                tile.choices = choices;
                tiles.push_back(tile);
                if (tiles.size() < most) continue;
                if (const cudaError_t error = pack_tiles(tiles)) return error;
                tiles.clear();
            }
            choices += choice_count;
        }
    return tiles.empty() ? cudaSuccess : pack_tiles(tiles);
}

cudaError_t MomentPacking::pack_tiles(std::vector<RowTile> & tiles) {
    Region region(static_cast<uint8_t *>(work_) + rest_);
    auto * const there = region.take<RowTile>(int64_t(tiles.size()));
    for (RowTile & tile : tiles) place_tile(region, shape_, tile);
    GNV_CHECK(rest_ + region.used() <= bytes_);
    if (const cudaError_t error = send(stream_, there, tiles.data(), int64_t(tiles.size()))) return error;
    const TileBatch batch = {stream_, device_units_, there, int(tiles.size()), int(shape_.columns)};
    if (const cudaError_t error = load_rows(batch)) return error;
    if (const cudaError_t error = take_nearest(batch)) return error;
    for (const int method : {method_gptq, method_hessian, method_mse, method_rtn})
        if (const cudaError_t error = try_method(batch, method)) return error;
    return cudaSuccess;
}

cudaError_t MomentPacking::take_choices() {
    size_t modules = 0;
    for (const UnitToPack & unit : given_) modules += unit.weights.size();
    std::vector<unsigned long long> choices(modules * choice_count);
    if (const cudaError_t error = send(stream_, choices.data(), choices_, int64_t(choices.size()))) return error;
    if (const cudaError_t error = cudaStreamSynchronize(stream_)) return error;
    const unsigned long long * found = choices.data();
    for (UnitToPack & unit : given_) {
        unit.choices.assign(unit.weights.size(), {});
        for (MethodChoices & rows : unit.choices) {
            std::copy_n(found, size_t(method_count), rows.rows);
            rows.judged = found[method_count];
            rows.error_parts = found[method_count + 1];
            found += choice_count;
        }
    }
    return cudaSuccess;
}

int64_t columns_of(const UnitToPack & unit) { return unit.weights.empty() ? 0 : unit.weights.front().packed.columns; }

} // namespace

uint64_t moment_work_bytes(int64_t columns, bool is_full) { return Bytes({columns, is_full}).with(1, most_modules); }

cudaError_t nvfp4_pack_by_moments(cudaStream_t stream, int processors, bool is_full, std::span<UnitToPack> units,
                                  void * work, uint64_t work_bytes) {
    for (size_t first = 0; first < units.size();) {
        const UnitToPack & unit = units[first];
        const Shape shape = {columns_of(unit), is_full};
        if (shape.columns == 0) {
            first++;
            continue;
        }
        const Bytes bytes(shape);
        auto modules = int64_t(unit.weights.size());
        GNV_CHECK(bytes.with(1, modules) <= work_bytes);
        size_t count = 1;
        for (; first + count < units.size(); count++) {
            const UnitToPack & next = units[first + count];
            modules += int64_t(next.weights.size());
            if (columns_of(next) != shape.columns || next.layer.fitted != unit.layer.fitted ||
                bytes.with(int64_t(count) + 1, modules) > work_bytes)
                break;
        }
        MomentPacking packing(stream, processors, shape, units.subspan(first, count), work, work_bytes);
        if (const cudaError_t error = packing.run()) return error;
        first += count;
    }
    return cudaSuccess;
}

} // namespace gnv::cuda
