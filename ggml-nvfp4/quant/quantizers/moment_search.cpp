// Quantizers that weigh errors by second moments of the inputs. Rows are quantized in tiles of 16, each in several ways at
// most: by the method, and by simpler ones where the method does worse than round-to-nearest on inputs that were held back.
#include "codec/nvfp4.h"
#include "quant/quantizers/moments.h"
#include "quant/quantizers/row_tiles.h"

#include <algorithm>

namespace gnv {

namespace {

using Column = float[search_rows];

// One way to quantize the rows of a tile, blocks in the order of visits.
struct Attempt {
    explicit Attempt(int64_t blocks) : results(size_t(blocks)), values(size_t(blocks * search_columns * search_rows)) {}
    std::vector<BlockSearch> results; // codes and scales
    std::vector<float> values;        // [columns][16]
    double errors[search_rows] = {};  // on inputs that were held back

    SearchTile & tile(int64_t block) { return reinterpret_cast<SearchTile *>(values.data())[block]; }
};

// The rows of a tile, and what they are quantized with.
class TileSearch {
  public:
    TileSearch(InstructionSet set, const Format & format, const WeightRows & rows, int64_t row, const UnitScale & scale,
               const MomentState & state)
        : set_(set), format_(format), rows_(rows), row_(row), scale_(scale), state_(state), blocks_(state.blocks()),
          weights_(size_t(blocks_ * search_columns * search_rows)), differences_(weights_.size()) {
        for (int64_t p = 0; p < blocks_; p++)
            load_tile(rows, row, state.order[size_t(p)] * search_columns, weight_tile(p));
    }

    Attempt gptq();
    Attempt hessian();
    Attempt squares();
    Attempt nearest();

    void measure(Attempt & attempt); // fills `errors`

  private:
    SearchTile & weight_tile(int64_t block) { return reinterpret_cast<SearchTile *>(weights_.data())[block]; }
    SearchTile & difference_tile(int64_t block) { return reinterpret_cast<SearchTile *>(differences_.data())[block]; }
    const Column * differences() const { return reinterpret_cast<const Column *>(differences_.data()); }
    void take_difference(Attempt & attempt, int64_t block);
    void search(Attempt & attempt, int64_t block, const SearchTile & weights, const SearchTile * shifts,
                const BlockMetric & metric);
    void descend(Attempt & attempt, int64_t block);

    const InstructionSet set_;
    const Format & format_;
    const WeightRows & rows_;
    const int64_t row_;
    const UnitScale & scale_;
    const MomentState & state_;
    const int64_t blocks_;
    std::vector<float> weights_, differences_; // [columns][16], in the order of visits; w - v
};

using Panel = float[search_columns];
const Panel * panel(const std::vector<float> & panels, int64_t rows, int64_t block) {
    return reinterpret_cast<const Panel *>(panels.data() + block * rows * search_columns);
}

void TileSearch::take_difference(Attempt & attempt, int64_t block) {
    const SearchTile &weights = weight_tile(block), &values = attempt.tile(block);
    SearchTile & out = difference_tile(block);
    for (int k = 0; k < search_columns; k++)
        for (int r = 0; r < search_rows; r++) out[k][r] = weights[k][r] - values[k][r];
}

void TileSearch::search(Attempt & attempt, int64_t block, const SearchTile & weights, const SearchTile * shifts,
                        const BlockMetric & metric) {
    BlockSearch & result = attempt.results[size_t(block)];
    result.weights = &weights;
    result.shifts = shifts;
    result.metric = metric;
    result.values = &attempt.tile(block);
    format_.search(set_, result, scale_.value);
    result.weights = result.shifts = nullptr;
    result.values = nullptr;
}

Attempt TileSearch::squares() {
    Attempt attempt(blocks_);
    for (int64_t p = 0; p < blocks_; p++) search(attempt, p, weight_tile(p), nullptr, {});
    return attempt;
}

Attempt TileSearch::hessian() {
    Attempt attempt(blocks_);
    for (int64_t p = 0; p < blocks_; p++)
        search(attempt, p, weight_tile(p), nullptr,
               {BlockMetric::Kind::matrix, &panel(state_.local, search_columns, p)[0][0], nullptr});
    return attempt;
}

// Block after block, errors of earlier ones shift what the later ones aim at; then each block once more, with all others as
// they are.
Attempt TileSearch::gptq() {
    Attempt attempt(blocks_);
    for (int64_t p = 0; p < blocks_; p++) {
        const auto * const upper = reinterpret_cast<const Panel *>(state_.upper_of(p));
        SearchTile shifts = {};
        add_products(set_, differences(), upper, p * search_columns, shifts);
        search(attempt, p, weight_tile(p), &shifts,
               {BlockMetric::Kind::factor, upper[p * search_columns], state_.diagonal.data() + p * search_columns});
        take_difference(attempt, p);
    }
    for (int64_t p = 0; p < blocks_; p++) descend(attempt, p);
    return attempt;
}

// sum of D_k (d_k + sum over j < k of d_j U_jk)^2 by row
void factor_errors(const SearchTile & target, const SearchTile & values, const Panel * upper, const float * diagonal,
                   float (&errors)[search_rows]) {
    SearchTile left;
    for (int k = 0; k < search_columns; k++)
        for (int r = 0; r < search_rows; r++) left[k][r] = target[k][r] - values[k][r];
    for (int k = search_columns - 1; k >= 0; k--)
        for (int j = 0; j < k; j++)
            for (int r = 0; r < search_rows; r++) left[k][r] += (target[j][r] - values[j][r]) * upper[j][k];
    for (float & error : errors) error = 0;
    for (int k = 0; k < search_columns; k++)
        for (int r = 0; r < search_rows; r++) errors[r] += diagonal[k] * (left[k][r] * left[k][r]);
}

void TileSearch::descend(Attempt & attempt, int64_t p) {
    // d^T H d = (v - t)^T H_bb (v - t) + what does not depend on the block, t = w_b + H_bb^-1 (H d - H_bb d_b)
    SearchTile rest = {}, target = {};
    const auto * const all = differences();
    const Panel * const columns = panel(state_.full, state_.columns, p);
    const int64_t first = p * search_columns, end = first + search_columns;
    add_products(set_, all, columns, first, rest);
    add_products(set_, all + end, columns + end, state_.columns - end, rest);
    add_products(set_, rest, panel(state_.local_inverse, search_columns, p), search_columns, target);
    const SearchTile & weights = weight_tile(p);
    for (int k = 0; k < search_columns; k++)
        for (int r = 0; r < search_rows; r++) target[k][r] += weights[k][r];

    const Panel * const upper = panel(state_.local_upper, search_columns, p);
    const float * const diagonal = state_.local_diagonal.data() + first;
    BlockSearch next;
    SearchTile values;
    next.weights = &target;
    next.metric = {BlockMetric::Kind::factor, upper[0], diagonal};
    next.values = &values;
    format_.search(set_, next, scale_.value);
    float before[search_rows], after[search_rows];
    SearchTile & kept = attempt.tile(p);
    factor_errors(target, kept, upper, diagonal, before);
    factor_errors(target, values, upper, diagonal, after);
    BlockSearch & result = attempt.results[size_t(p)];
    for (int r = 0; r < search_rows; r++) {
        if (!(after[r] < before[r])) continue;
        result.scales[r] = next.scales[r];
        for (int k = 0; k < search_columns; k++) {
            result.codes[k][r] = next.codes[k][r];
            kept[k][r] = values[k][r];
        }
    }
    take_difference(attempt, p);
}

// As the recipe does, with the unit's scale.
Attempt TileSearch::nearest() {
    Attempt attempt(blocks_);
    const int64_t count = tile_rows(rows_, row_);
    const WeightRows rows = {rows_.dtype,
                             static_cast<const uint8_t *>(rows_.data) +
                                 row_ * rows_.columns * int64_t(dtype_traits(rows_.dtype).bits / 8),
                             count, rows_.columns};
    PackedRows packed = {count, rows.columns, {}};
    std::vector<uint8_t> bytes(static_cast<size_t>(format_.packed_bytes(count, rows.columns)));
    uint64_t used = 0;
    for (size_t c = 0; c < format_.components.size(); c++) {
        if (format_.components[c].scope != FormatComponent::Scope::rows) continue;
        packed.data[c] = bytes.data() + used;
        used += format_.components[c].bytes(count, rows.columns);
    }
    std::vector<float> values(static_cast<size_t>(count * rows.columns));
    format_.pack(set_, rows, scale_.value, packed);
    format_.unpack(set_, packed, scale_.value, values.data());
    for (int64_t p = 0; p < blocks_; p++) {
        const int64_t column = state_.order[size_t(p)] * search_columns;
        SearchTile & tile = attempt.tile(p);
        for (int64_t r = 0; r < search_rows; r++)
            for (int64_t k = 0; k < search_columns; k++)
                tile[k][r] = r < count ? values[size_t(r * rows.columns + column + k)] : 0;
        format_.load(attempt.results[size_t(p)], packed, 0, count, column);
    }
    return attempt;
}

void TileSearch::measure(Attempt & attempt) {
    const int64_t rows = state_.held_is_full ? state_.columns : search_columns;
    for (int64_t p = 0; p < blocks_; p++) take_difference(attempt, p);
    for (double & error : attempt.errors) error = 0;
    for (int64_t p = 0; p < blocks_; p++) {
        SearchTile sums = {};
        const Column * const from = differences() + (state_.held_is_full ? 0 : p * search_columns);
        add_products(set_, from, panel(state_.held, rows, p), rows, sums);
        const SearchTile & difference = difference_tile(p);
        for (int k = 0; k < search_columns; k++)
            for (int r = 0; r < search_rows; r++) attempt.errors[r] += double(sums[k][r]) * double(difference[k][r]);
    }
}

// --- The ladder ---------------------------------------------------------------------------------------------------------------

constexpr MomentKinds kinds_of_blocks = {&Statistic::fitted_moments_16, &Statistic::held_moments_16,
                                         &Statistic::fitted_weights, false};
constexpr MomentKinds kinds_of_all = {&Statistic::fitted_moments, &Statistic::held_moments, &Statistic::fitted_weights,
                                      true};

class MomentSearch final : public Quantizer {
  public:
    MomentSearch(const char * name, const MomentKinds & kinds) : name_(name), kinds_(kinds) {}
    const char * name() const override { return name_; }
    std::vector<const Statistic *> needs() const override { return {kinds_.fitted, kinds_.held, kinds_.weights}; }
    uint64_t work_bytes(int64_t columns) const override {
        const auto n = uint64_t(columns);
        const uint64_t tile = 7 * n * search_rows * sizeof(float); // weights, differences, attempts
        return tile + (kinds_.is_full ? n * n * (sizeof(double) + 3 * sizeof(float)) : 3 * n * search_columns * 4);
    }
    Result<UnitScale> prepare(const Format & format, DType source, const UnitMeasure & measure,
                              const UnitInputs & inputs) const override {
        GNV_ASSIGN(UnitScale scale, searched_scale(format, source, measure));
        scale.state = std::make_shared<MomentState>(make_moment_state(inputs, kinds_));
        return scale;
    }
    Status pack(InstructionSet set, const Format & format, const WeightRows & rows, const UnitScale & scale,
                const PackedRows & out, ErrorFigures * errors, MethodChoices * choices) const override {
        const auto & state = *static_cast<const MomentState *>(scale.state.get());
        for (int64_t row = 0; row < rows.rows; row += search_rows)
            pack_tile(set, format, rows, row, scale, state, out, choices);
        if (errors) errors->add(measure_errors(set, format, rows, scale.value, out));
        return {};
    }

  private:
    void pack_tile(InstructionSet set, const Format & format, const WeightRows & rows, int64_t row,
                   const UnitScale & scale, const MomentState & state, const PackedRows & out,
                   MethodChoices * choices) const;

    const char * name_;
    const MomentKinds & kinds_;
};

void MomentSearch::pack_tile(InstructionSet set, const Format & format, const WeightRows & rows, int64_t row,
                             const UnitScale & scale, const MomentState & state, const PackedRows & out,
                             MethodChoices * choices) const {
    TileSearch tile(set, format, rows, row, scale, state);
    const int64_t count = tile_rows(rows, row);
    // The methods from the best on, as far as there is something to use them with. Without inputs that were held back none can
    // be judged: squares are never worse than nearest codes, in what they know.
    const bool judged = !state.held.empty();
    std::vector<size_t> ladder;
    if (judged && !state.full.empty()) ladder.push_back(method_gptq);
    if (judged && !state.local.empty()) ladder.push_back(method_hessian);
    ladder.push_back(method_mse);
    const auto attempt_with = [&](size_t method) {
        switch (method) {
        case method_gptq: return tile.gptq();
        case method_hessian: return tile.hessian();
        case method_mse: return tile.squares();
        default: return tile.nearest();
        }
    };
    Attempt nearest = judged ? tile.nearest() : Attempt(0);
    if (judged) tile.measure(nearest);
    Attempt best(0);
    uint32_t open = (1u << count) - 1; // rows that no method has won yet
    const auto take = [&](Attempt && attempt, size_t method, uint32_t won) {
        for (int64_t r = 0; choices && r < count; r++) {
            if (!(won >> r & 1)) continue;
            choices->rows[method]++;
            if (!judged) continue;
            const double part = nearest.errors[r] > 0 ? attempt.errors[r] / nearest.errors[r] : 1;
            choices->judged++;
            choices->error_parts += uint64_t(std::clamp(part, 0.0, 1.0) * (1 << 20));
        }
        if (best.results.empty()) {
            best = std::move(attempt);
        } else {
            for (size_t p = 0; p < best.results.size(); p++)
                for (int64_t r = 0; r < count; r++) {
                    if (!(won >> r & 1)) continue;
                    best.results[p].scales[r] = attempt.results[p].scales[r];
                    for (int k = 0; k < search_columns; k++)
                        best.results[p].codes[k][r] = attempt.results[p].codes[k][r];
                }
        }
        open &= ~won;
    };
    for (const size_t method : ladder) {
        if (open == 0) break;
        Attempt attempt = attempt_with(method);
        uint32_t won = open;
        if (judged) {
            tile.measure(attempt);
            for (int64_t r = 0; r < count; r++)
                if (!(attempt.errors[r] <= nearest.errors[r])) won &= ~(1u << r);
        }
        if (won != 0) take(std::move(attempt), method, won);
    }
    if (open != 0) take(Attempt(nearest), method_rtn, open);
    for (int64_t p = 0; p < state.blocks(); p++)
        format.store(best.results[size_t(p)], out, row, count, state.order[size_t(p)] * search_columns);
}

} // namespace

const Quantizer & local_hessian() {
    static const MomentSearch quantizer("hessian", kinds_of_blocks);
    return quantizer;
}

const Quantizer & gptq() {
    static const MomentSearch quantizer("gptq", kinds_of_all);
    return quantizer;
}

} // namespace gnv
