#include "cpu/gemm.h"

#include "cpu/gemm_tile.h"

#include <algorithm>

namespace gnv::cpu {

namespace {

constexpr int64_t tasks_per_thread = 4; // at least, to balance the load

int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

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

// All problems as one list of tasks.
struct Run {
    const GemmKernels & kernels;
    const GemmProblem * problems;
    int64_t count;
    void * scratch;
    int64_t depth = 0;
    int64_t largest_rows = gemm_tile_rows, largest_columns = gemm_tile_columns;

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
        run_tile(problem, kernels, TileBuffers(scratch, depth, thread),
                 {row, std::min(row + tiles.rows, problem.m), column, std::min(column + tiles.columns, problem.n)});
    }
};

int64_t depth_for(int64_t k) { return std::min(std::max<int64_t>(k, 1), gemm_depth); }

} // namespace

uint64_t gemm_scratch_bytes(int64_t largest_k, int threads) {
    return uint64_t(threads) * uint64_t(TileBuffers::floats(depth_for(largest_k))) * sizeof(float);
}

#ifdef __x86_64__
namespace {

// Null if this processor's instruction is missing or another.
const GemmKernels * kernels_with_pairs() {
    static const GemmKernels kernels = [] {
        GemmKernels found = gemm_avx512;
        found.name = "avx512_bf16";
        const bool has_them = best_instruction_set() == InstructionSet::avx512 &&
                              __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi");
        if (has_them && pairs_avx512_bf16.keep_the_chain()) found.pairs = &pairs_avx512_bf16;
        return found;
    }();
    return kernels.pairs ? &kernels : nullptr;
}

// Zen 4 makes a pair in the time of a multiply-add, a Xeon (Sapphire Rapids) in that of four: docs/performance.md.
bool pairs_are_fast() { return __builtin_cpu_is("amd"); }

} // namespace
#endif

const GemmKernels & gemm_kernels_of([[maybe_unused]] InstructionSet set) {
#ifdef __x86_64__
    if (set == InstructionSet::avx512) {
        const GemmKernels * const pairs = pairs_are_fast() ? kernels_with_pairs() : nullptr;
        return pairs ? *pairs : gemm_avx512;
    }
    if (set == InstructionSet::avx2) return gemm_avx2;
#endif
    return gemm_portable;
}

const std::vector<const GemmKernels *> & gemm_kernels() {
    static const std::vector<const GemmKernels *> list = [] {
        std::vector<const GemmKernels *> found;
        for (int set = int(best_instruction_set()); set >= 0; set--) {
            found.push_back(&gemm_kernels_of(InstructionSet(set)));
#ifdef __x86_64__
            if (set != int(InstructionSet::avx512)) continue;
            const GemmKernels * const other = found.back()->pairs ? &gemm_avx512 : kernels_with_pairs();
            if (other) found.push_back(other);
#endif
        }
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

} // namespace gnv::cpu
