#include "cpu/gemm.h"

#include "cpu/gemm_tile.h"

#include <algorithm>

namespace gnv::cpu {

namespace {

constexpr int64_t tasks_per_thread = 4; // at least, to balance the load
constexpr int64_t last_parts = 4;       // of a tile, so that threads end at nearly the same time

int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// Problems that share their rows of `a`: their results side by side are as one of m rows and n columns.
struct Chain {
    const GemmProblem *first, *end;
    int64_t m, n;
};

std::vector<Chain> chains_of(const GemmProblem * problems, int64_t count) {
    std::vector<Chain> chains;
    for (const GemmProblem * p = problems; p < problems + count; p++) {
        if (p->m <= 0 || p->n <= 0) continue;
        if (!chains.empty() && chains.back().end == p && chains.back().first->shares_rows(*p))
            chains.back().end++, chains.back().n += p->n;
        else
            chains.push_back({p, p + 1, p->m, p->n});
    }
    return chains;
}

// A chain cut into tiles of equal size, the last ones aside.
struct Cut {
    Cut(const Chain & chain, const GemmKernels & kernels, int64_t largest_rows, int64_t largest_columns) {
        down = divide_up(chain.m, largest_rows);
        across = divide_up(chain.n, largest_columns);
        rows = round_up(divide_up(chain.m, down), kernels.panel_rows);
        columns = round_up(divide_up(chain.n, across), kernels.panel_columns);
        down = divide_up(chain.m, rows);
        across = divide_up(chain.n, columns);
    }
    int64_t tiles() const { return down * across; }

    int64_t down = 0, across = 0, rows = 0, columns = 0;
};

// All problems as one list of tasks.
struct Run {
    const GemmKernels & kernels;
    std::vector<Chain> chains;
    void * scratch;
    GemmScratch sizes;
    TileRoom room;
    std::vector<PackedRows> packed = {}; // by thread
    int64_t largest_rows = gemm_tile_rows;
    int64_t largest_columns = sizes.has_pairs ? gemm_pair_tile_columns : gemm_group_columns;
    int64_t all_tiles = 0, whole_tiles = 0;

    Cut cut(const Chain & chain) const { return Cut(chain, kernels, largest_rows, largest_columns); }

    int64_t tiles() const {
        int64_t total = 0;
        for (const Chain & chain : chains) total += cut(chain).tiles();
        return total;
    }

    void divide(int threads) {
        if (threads > 1) balance(threads);
        whole_tiles = all_tiles = tiles();
        const bool rows_stay = sizes.has_pairs && room.depth >= sizes.k; // else each part packs them anew
        if (threads > 1 && all_tiles > threads && rows_stay) whole_tiles -= threads;
    }

    // Smaller tiles until all threads have work, or packing would cost more than the products.
    void balance(int threads) {
        const int64_t smallest_rows = 8 * kernels.panel_rows, smallest_columns = 4 * kernels.panel_columns;
        while (tiles() < tasks_per_thread * threads) {
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

    // The last tile of each thread comes in parts.
    int64_t tasks() const { return whole_tiles + (all_tiles - whole_tiles) * last_parts; }

    void run_task(int64_t task, int thread) {
        const bool is_part = task >= whole_tiles;
        int64_t tile = is_part ? whole_tiles + (task - whole_tiles) / last_parts : task;
        const Chain * chain = chains.data();
        Cut tiles = cut(*chain);
        while (tile >= tiles.tiles()) {
            tile -= tiles.tiles();
            tiles = cut(*++chain);
        }
        const int64_t row = tile % tiles.down * tiles.rows, row_end = std::min(row + tiles.rows, chain->m);
        int64_t column = tile / tiles.down * tiles.columns, column_end = std::min(column + tiles.columns, chain->n);
        if (is_part) {
            const int64_t columns = round_up(divide_up(column_end - column, last_parts), kernels.panel_columns);
            column += (task - whole_tiles) % last_parts * columns;
            column_end = std::min(column + columns, column_end);
        }
        const TileBuffers buffers(scratch, room, thread, packed[size_t(thread)]);
        for (const GemmProblem * p = chain->first; p < chain->end; column -= p->n, column_end -= p->n, p++) {
            const int64_t first = std::max<int64_t>(column, 0), end = std::min(column_end, p->n);
            if (first < end) run_tile(*p, kernels, buffers, {row, row_end, first, end});
        }
    }
};

// Only with pairs more room than F32 numbers need.
TileRoom room_for(const GemmKernels & kernels, const GemmScratch & sizes) {
    const bool rows_stay = kernels.pairs && sizes.has_pairs;
    return {std::clamp<int64_t>(sizes.k, 1, gemm_depth),
            rows_stay ? std::min(round_up(sizes.rows, kernels.panel_rows), most_pair_rows) : 0};
}

GemmScratch sizes_of(const GemmKernels & kernels, const GemmProblem * problems, int64_t count) {
    GemmScratch sizes;
    for (const GemmProblem * p = problems; p < problems + count; p++) {
        sizes.rows = std::max(sizes.rows, p->m), sizes.k = std::max(sizes.k, p->k);
        sizes.has_pairs |= kernels.pairs && p->weight.dtype != DType::f32 && (p->bf16_rows || p->input_scale);
    }
    return sizes;
}

} // namespace

uint64_t gemm_scratch_bytes(const GemmKernels & kernels, const GemmScratch & scratch, int threads) {
    return uint64_t(threads) * uint64_t(room_for(kernels, scratch).floats()) * sizeof(float);
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
    return guard_exceptions([&]() -> Status {
        const GemmScratch sizes = sizes_of(kernels, problems, count);
        Run run{kernels, chains_of(problems, count), scratch, sizes, room_for(kernels, sizes)};
        run.packed.resize(size_t(threads.size()));
        run.divide(threads.size());
        return threads.parallel_for_thread(run.tasks(), [&run](int64_t task, int thread) -> Status {
            run.run_task(task, thread);
            return {};
        });
    });
}

} // namespace gnv::cpu
