// Speed of the CPU's matrix products at the shapes that matter, beside what the processor's multiply-add units can do: the
// peak is measured with a loop that touches registers only. GFLOP/s are 2 * m * n * k per second, the best of several runs.
// Products of few rows read each weight once: their rows have the GB/s of the weights, beside those of a copy.
#include "core/thread_pool.h"
#include "cpu/few_rows.h"
#include "cpu/gemm.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

using namespace gnv;

namespace {

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Body>
double best_seconds(const Body & body) {
    double best = 1e9;
    const double begin = seconds_now();
    for (int run = 0; run < 3 || (run < 50 && seconds_now() - begin < 0.4); run++) {
        const double start = seconds_now();
        body();
        best = std::min(best, seconds_now() - start);
    }
    return best;
}

// Multiply-adds that touch registers only: enough independent chains to fill every unit. Returns how many were made.
#ifdef __x86_64__
__attribute__((target("avx512f"))) int64_t multiply_add_avx512(int64_t repeats, float * out) {
    __m512 sums[16];
    for (__m512 & sum : sums) sum = _mm512_set1_ps(1);
    const __m512 a = _mm512_set1_ps(out[0]), b = _mm512_set1_ps(out[1]);
    for (int64_t i = 0; i < repeats; i++)
#pragma GCC unroll 16
        for (__m512 & sum : sums) sum = _mm512_fmadd_ps(sum, a, b);
    for (const __m512 & sum : sums) out[2] += _mm512_cvtss_f32(sum);
    return repeats * 16 * 16;
}

// The same of BF16 numbers, two for one.
__attribute__((target("avx512f,avx512bf16"))) int64_t multiply_add_pairs(int64_t repeats, float * out) {
    __m512 sums[16];
    for (__m512 & sum : sums) sum = _mm512_set1_ps(1);
    const __m512i a = _mm512_castps_si512(_mm512_set1_ps(out[0])), b = _mm512_castps_si512(_mm512_set1_ps(out[1]));
    for (int64_t i = 0; i < repeats; i++)
#pragma GCC unroll 16
        for (__m512 & sum : sums) sum = _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
    for (const __m512 & sum : sums) out[2] += _mm512_cvtss_f32(sum);
    return repeats * 16 * 32;
}

__attribute__((target("avx2,fma"))) int64_t multiply_add_avx2(int64_t repeats, float * out) {
    __m256 sums[12];
    for (__m256 & sum : sums) sum = _mm256_set1_ps(1);
    const __m256 a = _mm256_set1_ps(out[0]), b = _mm256_set1_ps(out[1]);
    for (int64_t i = 0; i < repeats; i++)
#pragma GCC unroll 16
        for (__m256 & sum : sums) sum = _mm256_fmadd_ps(sum, a, b);
    for (const __m256 & sum : sums) out[2] += _mm256_cvtss_f32(sum);
    return repeats * 12 * 8;
}
#endif

int64_t multiply_add_portable(int64_t repeats, float * out) {
    float sums[16] = {};
    for (int64_t i = 0; i < repeats; i++)
        for (float & sum : sums) sum = __builtin_fmaf(sum, out[0], out[1]);
    for (const float sum : sums) out[2] += sum;
    return repeats * 16;
}

double peak_gigaflops(const cpu::GemmKernels & kernels, ThreadPool & pool) {
    auto * multiply_add = multiply_add_portable;
    int64_t repeats = 10000;
#ifdef __x86_64__
    if (&kernels != &cpu::gemm_portable) {
        multiply_add = &kernels == &cpu::gemm_avx2 ? multiply_add_avx2
                       : kernels.pairs             ? multiply_add_pairs
                                                   : multiply_add_avx512;
        repeats = 1000000;
    }
#endif
    std::vector<int64_t> made(size_t(pool.size()));
    const double seconds = best_seconds([&] {
        const Status status = pool.parallel_for(pool.size(), [&](int64_t i) -> Status {
            float values[3] = {0.5f, 0.25f, 0};
            made[size_t(i)] = multiply_add(repeats, values);
            GNV_CHECK(values[2] != 0);
            return {};
        });
        GNV_CHECK(status.ok());
    });
    return 2e-9 * double(made[0] * pool.size()) / seconds;
}

struct Case {
    const char * name;
    int64_t m, n, k, problems;
    DType dtype;
    bool w4a4;
    bool f32 = false; // rows of `a` are no BF16 numbers
};

constexpr Case cases[] = {
    {"eight columns", 4096, 8, 256, 1, DType::bf16, false},
    {"router", 4096, 32, 256, 1, DType::bf16, false},
    {"32 experts, 500 rows", 500, 64, 256, 32, DType::bf16, false},
    {"linear", 1024, 2048, 256, 1, DType::bf16, false},
    {"32 experts, 1000 rows", 1000, 256, 64, 32, DType::bf16, false},
    {"wide linear", 512, 16384, 1024, 1, DType::bf16, false},
    {"square", 2048, 2048, 2048, 1, DType::f32, false},
    {"square", 2048, 2048, 2048, 1, DType::bf16, false},
    {"square", 2048, 2048, 2048, 1, DType::f4, false},
    {"square, a in F32", 2048, 2048, 2048, 1, DType::bf16, false, true},
    {"square, a in F32", 2048, 2048, 2048, 1, DType::f4, false, true},
    {"square W4A4", 2048, 2048, 2048, 1, DType::f4, true},
    {"64 experts, 64 rows", 64, 1024, 1024, 64, DType::f4, false},
    {"64 experts, W4A4", 64, 1024, 1024, 64, DType::f4, true},
};

// In the class of few rows. The experts' weights are larger than the caches of a core.
constexpr Case few_rows_cases[] = {
    {"one row", 1, 8192, 2048, 1, DType::bf16, false},
    {"one row", 1, 8192, 2048, 1, DType::f4, false},
    {"one row W4A4", 1, 8192, 2048, 1, DType::f4, true},
    {"64 experts, one row", 1, 512, 1024, 64, DType::f4, false},
    {"64 experts, one W4A4", 1, 512, 1024, 64, DType::f4, true},
    {"four rows", 4, 8192, 2048, 1, DType::bf16, false},
    {"four rows", 4, 8192, 2048, 1, DType::f4, false},
    {"sixteen rows", 16, 8192, 2048, 1, DType::f4, false},
};

struct Data {
    explicit Data(const Case & shape)
        : a(size_t(shape.m * shape.k)), c(size_t(shape.problems * shape.m * shape.n)),
          weight(size_t(shape.problems * shape.n * shape.k * 4)),
          scales(size_t(shape.problems * shape.n * shape.k / 16), 0x38) {
        std::mt19937 random(1);
        for (float & value : a) {
            value = float(int(random() % 2001) - 1000) * 1e-3f;
            if (!shape.f32) value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000);
        }
        if (shape.dtype == DType::f4) {
            for (uint8_t & byte : weight) byte = uint8_t(random());
            return;
        }
        const bool bf16 = shape.dtype == DType::bf16; // numbers of [1, 2) and [-2, -1)
        for (size_t i = 0; i + 4 <= weight.size(); i += 4) {
            const uint32_t bits = bf16 ? (random() & 0x807f807f) | 0x3f803f80 : (random() & 0x807fffff) | 0x3f800000;
            memcpy(&weight[i], &bits, 4);
        }
    }
    std::vector<float> a, c;
    std::vector<uint8_t> weight, scales;
    float global = 512, input_scale = 64;
};

std::vector<cpu::GemmProblem> problems_of(const Case & shape, Data & data) {
    std::vector<cpu::GemmProblem> problems(static_cast<size_t>(shape.problems));
    const Shape weight_shape = {shape.n, shape.k};
    for (size_t i = 0; i < problems.size(); i++) {
        cpu::GemmProblem & problem = problems[i];
        problem.m = shape.m;
        problem.n = shape.n;
        problem.k = shape.k;
        problem.a = data.a.data();
        problem.a_stride = shape.k;
        problem.weight.dtype = shape.dtype;
        problem.weight.shape = weight_shape;
        problem.weight.data = data.weight.data() + i * tensor_bytes(shape.dtype, weight_shape);
        problem.weight.block_scales = data.scales.data() + int64_t(i) * shape.n * shape.k / 16;
        problem.weight.global_scales = &data.global;
        problem.weight.global_scale_rows = shape.n;
        problem.bf16_rows = !shape.f32;
        if (shape.w4a4) problem.input_scale = &data.input_scale;
        problem.c = data.c.data() + int64_t(i) * shape.m * shape.n;
        problem.c_stride = shape.n;
    }
    return problems;
}

double operations(const Case & shape) { return 2.0 * double(shape.m * shape.n * shape.k * shape.problems); }

void print_case(const Case & shape) {
    printf("    %-22s %5lld x %4lld -> %5lld %-5s", shape.name, (long long)shape.m, (long long)shape.k,
           (long long)shape.n, dtype_name(shape.dtype));
}

// Scratch memory that starts at a line of the cache.
struct Scratch {
    explicit Scratch(uint64_t bytes) : buffer(bytes / sizeof(float) + 16) {}
    float * data() { return buffer.data() + (64 - reinterpret_cast<uintptr_t>(buffer.data()) % 64) / sizeof(float); }
    std::vector<float> buffer;
};

void bench(const Case & shape, const cpu::GemmKernels & kernels, ThreadPool & pool, double peak) {
    Data data(shape);
    const std::vector<cpu::GemmProblem> problems = problems_of(shape, data);
    Scratch scratch(cpu::gemm_scratch_bytes(kernels, {shape.m, shape.k, true}, pool.size()));
    const double seconds = best_seconds([&] {
        GNV_CHECK(cpu::gemm_with(kernels, problems.data(), int64_t(problems.size()), scratch.data(), pool).ok());
    });
    const double gigaflops = 1e-9 * operations(shape) / seconds;
    print_case(shape);
    printf(" %8.1f GFLOP/s  %3.0f %%\n", gigaflops, gigaflops / peak * 100);
}

// Bytes a second that a copy by all threads reads and writes, of more than a core's caches hold.
double copy_rate(ThreadPool & pool) {
    constexpr size_t part = size_t(16) << 20;
    std::vector<uint8_t> from(part * size_t(pool.size()), 1), to(from.size(), 2);
    const double seconds = best_seconds([&] {
        const Status status = pool.parallel_for(pool.size(), [&](int64_t i) -> Status {
            memcpy(to.data() + size_t(i) * part, from.data() + size_t(i) * part, part);
            return {};
        });
        GNV_CHECK(status.ok());
    });
    return 2.0 * double(from.size()) / seconds;
}

void bench_few_rows(const Case & shape, ThreadPool & pool, double copied) {
    Data data(shape);
    const std::vector<cpu::GemmProblem> problems = problems_of(shape, data);
    Scratch scratch(cpu::few_rows_scratch_bytes(shape.m * shape.problems, shape.k));
    const double seconds = best_seconds(
        [&] { GNV_CHECK(cpu::few_rows(problems.data(), int64_t(problems.size()), scratch.data(), pool).ok()); });
    const double elements = double(shape.problems * shape.n * shape.k);
    const double rate = elements * (shape.dtype == DType::f4 ? 9.0 / 16 : 2) / seconds; // codes and scales
    print_case(shape);
    printf(" %8.1f GFLOP/s  %6.2f GB/s  %3.0f %% of a copy\n", 1e-9 * operations(shape) / seconds, rate * 1e-9,
           rate / copied * 100);
}

} // namespace

int main() {
    auto one = ThreadPool::create(1).take();
    auto all = ThreadPool::create(0).take();
    for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) {
        const bool slow = kernels == cpu::gemm_kernels().back(); // calls a function for each multiply-add on x86-64
        for (ThreadPool * pool : {one.get(), all.get()}) {
            const double peak = peak_gigaflops(*kernels, *pool);
            printf("%s, %d thread%s: peak %.1f GFLOP/s\n", kernels->name, pool->size(), pool->size() == 1 ? "" : "s",
                   peak);
            for (const Case & shape : cases) {
                if (slow && shape.m * shape.n * shape.k > 1 << 30) continue;
                bench(shape, *kernels, *pool, peak);
            }
        }
    }
    for (int set = int(best_instruction_set()); set >= 0; set--) {
        for (const int threads : {1, all->size()}) {
            auto pool = ThreadPool::create(threads, InstructionSet(set)).take();
            const double copied = copy_rate(*pool);
            printf("few rows, %s, %d thread%s: a copy reads and writes %.1f GB/s\n",
                   instruction_set_name(InstructionSet(set)), threads, threads == 1 ? "" : "s", copied * 1e-9);
            for (const Case & shape : few_rows_cases) bench_few_rows(shape, *pool, copied);
        }
    }
}
