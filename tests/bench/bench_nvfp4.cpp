// Speed of the NVFP4 codec's kernels on this processor, beside a memcpy of the same run. Numbers are GB/s of BF16:
// bytes of the BF16 weight that were read (or, for dequantize, that the floats written stand for) per second, the
// median of several runs.
#include "codec/nvfp4_compare.h"
#include "codec/nvfp4_pack.h"
#include "core/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

using namespace gnv;

namespace {

constexpr int64_t columns = 2048;
constexpr int64_t rows_per_task = 32;

// A weight with everything that the kernels read and write.
struct Workspace {
    explicit Workspace(int64_t weight_rows)
        : rows(weight_rows), source(size_t(rows * columns)), copy(source.size()), values(source.size()),
          codes(source.size() / 2), scales(source.size() / 16) {
        std::mt19937 random(1);
        for (uint16_t & bits : source) bits = uint16_t((random() & 0x8000) | (0x3c00 + random() % 512));
    }

    // `count` rows from `first` on, as a weight of their own.
    template <class Weight>
    Weight slice(int64_t first, int64_t count) {
        return {count,
                columns,
                nvfp4::Layout::row_major,
                std::span(codes).subspan(size_t(first * columns / 2), size_t(count * columns / 2)),
                std::span(scales).subspan(size_t(first * columns / 16), size_t(count * columns / 16)),
                2688.0f};
    }

    int64_t rows;
    std::vector<uint16_t> source, copy;
    std::vector<float> values;
    std::vector<uint8_t> codes, scales;
};

using Work = std::function<void(int64_t first_row, int64_t rows)>;

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Work on all rows, `repeats` times, spread over the pool.
double run_seconds(ThreadPool & pool, int64_t rows, int repeats, const Work & work) {
    const int64_t tasks = (rows + rows_per_task - 1) / rows_per_task;
    const double begin = seconds_now();
    for (int i = 0; i < repeats; i++) {
        const Status status = pool.parallel_for(tasks, [&](int64_t task) -> Status {
            work(task * rows_per_task, std::min(rows_per_task, rows - task * rows_per_task));
            return {};
        });
        GNV_CHECK(status.ok());
    }
    return seconds_now() - begin;
}

double median_gigabytes_per_second(ThreadPool & pool, int64_t rows, const Work & work) {
    const double once = std::max(1e-7, run_seconds(pool, rows, 2, work) / 2); // also warms up
    const int repeats = std::max(1, int(0.02 / once));
    std::vector<double> seconds;
    for (int run = 0; run < 9; run++) seconds.push_back(run_seconds(pool, rows, repeats, work));
    std::nth_element(seconds.begin(), seconds.begin() + 4, seconds.end());
    return double(rows * columns * 2) * repeats / seconds[4] * 1e-9;
}

void bench(ThreadPool & pool, Workspace & space) {
    printf("\n%lld KiB of BF16, %d thread%s (GB/s)\n", (long long)(space.source.size() * 2 / 1024), pool.size(),
           pool.size() == 1 ? "" : "s");
    const double copied = median_gigabytes_per_second(pool, space.rows, [&](int64_t first, int64_t rows) {
        memcpy(&space.copy[size_t(first * columns)], &space.source[size_t(first * columns)],
               size_t(rows * columns * 2));
    });
    printf("  %-9s %8.2f\n  %-9s %8s %8s %10s\n", "memcpy", copied, "", "amax", "quantize", "dequantize");
    for (const nvfp4::Kernels * kernels : nvfp4::kernels()) {
        const double amax = median_gigabytes_per_second(pool, space.rows, [&](int64_t first, int64_t rows) {
            const uint16_t largest =
                kernels->absolute_maximum_bf16(&space.source[size_t(first * columns)], rows * columns);
            GNV_CHECK(largest < 0x7f80);
        });
        const double quantize = median_gigabytes_per_second(pool, space.rows, [&](int64_t first, int64_t rows) {
            kernels->quantize_bf16(&space.source[size_t(first * columns)], space.slice<nvfp4::Weight>(first, rows));
        });
        const double dequantize = median_gigabytes_per_second(pool, space.rows, [&](int64_t first, int64_t rows) {
            kernels->dequantize(space.slice<nvfp4::ConstWeight>(first, rows), &space.values[size_t(first * columns)]);
        });
        printf("  %-9s %8.2f %8.2f %10.2f\n", kernels->name, amax, quantize, dequantize);
    }
    const double compare = median_gigabytes_per_second(pool, space.rows, [&](int64_t first, int64_t rows) {
        const auto weight = space.slice<nvfp4::ConstWeight>(first, rows);
        const auto figures = nvfp4::compare(best_instruction_set(), DType::bf16, &space.source[size_t(first * columns)],
                                            rows * columns / nvfp4::block_size, weight.codes.data(),
                                            weight.scales.data(), weight.global_scale);
        GNV_CHECK(figures.finite);
    });
    printf("  compare, as verify does it, %s: %.2f\n", nvfp4::kernels_for(best_instruction_set()).name, compare);
}

} // namespace

int main() {
    auto one = ThreadPool::create(1).take();
    auto all = ThreadPool::create(0).take();
    Workspace in_cache(rows_per_task), in_memory(65536 / 2);
    for (ThreadPool * pool : {one.get(), all.get()}) {
        if (pool == one.get()) bench(*pool, in_cache); // one task: more threads would only wait
        bench(*pool, in_memory);
    }
}
