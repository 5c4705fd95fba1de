#include "cpu/few_rows.h"

#include "codec/nvfp4_variants.h"
#include "cpu/compact_bf16.h"
#include "cpu/loops.h"

#include <algorithm>
#include <atomic>
#include <iterator>

namespace gnv::cpu {

namespace {

constexpr int64_t piece_bytes = 48 << 10;            // of a weight in one task, about
constexpr int64_t fewest_tasks = 4, most_tasks = 32; // of each thread
constexpr int64_t smallest_piece = 8;                // rows in one task

// Tasks in shares. Who has a share does its tasks one after the other, so that weights are read as they lie, and then what is left
// of other shares.
class Shares {
  public:
    Shares(int64_t tasks, int count) : shares_(size_t(count)) {
        for (int64_t i = 0; i < count; i++) {
            shares_[size_t(i)].next = tasks * i / count;
            shares_[size_t(i)].end = tasks * (i + 1) / count;
        }
    }
    int64_t count() const { return int64_t(shares_.size()); }
    // Each share is to be begun once, by any thread.
    template <class Run>
    void run_from(int64_t own, const Run & run) {
        for (size_t i = 0; i < shares_.size(); i++) {
            Share & share = shares_[(size_t(own) + i) % shares_.size()];
            while (share.next.load(std::memory_order_relaxed) < share.end) {
                const int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
                if (task < share.end) run(task);
            }
        }
    }

  private:
    struct alignas(64) Share { // on a cache line of its own
        std::atomic<int64_t> next{0};
        int64_t end = 0;
    };
    std::vector<Share> shares_;
};

struct Prepared {
    GemmProblem problem; // rows of `a` as the loops take them, W4A4 applied
    int64_t first_task = 0;
    bool pairs = false; // of BF16 numbers, in rows of spread_width() / 2 words
};

int64_t spread_width(int64_t k) {
    return (k + few_rows_spread_columns - 1) / few_rows_spread_columns * few_rows_spread_columns;
}

// Those with pairs where products of many rows have them.
const FewRowsLoops & loops_beside([[maybe_unused]] const GemmKernels & kernels, InstructionSet set) {
#ifdef __x86_64__
    if (kernels.pairs) return few_rows_avx512_bf16;
#endif
    return loops(set).few_rows;
}

class Products {
  public:
    Products(const GemmKernels & kernels, const FewRowsLoops & loops) : kernels_(kernels), loops_(loops) {
        for (size_t i = 0; i < std::size(scale_values_); i++)
            scale_values_[i] = nvfp4::e4m3_values.of[i] * few_rows_scale_unit;
    }

    // Quantizes the inputs that ask for it, spreads those of NVFP4 weights and cuts the weights into pieces of rows.
    void prepare(const GemmProblem * problems, int64_t count, float * scratch, int threads) {
        int64_t rows = 0, bytes = 0;
        for (const GemmProblem * p = problems; p < problems + count; p++)
            if (p->m > 0) rows += p->n, bytes += int64_t(stored_bytes(p->weight, p->weight.shape));
        const int64_t pieces = std::clamp(bytes / piece_bytes, fewest_tasks * threads, most_tasks * threads);
        piece_ = std::max(rows / pieces / 4 * 4, smallest_piece);
        for (int64_t i = 0; i < count; i++) {
            if (problems[i].m <= 0 || problems[i].n <= 0) continue;
            prepared_.push_back({problems[i], tasks_});
            tasks_ += (problems[i].n + piece_ - 1) / piece_;
            scratch = prepare_rows(problems[i], prepared_.back(), scratch);
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
        if (end == problem.n && after != prepared_.end()) ask_for_start(after->problem.weight);
        const int64_t scale_rows = problem.weight.dtype == DType::f4 ? problem.weight.global_scale_rows : problem.n;
        while (row < end) { // rows with the same global scale
            const int64_t next = std::min(end, (row / scale_rows + 1) * scale_rows);
            run_rows(prepared, row, next);
            row = next;
        }
    }

  private:
    // Gives the problem `from` its rows: in scratch memory, unless the loops take them as they are.
    float * prepare_rows(const GemmProblem & from, Prepared & prepared, float * scratch) {
        GemmProblem & problem = prepared.problem;
        const bool spread = problem.weight.dtype == DType::f4;
        if (!spread && !problem.input_scale) return scratch;
        if (!last_ || (last_->weight.dtype == DType::f4) != spread || !last_->shares_rows(from)) {
            last_ = &from;
            spread_to_ = scratch;
            spread_pairs_ = spread && spread_as_pairs(problem, scratch);
            const int64_t width = spread ? spread_width(problem.k) : problem.k;
            for (int64_t i = 0; i < problem.m && !spread_pairs_; i++)
                prepare_row(problem, problem.row_of_a(i), scratch + i * width);
            scratch += problem.m * width;
        }
        prepared.pairs = spread_pairs_;
        problem.a = spread_to_;
        problem.a_rows = nullptr;
        problem.a_stride = !spread ? problem.k : spread_pairs_ ? spread_width(problem.k) / 2 : spread_width(problem.k);
        return scratch;
    }

    // False if any row has to be spread otherwise.
    bool spread_as_pairs(const GemmProblem & problem, float * out) const {
        if (!loops_.spread_pairs || problem.input_scale) return false;
        for (int64_t i = 0; i < problem.m; i++, out += spread_width(problem.k) / 2)
            if (!loops_.spread_pairs(problem.row_of_a(i), problem.k, out)) return false;
        return true;
    }

    void prepare_row(const GemmProblem & problem, const float * x, float * out) const {
        if (problem.weight.dtype != DType::f4) return kernels_.quantize_row(x, problem.k, *problem.input_scale, out);
        if (!problem.input_scale) return loops_.spread(x, problem.k, out);
        for (int64_t k = 0; k < problem.k; k += few_rows_spread_columns) {
            const int64_t columns = std::min(few_rows_spread_columns, problem.k - k);
            float quantized[few_rows_spread_columns];
            kernels_.quantize_row(x + k, columns, *problem.input_scale, quantized);
            loops_.spread(quantized, columns, out + k);
        }
    }

    // A weight's first lines, which the loops do not ask for before they use them.
    static void ask_for_start(const Tensor & weight) {
        constexpr int64_t code_bytes = 3072, scale_bytes = code_bytes / 8, line = 64;
        const auto * const codes = weight.as<const char>();
        for (int64_t at = 0; at < code_bytes; at += line) __builtin_prefetch(codes + at, 0, 2);
        if (!weight.block_scales) return;
        for (int64_t at = 0; at < scale_bytes; at += line) __builtin_prefetch(weight.block_scales + at, 0, 2);
    }

    // Rows [row, end) of the weight, which share a global scale.
    void run_rows(const Prepared & prepared, int64_t row, int64_t end) const {
        const GemmProblem & problem = prepared.problem;
        for (int64_t first = 0; first < problem.m; first += few_rows_most) {
            const float * x[few_rows_most];
            float * y[few_rows_most];
            FewRows p = {x, int(std::min<int64_t>(few_rows_most, problem.m - first)), end - row, problem.k, y};
            for (int i = 0; i < p.count; i++) {
                x[i] = problem.row_of_a(first + i);
                y[i] = problem.c + (first + i) * problem.c_stride + row;
            }
            multiply(p, prepared, row);
            const float divisor = problem.divisor_of(row);
            for (int i = 0; i < p.count; i++)
                kernels_.finish(y[i], p.rows, divisor, problem.precision == Precision::bf16);
        }
    }

    void multiply(const FewRows & p, const Prepared & prepared, int64_t row) const {
        const Tensor weight = rows_from(prepared.problem.weight, row, {p.rows, p.k});
        if (weight.dtype == DType::f32) return loops_.f32(p, weight.as<const float>());
        if (weight.is_compact()) return loops_.compact_bf16(p, compact_view(weight));
        if (weight.dtype == DType::bf16) return loops_.bf16(p, weight.as<const uint16_t>());
        const auto nvfp4 = prepared.pairs ? loops_.nvfp4_pairs : loops_.nvfp4;
        nvfp4(p, weight.as<const uint8_t>(), weight.block_scales, scale_values_);
    }

    const GemmKernels & kernels_;
    const FewRowsLoops & loops_;
    float scale_values_[256]; // of each byte of a block scale
    int64_t piece_ = 0, tasks_ = 0;
    const GemmProblem * last_ = nullptr; // whose rows were last put to scratch memory,
    const float * spread_to_ = nullptr;  // where,
    bool spread_pairs_ = false;          // and how
    std::vector<Prepared> prepared_;
};

} // namespace

uint64_t few_rows_scratch_bytes(int64_t rows, int64_t k) {
    return uint64_t(rows) * uint64_t(spread_width(k)) * sizeof(float);
}

Status few_rows(const GemmProblem * problems, int64_t count, void * scratch, ThreadPool & threads) {
    return guard_exceptions([&] {
        const GemmKernels & kernels = gemm_kernels_of(threads.instructions());
        Products products(kernels, loops_beside(kernels, threads.instructions()));
        products.prepare(problems, count, static_cast<float *>(scratch), threads.size());
        Shares shares(products.tasks(), int(std::min<int64_t>(products.tasks(), threads.size())));
        return threads.parallel_for(shares.count(), [&](int64_t own) -> Status {
            shares.run_from(own, [&](int64_t task) { products.run(task); });
            return {};
        });
    });
}

} // namespace gnv::cpu
