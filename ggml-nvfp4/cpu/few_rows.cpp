#include "cpu/few_rows.h"

#include "codec/nvfp4_variants.h"
#include "cpu/loops.h"

#include <algorithm>

namespace gnv::cpu {

namespace {

constexpr int64_t smallest_piece = 16;  // rows of a weight in one task
constexpr int64_t tasks_per_thread = 4; // at least, to balance the load

struct Prepared {
    GemmProblem problem; // rows of `a` one after another, W4A4 applied
    int64_t first_task = 0;
};

class Products {
  public:
    Products(const GemmKernels & kernels, const Loops & loops) : kernels_(kernels), loops_(loops) {}

    // Quantizes the inputs that ask for it and cuts the weights into pieces of rows.
    void prepare(const GemmProblem * problems, int64_t count, float * scratch, int threads) {
        int64_t weight_rows = 0;
        for (int64_t i = 0; i < count; i++)
            if (problems[i].m > 0) weight_rows += problems[i].n;
        piece_ = std::max(weight_rows / (tasks_per_thread * threads) / 4 * 4, smallest_piece);
        for (int64_t i = 0; i < count; i++) {
            if (problems[i].m <= 0 || problems[i].n <= 0) continue;
            prepared_.push_back({problems[i], tasks_});
            tasks_ += (problems[i].n + piece_ - 1) / piece_;
            if (problems[i].input_scale) scratch = quantize(prepared_.back().problem, scratch);
        }
    }
    int64_t tasks() const { return tasks_; }

    void run(int64_t task) const {
        const auto after = std::partition_point(prepared_.begin(), prepared_.end(),
                                                [&](const Prepared & p) { return p.first_task <= task; });
        const Prepared & prepared = *(after - 1);
        const GemmProblem & problem = prepared.problem;
        int64_t row = (task - prepared.first_task) * piece_;
        const int64_t end = std::min(row + piece_, problem.n);
        const int64_t scale_rows = problem.weight.dtype == DType::f4 ? problem.weight.global_scale_rows : problem.n;
        while (row < end) { // rows with the same global scale
            const int64_t next = std::min(end, (row / scale_rows + 1) * scale_rows);
            run_rows(problem, row, next);
            row = next;
        }
    }

  private:
    float * quantize(GemmProblem & problem, float * scratch) const {
        float * const rows = scratch;
        for (int64_t i = 0; i < problem.m; i++, scratch += problem.k)
            kernels_.quantize_row(problem.row_of_a(i), problem.k, *problem.input_scale, scratch);
        problem.a = rows;
        problem.a_rows = nullptr;
        problem.a_stride = problem.k;
        return scratch;
    }

    // Rows [row, end) of the weight, which share a global scale.
    void run_rows(const GemmProblem & problem, int64_t row, int64_t end) const {
        const Tensor & weight = problem.weight;
        const float global = weight.dtype == DType::f4 ? weight.global_scales[row / weight.global_scale_rows] : 1.0f;
        float scale_values[256];
        if (weight.dtype == DType::f4)
            for (int i = 0; i < 256; i++)
                scale_values[i] = problem.input_scale ? nvfp4::e4m3_values.of[i] : nvfp4::e4m3_values.of[i] / global;
        for (int64_t first = 0; first < problem.m; first += few_rows_most) {
            const float * x[few_rows_most];
            float * y[few_rows_most];
            FewRows p = {x, int(std::min<int64_t>(few_rows_most, problem.m - first)), end - row, problem.k, y};
            for (int i = 0; i < p.count; i++) {
                x[i] = problem.row_of_a(first + i);
                y[i] = problem.c + (first + i) * problem.c_stride + row;
            }
            multiply(p, weight, row, scale_values);
            const float divisor = problem.input_scale ? global * *problem.input_scale : 1.0f;
            for (int i = 0; i < p.count; i++)
                kernels_.finish(y[i], p.rows, divisor, problem.precision == Precision::bf16);
        }
    }

    void multiply(const FewRows & p, const Tensor & weight, int64_t row, const float * scale_values) const {
        if (weight.dtype == DType::f32) return loops_.few_rows.f32(p, weight.as<const float>() + row * p.k);
        if (weight.dtype == DType::bf16) return loops_.few_rows.bf16(p, weight.as<const uint16_t>() + row * p.k);
        loops_.few_rows.nvfp4(p, weight.as<const uint8_t>() + row * p.k / 2, weight.block_scales + row * p.k / 16,
                              scale_values);
    }

    const GemmKernels & kernels_;
    const Loops & loops_;
    int64_t piece_ = 0, tasks_ = 0;
    std::vector<Prepared> prepared_;
};

} // namespace

uint64_t few_rows_scratch_bytes(int64_t rows, int64_t k) { return uint64_t(rows) * uint64_t(k) * sizeof(float); }

Status few_rows(const GemmProblem * problems, int64_t count, void * scratch, ThreadPool & threads) {
    return guard_exceptions([&] {
        Products products(gemm_kernels_of(threads.instructions()), loops(threads.instructions()));
        products.prepare(problems, count, static_cast<float *>(scratch), threads.size());
        return threads.parallel_for(products.tasks(), [&](int64_t task) -> Status {
            products.run(task);
            return {};
        });
    });
}

} // namespace gnv::cpu
