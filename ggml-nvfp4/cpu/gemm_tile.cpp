#include "cpu/gemm_tile.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <bit>
#include <iterator>

namespace gnv::cpu {

namespace {

constexpr int64_t direct_columns = 256;    // of a result, at most, for rows of `a` as they lie
constexpr int64_t smallest_pair_panel = 4; // rows or columns
// Steps of k in a stretch. Of pairs a panel leaves the first cache, but sums wait in the result less often.
// Where they are deeper than 512 there is room for fewer columns, so rows of `a` are packed more often: too dear for W4A4.
constexpr int64_t f32_depth = 256, pair_depth = gemm_depth, w4a4_pair_depth = 512;
constexpr int64_t few_rows_f32_depth = 64, few_rows_pair_depth = 128;
constexpr int64_t result_floats = gemm_max_panel_rows * gemm_max_panel_columns;
constexpr int64_t block_panels = 16;                              // of F32 numbers, of rows of `a`
constexpr int64_t pair_panel = gemm_max_panel_rows * pair_stride; // of `a`, in words

// A panel of the weight as F32 numbers, beside pairs.
int64_t wide_floats(int64_t depth) { return std::min(depth, f32_depth) * gemm_max_panel_columns; }
// Rows of `a` as F32 numbers; or as pairs, of which a panel takes the same room for every depth, and a panel as above.
int64_t a_floats(int64_t depth) {
    return std::max((block_panels * std::min(depth, f32_depth) + 1) * gemm_max_panel_rows,
                    pair_panel + wide_floats(depth));
}
int64_t pair_block_panels(int64_t depth) { return (a_floats(depth) - wide_floats(depth)) / pair_panel; }
int64_t quantized_floats(int64_t depth) { return std::max(std::min(depth, f32_depth) * gemm_max_panel_rows, depth); }
int64_t weight_floats(int64_t depth) { return std::min(depth, f32_depth) * gemm_tile_columns; }
// Columns of a weight whose pairs have room there.
int64_t pair_columns(int64_t depth) { return std::min(weight_floats(depth) / divide_up(depth, 2), gemm_tile_columns); }

// One tile: rows [row, row_end), columns [column, column_end) of one problem's result.
class TileRun {
  public:
    TileRun(const GemmProblem & problem, const GemmKernels & kernels, const TileBuffers & buffers)
        : problem_(problem), kernels_(kernels), buffers_(buffers) {}

    void run(int64_t row, int64_t row_end, int64_t column, int64_t column_end) const {
        const bool few_rows = row_end - row <= kernels_.panel_rows;
        // Few rows use a packed weight once: it should still be in the first cache then; and a processor foresees only
        // so many rows of a weight at a time.
        const bool pairs = has_pairs(row);
        const int64_t many_rows_depth = !pairs ? f32_depth : problem_.input_scale ? w4a4_pair_depth : pair_depth;
        const int64_t few_rows_depth = pairs ? few_rows_pair_depth : few_rows_f32_depth;
        const int64_t largest_depth = few_rows ? few_rows_depth : many_rows_depth;
        const int64_t columns = pairs ? pair_columns(std::clamp<int64_t>(problem_.k, 1, largest_depth)) /
                                            kernels_.panel_columns * kernels_.panel_columns
                                      : gemm_tile_columns;
        const int64_t group = few_rows ? 2 * gemm_max_panel_columns : columns;
        const bool direct = !few_rows && !problem_.input_scale && problem_.n <= direct_columns;
        for (; column < column_end; column += group) {
            const int64_t end = std::min(column + group, column_end);
            if (pairs)
                run_pairs(row, row_end, column, end, largest_depth);
            else if (direct)
                run_direct(row, row_end, column, end);
            else
                run_group(row, row_end, column, end, largest_depth);
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
        if (weight.dtype == DType::bf16)
            kernels_.pack_bf16(weight.as<const uint16_t>() + column * stride + k, stride, rows, depth, panel);
        else if (weight.dtype == DType::f32)
            kernels_.pack_f32(weight.as<const float>() + column * stride + k, stride, rows, depth, panel);
        else
            kernels_.pack_nvfp4(nvfp4_rows(column, k), rows, depth, panel);
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

    // The exponents of PairKernels, of the tile's panels: the lowest of all stretches of k so far, as sums go on.
    struct Exponents {
        static constexpr int unknown = 1 << 20;
        Exponents() {
            std::fill(std::begin(a), std::end(a), unknown);
            std::fill(std::begin(weight), std::end(weight), unknown);
        }
        int a[gemm_tile_rows / smallest_pair_panel], weight[gemm_tile_columns / smallest_pair_panel];
    };

    void run_pairs(int64_t row, int64_t row_end, int64_t column, int64_t column_end, int64_t largest_depth) const {
        const int64_t height = kernels_.panel_rows;
        const int64_t block_rows = pair_block_panels(std::min(largest_depth, problem_.k)) * height;
        Exponents exponents;
        int64_t k = 0;
        do {
            const int64_t depth = std::min(largest_depth, problem_.k - k);
            pack_weight_pairs(column, column_end, k, depth, exponents.weight);
            for (int64_t block = row; block < row_end; block += block_rows) {
                const int64_t block_end = std::min(block + block_rows, row_end);
                int * const a_exponents = exponents.a + (block - row) / height;
                pack_a_pairs(block, block_end, k, depth, a_exponents);
                multiply_pairs({block, block_end, column, column_end}, k, depth, a_exponents, exponents.weight);
                if (k + depth == problem_.k) finish(block, block_end, column, column_end);
            }
            k += depth;
        } while (k < problem_.k);
    }

    static int64_t words_of_column(int64_t depth) { return divide_up(depth, 2); }

    void pack_weight_pairs(int64_t column, int64_t column_end, int64_t k, int64_t depth, int * exponents) const {
        const int64_t width = kernels_.panel_columns, stride = problem_.k;
        uint32_t * panel = words(buffers_.weight);
        for (; column < column_end; column += width, panel += words_of_column(depth) * width, exponents++) {
            if (*exponents == not_for_pairs) continue;
            const int rows = panel_width(column, column_end);
            const auto * const values = problem_.weight.as<const uint16_t>() + column * stride + k;
            const int found = problem_.weight.dtype == DType::bf16
                                  ? kernels_.pairs->pack_bf16(values, stride, rows, depth, panel)
                                  : kernels_.pairs->pack_nvfp4(nvfp4_rows(column, k), rows, depth, panel);
            *exponents = std::min(*exponents, found);
        }
    }

    void pack_a_pairs(int64_t row, int64_t row_end, int64_t k, int64_t depth, int * exponents) const {
        uint32_t * panel = words(buffers_.a);
        for (; row < row_end; row += kernels_.panel_rows, panel += kernels_.panel_rows * pair_stride, exponents++) {
            if (*exponents == not_for_pairs) continue;
            const int count = panel_height(row, row_end);
            const int step = problem_.input_scale ? 1 : count; // there is room for one quantized row of this depth
            for (int i = 0; i < count; i += step) {
                const float * rows[gemm_max_panel_rows];
                find_rows(row + i, step, k, depth, rows);
                const int found = kernels_.pairs->pack_rows(rows, step, depth, panel + i * pair_stride);
                *exponents = std::min(*exponents, found);
            }
        }
    }

    // Adds the product of the packed panels to the result: of pairs where that is exact.
    void multiply_pairs(const TileEdges & block, int64_t k, int64_t depth, const int * a_exponents,
                        const int * weight_exponents) const {
        const int64_t width = kernels_.panel_columns, height = kernels_.panel_rows;
        const int64_t panel_stride = words_of_column(depth) * width;
        const bool first = k == 0;
        const uint32_t * weight = words(buffers_.weight);
        int64_t column = block.column;
        const int64_t full = (block.column_end - column) / width;
        if (block.row_end - block.row <= height && full > 1 && // few rows: several panels at once
            a_exponents[0] + *std::min_element(weight_exponents, weight_exponents + full) >= least_pair_exponents) {
            kernels_.pairs->multiply(words(buffers_.a), int(block.row_end - block.row), weight, panel_stride, full,
                                     depth, first, result_at(block.row, column), problem_.c_stride);
            column += full * width, weight += full * panel_stride, weight_exponents += full;
        }
        for (; column < block.column_end; column += width, weight += panel_stride, weight_exponents++) {
            const int columns = panel_width(column, block.column_end);
            bool all = true;
            for (int64_t row = block.row, panel = 0; row < block.row_end; row += height, panel++) {
                const int rows = panel_height(row, block.row_end);
                const bool exact = a_exponents[panel] + *weight_exponents >= least_pair_exponents;
                all &= exact;
                if (!exact) continue;
                with_room(row, rows, column, columns, !first, [&](float * c, int64_t stride) {
                    kernels_.pairs->multiply(words(buffers_.a) + panel * height * pair_stride, rows, weight, 0, 1,
                                             depth, first, c, stride);
                });
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
            for (int64_t row = block.row, panel = 0; row < block.row_end; row += height, panel++)
                if (a_exponents[panel] + weight_exponent < least_pair_exponents)
                    multiply_direct(row, row + panel_height(row, block.row_end), column, columns, k, part,
                                    buffers_.wide);
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
        const Tensor & weight = problem_.weight;
        const bool round = problem_.precision == Precision::bf16, has_global = weight.dtype == DType::f4;
        if (!round && !problem_.input_scale && !has_global) return;
        const int64_t scale_rows = has_global ? weight.global_scale_rows : problem_.n;
        while (column < column_end) { // columns with the same global scale
            const int64_t end = std::min(column_end, (column / scale_rows + 1) * scale_rows);
            const float divisor = problem_.divisor_of(column);
            for (int64_t i = row; i < row_end; i++) kernels_.finish(result_at(i, column), end - column, divisor, round);
            column = end;
        }
    }

    float * result_at(int64_t row, int64_t column) const { return problem_.c + row * problem_.c_stride + column; }

    const GemmProblem & problem_;
    const GemmKernels & kernels_;
    const TileBuffers & buffers_;
};

} // namespace

int64_t TileBuffers::floats(int64_t depth) {
    const int64_t sum = weight_floats(depth) + a_floats(depth) + result_floats + quantized_floats(depth);
    return divide_up(sum, 1024) * 1024;
}

TileBuffers::TileBuffers(void * scratch, int64_t depth, int thread)
    : weight(static_cast<float *>(scratch) + thread * floats(depth)), a(weight + weight_floats(depth)),
      wide(a + a_floats(depth) - wide_floats(depth)), result(a + a_floats(depth)), quantized(result + result_floats) {}

void run_tile(const GemmProblem & problem, const GemmKernels & kernels, const TileBuffers & buffers,
              const TileEdges & edges) {
    TileRun(problem, kernels, buffers).run(edges.row, edges.row_end, edges.column, edges.column_end);
}

} // namespace gnv::cpu
