#include "cpu/gemm.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <cmath>

namespace gnv::cpu {

namespace {

// A tile of a result is one task: at most tile_rows x tile_columns. For each stretch of k its columns of the weight are
// packed, then its rows in blocks of block_panels panels; sums of earlier stretches wait in the result itself.
constexpr int64_t tile_rows = 1008, tile_columns = 512;
constexpr int64_t block_panels = 16;
constexpr int64_t tasks_per_thread = 4; // at least, to balance the load
constexpr int64_t direct_columns = 256; // of a result, at most, for rows of `a` as they lie

int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// Where one thread packs.
struct Buffers {
    static constexpr int64_t result_floats = gemm_max_panel_rows * gemm_max_panel_columns;

    static int64_t a_floats(int64_t depth) { return (block_panels * depth + 1) * gemm_max_panel_rows; }
    static int64_t quantized_floats(int64_t depth) { return depth * gemm_max_panel_rows; }
    static int64_t weight_floats(int64_t depth) { return depth * tile_columns; }
    static int64_t floats(int64_t depth) {
        return round_up(a_floats(depth) + quantized_floats(depth) + weight_floats(depth) + result_floats, 1024);
    }

    Buffers(void * scratch, int64_t depth, int thread)
        : weight(static_cast<float *>(scratch) + thread * floats(depth)), result(weight + weight_floats(depth)),
          a(result + result_floats), quantized(a + a_floats(depth)) {}

    float *weight, *result, *a, *quantized;
};

// The problem cut into tiles of equal size, the last ones aside.
struct Cut {
    Cut(const GemmProblem & problem, const GemmKernels & kernels, int64_t largest_rows, int64_t largest_columns) {
        if (problem.m <= 0 || problem.n <= 0) return;
        down = divide_up(problem.m, largest_rows);
        across = divide_up(problem.n, largest_columns);
        rows = round_up(divide_up(problem.m, down), kernels.panel_rows);
        columns = round_up(divide_up(problem.n, across), kernels.panel_columns);
        down = divide_up(problem.m, rows);
        across = divide_up(problem.n, columns);
    }
    int64_t tiles() const { return down * across; }

    int64_t down = 0, across = 0, rows = 0, columns = 0;
};

// One tile: rows [row, row_end), columns [column, column_end) of one problem's result.
class TileRun {
  public:
    TileRun(const GemmProblem & problem, const GemmKernels & kernels, const Buffers & buffers)
        : problem_(problem), kernels_(kernels), buffers_(buffers) {}

    void run(int64_t row, int64_t row_end, int64_t column, int64_t column_end) const {
        const bool few_rows = row_end - row <= kernels_.panel_rows;
        // Few rows use a packed weight once: it should still be in the first cache then; and a processor foresees only
        // so many rows of a weight at a time.
        const int64_t group = few_rows ? 2 * gemm_max_panel_columns : tile_columns;
        const int64_t largest_depth = few_rows ? gemm_depth / 4 : gemm_depth;
        const bool direct = !few_rows && !problem_.input_scale && problem_.n <= direct_columns;
        for (; column < column_end; column += group)
            if (direct)
                run_direct(row, row_end, column, std::min(column + group, column_end));
            else
                run_group(row, row_end, column, std::min(column + group, column_end), largest_depth);
    }

  private:
    // Rows of `a` are read where they are.
    void run_direct(int64_t row, int64_t row_end, int64_t column, int64_t column_end) const {
        const int64_t block_rows = block_panels * kernels_.direct_rows, width = kernels_.panel_columns;
        int64_t k = 0;
        do {
            const int64_t depth = std::min(gemm_depth, problem_.k - k);
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
            for (int i = 0; i < count; i++) rows[i] = problem_.row_of_a(row + i) + k;
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
        const Tensor & weight = problem_.weight;
        const int64_t stride = problem_.k;
        float * panel = buffers_.weight;
        for (; column < column_end; column += kernels_.panel_columns, panel += depth * kernels_.panel_columns) {
            const int rows = int(std::min<int64_t>(kernels_.panel_columns, column_end - column));
            if (weight.dtype == DType::bf16)
                kernels_.pack_bf16(weight.as<const uint16_t>() + column * stride + k, stride, rows, depth, panel);
            else if (weight.dtype == DType::f32)
                kernels_.pack_f32(weight.as<const float>() + column * stride + k, stride, rows, depth, panel);
            else
                pack_nvfp4(column, rows, k, depth, panel);
        }
    }

    void pack_nvfp4(int64_t column, int rows, int64_t k, int64_t depth, float * panel) const {
        const int64_t code_stride = problem_.k / 2, scale_stride = problem_.k / nvfp4::block_size;
        Nvfp4Rows nvfp4_rows;
        nvfp4_rows.codes = problem_.weight.as<const uint8_t>() + column * code_stride + k / 2;
        nvfp4_rows.code_stride = code_stride;
        nvfp4_rows.scales = problem_.weight.block_scales + column * scale_stride + k / nvfp4::block_size;
        nvfp4_rows.scale_stride = scale_stride;
        kernels_.pack_nvfp4(nvfp4_rows, rows, depth, panel);
    }

    // Packs rows [row, row_end) of `a`, from k on.
    void pack_a(int64_t row, int64_t row_end, int64_t k, int64_t depth) const {
        float * panel = buffers_.a;
        for (; row < row_end; row += kernels_.panel_rows, panel += depth * kernels_.panel_rows) {
            const float * rows[gemm_max_panel_rows];
            const int count = int(std::min<int64_t>(kernels_.panel_rows, row_end - row));
            for (int i = 0; i < count; i++) {
                rows[i] = problem_.row_of_a(row + i) + k;
                if (!problem_.input_scale) continue;
                float * const quantized = buffers_.quantized + i * depth;
                kernels_.quantize_row(rows[i], depth, *problem_.input_scale, quantized);
                rows[i] = quantized;
            }
            kernels_.pack_rows(rows, count, depth, panel);
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
            body(panel, row, int(std::min<int64_t>(kernels_.panel_rows, row_end - row)));
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
    const Buffers & buffers_;
};

// All problems as one list of tasks.
struct Run {
    const GemmKernels & kernels;
    const GemmProblem * problems;
    int64_t count;
    void * scratch;
    int64_t depth = 0;
    int64_t largest_rows = tile_rows, largest_columns = tile_columns;

    Cut cut(int64_t i) const { return Cut(problems[i], kernels, largest_rows, largest_columns); }

    int64_t tasks() const {
        int64_t total = 0;
        for (int64_t i = 0; i < count; i++) total += cut(i).tiles();
        return total;
    }

    // Smaller tiles until all threads have work, or packing would cost more than the products.
    void balance(int threads) {
        if (threads == 1) return;
        const int64_t smallest_rows = 8 * kernels.panel_rows, smallest_columns = 4 * kernels.panel_columns;
        while (tasks() < tasks_per_thread * threads) {
            if (largest_columns / 2 >= smallest_columns && largest_columns * 2 >= largest_rows)
                largest_columns /= 2;
            else if (largest_rows / 2 >= smallest_rows)
                largest_rows /= 2;
            else if (largest_columns / 2 >= smallest_columns)
                largest_columns /= 2;
            else
                return;
        }
    }

    void run_task(int64_t task, int thread) const {
        int64_t i = 0;
        Cut tiles = cut(0);
        while (task >= tiles.tiles()) {
            task -= tiles.tiles();
            tiles = cut(++i);
        }
        const GemmProblem & problem = problems[i];
        const int64_t row = task % tiles.down * tiles.rows, column = task / tiles.down * tiles.columns;
        const Buffers buffers(scratch, depth, thread);
        TileRun(problem, kernels, buffers)
            .run(row, std::min(row + tiles.rows, problem.m), column, std::min(column + tiles.columns, problem.n));
    }
};

int64_t depth_for(int64_t k) { return std::min(std::max<int64_t>(k, 1), gemm_depth); }

} // namespace

uint64_t gemm_scratch_bytes(int64_t largest_k, int threads) {
    return uint64_t(threads) * uint64_t(Buffers::floats(depth_for(largest_k))) * sizeof(float);
}

const GemmKernels & gemm_kernels_of(InstructionSet set) {
#ifdef __x86_64__
    static const GemmKernels * const table[] = {&gemm_portable, &gemm_avx2, &gemm_avx512};
    return *table[int(set)];
#else
    (void)set;
    return gemm_portable;
#endif
}

const std::vector<const GemmKernels *> & gemm_kernels() {
    static const std::vector<const GemmKernels *> list = [] {
        std::vector<const GemmKernels *> found;
        for (int set = int(best_instruction_set()); set >= 0; set--)
            found.push_back(&gemm_kernels_of(InstructionSet(set)));
        return found;
    }();
    return list;
}

Status gemm(const GemmProblem * problems, int64_t count, void * scratch, ThreadPool & threads) {
    return gemm_with(gemm_kernels_of(threads.instructions()), problems, count, scratch, threads);
}

Status gemm_with(const GemmKernels & kernels, const GemmProblem * problems, int64_t count, void * scratch,
                 ThreadPool & threads) {
    Run run{kernels, problems, count, scratch};
    for (int64_t i = 0; i < count; i++) run.depth = std::max(run.depth, depth_for(problems[i].k));
    run.balance(threads.size());
    return threads.parallel_for_thread(run.tasks(), [&run](int64_t task, int thread) -> Status {
        run.run_task(task, thread);
        return {};
    });
}

// --- Reference -------------------------------------------------------------------------------------------------------

namespace {

// The value that enters the sum.
float weight_value(const GemmProblem & problem, int64_t row, int64_t column) {
    const Tensor & weight = problem.weight;
    const int64_t element = row * problem.k + column;
    if (weight.dtype == DType::f32) return weight.as<const float>()[element];
    if (weight.dtype == DType::bf16) return nvfp4::bf16_to_float(weight.as<const uint16_t>()[element]);
    const uint8_t byte = weight.as<const uint8_t>()[element / 2];
    const float scale = nvfp4::e4m3_value(weight.block_scales[element / nvfp4::block_size]);
    const float value = nvfp4::e2m1_value(element % 2 ? byte >> 4 : byte & 15);
    return value * scale;
}

float nearest_e2m1(float x) { // ties to even
    uint8_t best = 0;
    for (uint8_t code = 1; code < 8; code++) {
        const float below = std::fabs(x) - nvfp4::e2m1_value(best), above = nvfp4::e2m1_value(code) - std::fabs(x);
        if (above < below || (above == below && code % 2 == 0)) best = code;
    }
    return std::copysign(nvfp4::e2m1_value(best), x);
}

std::vector<float> w4a4_values(const float * x, int64_t k, float input_scale) {
    std::vector<float> values(size_t(k), 0.0f);
    for (int64_t block = 0; block < k; block += nvfp4::block_size) {
        float largest = 0;
        for (int64_t i = block; i < block + nvfp4::block_size; i++) largest = std::max(largest, std::fabs(x[i]));
        const float scale = nvfp4::e4m3_value(nvfp4::e4m3_from_float(input_scale * largest / 6));
        for (int64_t i = block; i < block + nvfp4::block_size && scale != 0; i++)
            values[size_t(i)] = nearest_e2m1(x[i] * input_scale / scale) * scale;
    }
    return values;
}

} // namespace

void gemm_reference(const GemmProblem & problem) {
    for (int64_t i = 0; i < problem.m; i++) {
        const float * const row = problem.row_of_a(i);
        std::vector<float> x(row, row + problem.k);
        if (problem.input_scale) x = w4a4_values(row, problem.k, *problem.input_scale);
        for (int64_t j = 0; j < problem.n; j++) {
            float sum = 0;
            for (int64_t k = 0; k < problem.k; k++) sum = std::fma(x[size_t(k)], weight_value(problem, j, k), sum);
            sum /= problem.divisor_of(j);
            if (problem.precision == Precision::bf16) sum = nvfp4::bf16_to_float(nvfp4::bf16_from_float(sum));
            problem.c[i * problem.c_stride + j] = sum;
        }
    }
}

} // namespace gnv::cpu
