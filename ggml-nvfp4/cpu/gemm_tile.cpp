#include "cpu/gemm_tile.h"

#include "codec/nvfp4.h"
#include "cpu/compact_bf16.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>

namespace gnv::cpu {

namespace {

constexpr int64_t direct_columns = 256; // of a result, at most, for rows of `a` as they lie
// Steps of k in a stretch. Of pairs a panel leaves the first cache, but sums wait in the result less often.
constexpr int64_t f32_depth = 256, pair_depth = gemm_depth;
constexpr int64_t few_rows_f32_depth = 64, few_rows_pair_depth = 128;
constexpr int64_t few_columns = 2 * gemm_max_panel_columns; // of the weight that are packed at a time for few rows
constexpr int unknown_exponent = 1 << 20;
constexpr int64_t result_floats = gemm_max_panel_rows * gemm_max_panel_columns;
constexpr int64_t block_panels = 16; // of F32 numbers, of rows of `a`

// Panels of rows as pairs that the second cache holds beside a group of columns; of short rows fewer, since there the result
// is most of the traffic, and its rows are best written whole.
int64_t pair_block_panels(int64_t depth) { return std::clamp<int64_t>(7 * depth / f32_depth, 1, 7); }
// A panel of the weight as F32 numbers, beside pairs.
int64_t wide_floats(int64_t depth) { return std::min(depth, f32_depth) * gemm_max_panel_columns; }
// Rows of `a` as F32 numbers; or as pairs, and a panel as above.
int64_t a_floats(const TileRoom & room) {
    const int64_t rows = std::max<int64_t>(room.rows, gemm_max_panel_rows);
    return std::max((block_panels * std::min(room.depth, f32_depth) + 1) * gemm_max_panel_rows,
                    rows * pair_stride(room.depth) + wide_floats(room.depth));
}
int64_t pair_rows_of(const TileRoom & room) {
    return std::min((a_floats(room) - wide_floats(room.depth)) / pair_stride(room.depth), most_pair_rows);
}
int64_t quantized_floats(int64_t depth) { return std::max(std::min(depth, f32_depth) * gemm_max_panel_rows, depth); }
int64_t weight_floats(int64_t depth) { return std::min(depth, f32_depth) * gemm_group_columns; }
// Columns of a weight whose pairs have room there.
int64_t pair_columns(int64_t depth) { return std::min(weight_floats(depth) / divide_up(depth, 2), gemm_group_columns); }

// One tile: rows [row, row_end), columns [column, column_end) of one problem's result.
class TileRun {
  public:
    TileRun(const GemmProblem & problem, const GemmKernels & kernels, const TileBuffers & buffers)
        : problem_(problem), kernels_(kernels), buffers_(buffers) {}

    void run(const TileEdges & tile) const {
        // Few rows use a packed weight once: it should still be in the first cache then; and a processor foresees only
        // so many rows of a weight at a time.
        const bool few_rows = tile.row_end - tile.row <= kernels_.panel_rows;
        if (has_pairs(tile.row)) {
            const TileEdges & t = tile;
            if (few_rows)
                for (int64_t column = t.column; column < t.column_end; column += few_columns)
                    run_pairs({t.row, t.row_end, column, std::min(column + few_columns, t.column_end)},
                              few_rows_pair_depth);
            else
                for_each_part(t.row, t.row_end, [&](int64_t row, int64_t row_end) {
                    run_pairs({row, row_end, t.column, t.column_end}, pair_depth);
                });
            return;
        }
        buffers_.packed.problem = nullptr; // F32 numbers take the place of pairs
        const int64_t group = few_rows ? few_columns : gemm_group_columns;
        const bool direct = !few_rows && !problem_.input_scale && problem_.n <= direct_columns;
        for (int64_t column = tile.column; column < tile.column_end; column += group) {
            const int64_t end = std::min(column + group, tile.column_end);
            if (direct)
                run_direct(tile.row, tile.row_end, column, end);
            else
                run_group(tile.row, tile.row_end, column, end, few_rows ? few_rows_f32_depth : f32_depth);
        }
    }

  private:
    // Rows of `a` are read where they are.
    void run_direct(int64_t row, int64_t row_end, int64_t column, int64_t column_end) const {
        const int64_t block_rows = block_panels * kernels_.direct_rows, width = kernels_.panel_columns;
        int64_t k = 0;
        do {
            const int64_t depth = std::min(f32_depth, problem_.k - k);
            pack_weight(column, column_end, k, depth);
            for (int64_t block = row; block < row_end; block += block_rows) {
                const int64_t block_end = std::min(block + block_rows, row_end);
                for (int64_t at = column; at < column_end; at += width)
                    multiply_direct(block, block_end, at, std::min(width, column_end - at), k, depth,
                                    buffers_.weight + (at - column) * depth);
                if (k + depth == problem_.k) finish(block, block_end, column, column_end);
            }
            k += depth;
        } while (k < problem_.k);
    }

    void multiply_direct(int64_t row, int64_t row_end, int64_t column, int64_t columns, int64_t k, int64_t depth,
                         const float * panel) const {
        for (; row < row_end; row += kernels_.direct_rows) {
            const float * rows[gemm_max_panel_rows];
            const int count = int(std::min<int64_t>(kernels_.direct_rows, row_end - row));
            find_rows(row, count, k, depth, rows);
            with_room(row, count, column, columns, k > 0, [&](float * c, int64_t stride) {
                kernels_.multiply_direct(rows, count, panel, depth, k == 0, c, stride);
            });
        }
    }

    // Calls `multiply` with the place of a part of the result, or with room for a whole panel where that is narrower.
    template <class Multiply>
    void with_room(int64_t row, int count, int64_t column, int64_t columns, bool goes_on,
                   const Multiply & multiply) const {
        float * const c = result_at(row, column);
        const int64_t width = kernels_.panel_columns;
        if (columns == width) return multiply(c, problem_.c_stride);
        for (int i = 0; i < count && goes_on; i++)
            std::copy_n(c + i * problem_.c_stride, columns, buffers_.result + i * width);
        multiply(buffers_.result, width);
        for (int i = 0; i < count; i++) std::copy_n(buffers_.result + i * width, columns, c + i * problem_.c_stride);
    }

    // Packs columns [column, column_end) of the result, which are rows of the weight, from k on.
    void pack_weight(int64_t column, int64_t column_end, int64_t k, int64_t depth) const {
        float * panel = buffers_.weight;
        for (; column < column_end; column += kernels_.panel_columns, panel += depth * kernels_.panel_columns)
            pack_weight_panel(column, panel_width(column, column_end), k, depth, panel);
    }

    void pack_weight_panel(int64_t column, int rows, int64_t k, int64_t depth, float * panel) const {
        const Tensor & weight = problem_.weight;
        const int64_t stride = problem_.k;
        if (weight.is_compact())
            for_compact_parts(column, rows, k, depth, [&](const uint16_t * numbers, int64_t at, int64_t columns) {
                kernels_.pack_bf16(numbers, columns, rows, columns, panel + at * kernels_.panel_columns);
            });
        else if (weight.dtype == DType::bf16)
            kernels_.pack_bf16(weight.as<const uint16_t>() + column * stride + k, stride, rows, depth, panel);
        else if (weight.dtype == DType::f32)
            kernels_.pack_f32(weight.as<const float>() + column * stride + k, stride, rows, depth, panel);
        else
            kernels_.pack_nvfp4(nvfp4_rows(column, k), rows, depth, panel);
    }

    // The numbers of some rows of a compact weight, of a part of the columns after the other.
    template <class Body>
    void for_compact_parts(int64_t column, int rows, int64_t k, int64_t depth, const Body & body) const {
        constexpr int64_t width = 2 * compact_columns;
        uint16_t numbers[gemm_max_panel_columns * width]; // stays in the first cache
        const CompactBf16 weight = compact_view(problem_.weight);
        for (int64_t at = 0; at < depth; at += width) {
            const int64_t columns = std::min(width, depth - at);
            kernels_.unpack_compact(weight, column, rows, k + at, columns, numbers);
            body(numbers, at, columns);
        }
    }

    int pack_bf16_pairs(int64_t column, int rows, int64_t k, int64_t depth, uint32_t * panel) const {
        const int64_t stride = problem_.k;
        if (!problem_.weight.is_compact()) {
            const auto * const values = problem_.weight.as<const uint16_t>() + column * stride + k;
            return kernels_.pairs->pack_bf16(values, stride, rows, depth, panel);
        }
        int exponent = std::numeric_limits<int>::max();
        for_compact_parts(column, rows, k, depth, [&](const uint16_t * numbers, int64_t at, int64_t columns) {
            uint32_t * const part = panel + words_of_column(at) * kernels_.panel_columns;
            exponent = std::min(exponent, kernels_.pairs->pack_bf16(numbers, columns, rows, columns, part));
        });
        return exponent;
    }

    Nvfp4Rows nvfp4_rows(int64_t column, int64_t k) const {
        const int64_t code_stride = problem_.k / 2, scale_stride = problem_.k / nvfp4::block_size;
        Nvfp4Rows rows;
        rows.codes = problem_.weight.as<const uint8_t>() + column * code_stride + k / 2;
        rows.code_stride = code_stride;
        rows.scales = problem_.weight.block_scales + column * scale_stride + k / nvfp4::block_size;
        rows.scale_stride = scale_stride;
        return rows;
    }

    // Packs rows [row, row_end) of `a`, from k on.
    void pack_a(int64_t row, int64_t row_end, int64_t k, int64_t depth) const {
        float * panel = buffers_.a;
        for (; row < row_end; row += kernels_.panel_rows, panel += depth * kernels_.panel_rows)
            pack_a_panel(row, panel_height(row, row_end), k, depth, panel);
    }

    void pack_a_panel(int64_t row, int count, int64_t k, int64_t depth, float * panel) const {
        const float * rows[gemm_max_panel_rows];
        find_rows(row, count, k, depth, rows);
        kernels_.pack_rows(rows, count, depth, panel);
    }

    // Rows of `a` from k on; quantized if the problem asks for it.
    void find_rows(int64_t row, int count, int64_t k, int64_t depth, const float * (&rows)[gemm_max_panel_rows]) const {
        for (int i = 0; i < count; i++) {
            rows[i] = problem_.row_of_a(row + i) + k;
            if (!problem_.input_scale) continue;
            float * const quantized = buffers_.quantized + i * depth;
            kernels_.quantize_row(rows[i], depth, *problem_.input_scale, quantized);
            rows[i] = quantized;
        }
    }

    void run_group(int64_t row, int64_t row_end, int64_t column, int64_t column_end, int64_t largest_depth) const {
        const int64_t block_rows = block_panels * kernels_.panel_rows;
        int64_t k = 0;
        do { // once also for k == 0: the result is zeros
            const int64_t depth = std::min(largest_depth, problem_.k - k);
            pack_weight(column, column_end, k, depth);
            for (int64_t block = row; block < row_end; block += block_rows) {
                const int64_t block_end = std::min(block + block_rows, row_end);
                pack_a(block, block_end, k, depth);
                multiply(block, block_end, column, column_end, depth, k == 0);
                if (k + depth == problem_.k) finish(block, block_end, column, column_end);
            }
            k += depth;
        } while (k < problem_.k);
    }

    // Adds the product of the packed panels to the result.
    void multiply(int64_t row, int64_t row_end, int64_t column, int64_t column_end, int64_t depth, bool first) const {
        const int64_t width = kernels_.panel_columns, full_panels = (column_end - column) / width;
        const int64_t panel_stride = depth * width;
        const int64_t edge_columns = column_end - column - full_panels * width;
        // Several panels at once are for few rows; else each stays in the first cache for all rows.
        const int64_t step = row_end - row <= kernels_.panel_rows ? std::max<int64_t>(full_panels, 1) : 1;
        for (int64_t panel = 0; panel < full_panels; panel += step) {
            for_each_panel_of_a(row, row_end, depth, [&](const float * a, int64_t first_row, int rows) {
                kernels_.multiply(a, rows, rows, buffers_.weight + panel * panel_stride, panel_stride, step, depth,
                                  first, result_at(first_row, column + panel * width), problem_.c_stride);
            });
        }
        if (edge_columns == 0) return;
        for_each_panel_of_a(row, row_end, depth, [&](const float * a, int64_t first_row, int rows) {
            with_room(first_row, rows, column + full_panels * width, edge_columns, !first,
                      [&](float * c, int64_t stride) {
                          kernels_.multiply(a, rows, rows, buffers_.weight + full_panels * panel_stride, panel_stride,
                                            1, depth, first, c, stride);
                      });
        });
    }

    template <class Body>
    void for_each_panel_of_a(int64_t row, int64_t row_end, int64_t depth, const Body & body) const {
        const float * panel = buffers_.a;
        for (; row < row_end; row += kernels_.panel_rows, panel += depth * kernels_.panel_rows)
            body(panel, row, panel_height(row, row_end));
    }

    // Whether it is worth while to try pairs. The first row answers for all: with F32 numbers it has some that are none of
    // BF16, and where it errs only time is lost.
    bool has_pairs(int64_t row) const {
        if (!kernels_.pairs || problem_.weight.dtype == DType::f32) return false;
        if (problem_.input_scale) return true; // values of E2M1 times E4M3
        const float * const x = problem_.row_of_a(row);
        uint32_t bits = 0;
        for (int64_t k = 0; k < problem_.k; k++) bits |= std::bit_cast<uint32_t>(x[k]);
        return (bits & 0xffff) == 0;
    }

    // Equal parts of the rows, for which there is room.
    template <class Body>
    void for_each_part(int64_t row, int64_t row_end, const Body & body) const {
        const int64_t height = kernels_.panel_rows, panels = divide_up(row_end - row, height);
        const int64_t part = divide_up(panels, divide_up(panels, buffers_.pair_rows / height)) * height;
        for (; row < row_end; row += part) body(row, std::min(row + part, row_end));
    }

    void run_pairs(const TileEdges & tile, int64_t largest_depth) const {
        // The exponents of PairKernels, of panels: the lowest of all stretches of k so far, as sums go on.
        int weight_exponents[gemm_pair_tile_columns / smallest_pair_panel];
        std::fill(std::begin(weight_exponents), std::end(weight_exponents), unknown_exponent);
        int64_t k = 0;
        do {
            const int64_t depth = std::min(largest_depth, problem_.k - k);
            const int64_t block_rows = pair_block_panels(depth) * kernels_.panel_rows;
            pack_rows_pairs(tile.row, tile.row_end, k, depth);
            // What only one block of rows needs is best multiplied at once; more blocks need many columns.
            const int64_t group = tile.row_end - tile.row <= block_rows
                                      ? few_columns
                                      : whole_panels(pair_columns(std::max<int64_t>(depth, 1)));
            int * exponents = weight_exponents;
            for (int64_t column = tile.column; column < tile.column_end; column += group) {
                const int64_t column_end = std::min(column + group, tile.column_end);
                pack_weight_pairs(column, column_end, k, depth, exponents);
                for (int64_t row = tile.row; row < tile.row_end; row += block_rows)
                    multiply_pairs({row, std::min(row + block_rows, tile.row_end), column, column_end}, row - tile.row,
                                   k, depth, exponents);
                exponents += group / kernels_.panel_columns;
            }
            k += depth;
        } while (k < problem_.k);
    }

    int64_t whole_panels(int64_t columns) const { return columns / kernels_.panel_columns * kernels_.panel_columns; }

    static int64_t words_of_column(int64_t depth) { return divide_up(depth, 2); }

    void pack_weight_pairs(int64_t column, int64_t column_end, int64_t k, int64_t depth, int * exponents) const {
        const int64_t width = kernels_.panel_columns;
        uint32_t * panel = words(buffers_.weight);
        for (; column < column_end; column += width, panel += words_of_column(depth) * width, exponents++) {
            if (*exponents == not_for_pairs) continue;
            const int rows = panel_width(column, column_end);
            const int found = problem_.weight.dtype == DType::bf16
                                  ? pack_bf16_pairs(column, rows, k, depth, panel)
                                  : kernels_.pairs->pack_nvfp4(nvfp4_rows(column, k), rows, depth, panel);
            *exponents = std::min(*exponents, found);
        }
    }

    // Packs the rows from k on, unless they are there from the tile before.
    void pack_rows_pairs(int64_t row, int64_t row_end, int64_t k, int64_t depth) const {
        PackedRows & packed = buffers_.packed;
        const bool shared = packed.problem && packed.problem->shares_rows(problem_);
        if (shared && packed.row == row && packed.row_end == row_end) return;
        packed.problem = depth == problem_.k ? &problem_ : nullptr;
        packed.row = row, packed.row_end = row_end;
        if (k == 0) std::fill(std::begin(packed.exponents), std::end(packed.exponents), unknown_exponent);
        uint32_t * panel = words(buffers_.a);
        int * exponents = packed.exponents;
        const int64_t stride = pair_stride(depth);
        for (; row < row_end; row += kernels_.panel_rows, panel += kernels_.panel_rows * stride, exponents++) {
            if (*exponents == not_for_pairs) continue;
            const int count = panel_height(row, row_end);
            const int step = problem_.input_scale ? 1 : count; // there is room for one quantized row of this depth
            for (int i = 0; i < count; i += step) {
                const float * rows[gemm_max_panel_rows];
                find_rows(row + i, step, k, depth, rows);
                const int found = kernels_.pairs->pack_rows(rows, step, depth, panel + i * stride);
                *exponents = std::min(*exponents, found);
            }
        }
    }

    // Adds the product of the packed panels to the result: of pairs where that is exact. The block's rows are those from
    // `packed_row` on of the packed ones.
    void multiply_pairs(const TileEdges & block, int64_t packed_row, int64_t k, int64_t depth,
                        const int * weight_exponents) const {
        const int64_t width = kernels_.panel_columns, height = kernels_.panel_rows;
        const int64_t panel_stride = words_of_column(depth) * width;
        const bool first = k == 0, last = k + depth == problem_.k;
        const uint32_t * const a = words(buffers_.a) + packed_row * pair_stride(depth);
        const int * const a_exponents = buffers_.packed.exponents + packed_row / height;
        const uint32_t * weight = words(buffers_.weight);
        int64_t column = block.column;
        const int64_t full = (block.column_end - column) / width;
        if (block.row_end - block.row <= height && full > 1 && has_one_divisor(column, column + full * width) &&
            a_exponents[0] + *std::min_element(weight_exponents, weight_exponents + full) >= least_pair_exponents) {
            // Few rows: several panels at once.
            const Finish finish = finish_of(column);
            kernels_.pairs->multiply(a, int(block.row_end - block.row), weight, panel_stride, full, depth, first,
                                     last ? &finish : nullptr, result_at(block.row, column), problem_.c_stride);
            column += full * width, weight += full * panel_stride, weight_exponents += full;
        }
        for (; column < block.column_end; column += width, weight += panel_stride, weight_exponents++) {
            const int columns = panel_width(column, block.column_end);
            const Finish finish = finish_of(column);
            const bool at_once = last && has_one_divisor(column, column + columns);
            bool all = true;
            for (int64_t row = block.row, panel = 0; row < block.row_end; row += height, panel++) {
                const int rows = panel_height(row, block.row_end);
                const bool exact = a_exponents[panel] + *weight_exponents >= least_pair_exponents;
                all &= exact;
                if (!exact) continue;
                with_room(row, rows, column, columns, !first, [&](float * c, int64_t stride) {
                    kernels_.pairs->multiply(a + panel * height * pair_stride(depth), rows, weight, 0, 1, depth, first,
                                             at_once ? &finish : nullptr, c, stride);
                });
                if (last && !at_once) this->finish(row, row + rows, column, column + columns);
            }
            if (!all) multiply_others(block, column, columns, k, depth, a_exponents, *weight_exponents);
        }
    }

    // The products of a panel of the weight with those of `a` that are not for pairs with it.
    void multiply_others(const TileEdges & block, int64_t column, int columns, int64_t k, int64_t depth,
                         const int * a_exponents, int weight_exponent) const {
        const int64_t height = kernels_.panel_rows, end = k + depth;
        for (; k < end; k += f32_depth) {
            const int64_t part = std::min(f32_depth, end - k);
            pack_weight_panel(column, columns, k, part, buffers_.wide);
            for (int64_t row = block.row, panel = 0; row < block.row_end; row += height, panel++) {
                if (a_exponents[panel] + weight_exponent >= least_pair_exponents) continue;
                const int64_t row_end = row + panel_height(row, block.row_end);
                multiply_direct(row, row_end, column, columns, k, part, buffers_.wide);
                if (k + part == problem_.k) finish(row, row_end, column, column + columns);
            }
        }
    }

    static uint32_t * words(float * panels) { return static_cast<uint32_t *>(static_cast<void *>(panels)); }

    int panel_height(int64_t row, int64_t row_end) const {
        return int(std::min<int64_t>(kernels_.panel_rows, row_end - row));
    }
    int panel_width(int64_t column, int64_t column_end) const {
        return int(std::min<int64_t>(kernels_.panel_columns, column_end - column));
    }

    void finish(int64_t row, int64_t row_end, int64_t column, int64_t column_end) const {
        if (problem_.precision == Precision::f32 && !problem_.input_scale && !has_global_scales()) return;
        while (column < column_end) {
            const int64_t end = std::min(column_end, end_of_divisor(column));
            const Finish how = finish_of(column);
            for (int64_t i = row; i < row_end; i++)
                kernels_.finish(result_at(i, column), end - column, how.divisor, how.round_to_bf16);
            column = end;
        }
    }

    bool has_global_scales() const { return problem_.weight.dtype == DType::f4; }
    // Where the columns end that have the divisor of this one.
    int64_t end_of_divisor(int64_t column) const {
        const int64_t rows = has_global_scales() ? problem_.weight.global_scale_rows : problem_.n;
        return (column / rows + 1) * rows;
    }
    bool has_one_divisor(int64_t column, int64_t column_end) const { return end_of_divisor(column) >= column_end; }
    Finish finish_of(int64_t column) const {
        return {problem_.divisor_of(column), problem_.precision == Precision::bf16};
    }

    float * result_at(int64_t row, int64_t column) const { return problem_.c + row * problem_.c_stride + column; }

    const GemmProblem & problem_;
    const GemmKernels & kernels_;
    const TileBuffers & buffers_;
};

} // namespace

int64_t TileRoom::floats() const {
    const int64_t sum = weight_floats(depth) + a_floats(*this) + result_floats + quantized_floats(depth);
    return divide_up(sum, 1024) * 1024;
}

TileBuffers::TileBuffers(void * scratch, const TileRoom & room, int thread, PackedRows & packed_rows)
    : weight(static_cast<float *>(scratch) + thread * room.floats()), a(weight + weight_floats(room.depth)),
      wide(a + a_floats(room) - wide_floats(room.depth)), result(a + a_floats(room)), quantized(result + result_floats),
      pair_rows(pair_rows_of(room)), packed(packed_rows) {}

void run_tile(const GemmProblem & problem, const GemmKernels & kernels, const TileBuffers & buffers,
              const TileEdges & edges) {
    TileRun(problem, kernels, buffers).run(edges);
}

} // namespace gnv::cpu
