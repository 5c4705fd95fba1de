// Quantizers that search the scale of each block, and give each weight the nearest code with it.
#include "quant/quantizers/quantizer.h"
#include "quant/quantizers/row_tiles.h"

#include <cmath>

namespace gnv {

Result<UnitScale> searched_scale(const Format & format, DType source, const UnitMeasure & measure) {
    if (!format.search)
        return fail(Code::unsupported, format.title, " has no block scales to search: use the method ",
                    round_to_nearest_name);
    const float roomy = measure.absolute_maximum * format.search_room;
    return UnitScale{format.unit_scale(source, std::isfinite(roomy) ? roomy : measure.absolute_maximum), nullptr};
}

void load_tile(const WeightRows & rows, int64_t row, int64_t column, SearchTile & tile) {
    const int64_t count = tile_rows(rows, row);
    for (int64_t r = 0; r < search_rows; r++)
        for (int64_t k = 0; k < search_columns; k++)
            tile[k][r] =
                r < count ? nvfp4::load_element(rows.dtype, rows.data, (row + r) * rows.columns + column + k) : 0;
}

namespace {

class LeastSquares final : public Quantizer {
  public:
    const char * name() const override { return "mse"; }
    Result<UnitScale> prepare(const Format & format, DType source, const UnitMeasure & measure,
                              const UnitInputs &) const override {
        return searched_scale(format, source, measure);
    }
    Status pack(InstructionSet set, const Format & format, const WeightRows & rows, const UnitScale & scale,
                const PackedRows & out, ErrorFigures * errors, MethodChoices *) const override {
        SearchTile weights, values;
        BlockSearch block;
        block.weights = &weights;
        block.values = &values;
        for (int64_t row = 0; row < rows.rows; row += search_rows)
            for (int64_t column = 0; column < rows.columns; column += search_columns) {
                load_tile(rows, row, column, weights);
                format.search(set, block, scale.value);
                format.store(block, out, row, tile_rows(rows, row), column);
            }
        if (errors) errors->add(measure_errors(set, format, rows, scale.value, out));
        return {};
    }
};

} // namespace

const Quantizer & least_squares() {
    static const LeastSquares quantizer;
    return quantizer;
}

} // namespace gnv
