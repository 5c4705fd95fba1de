// Speed of the CPU's ops, beside a memcpy: GB/s of what is read and written, the median of several runs. First the loops
// of each instruction set on one thread, then the kernels on one thread and on all.
#include "cpu/row_kernels.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

using namespace gnv;

namespace {

double median_seconds(const std::function<void()> & work) {
    std::vector<double> seconds;
    work();
    for (int i = 0; i < 9; i++) {
        const auto begin = std::chrono::steady_clock::now();
        work();
        seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
}

void measure(const char * group, const char * name, double bytes, double operations,
             const std::function<void()> & work) {
    const double seconds = median_seconds(work);
    printf("%-10s %-32s %9.1f us %7.1f GB/s %7.2f G/s\n", group, name, seconds * 1e6, bytes / seconds * 1e-9,
           operations / seconds * 1e-9);
}

std::vector<float> random_floats(int64_t count) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    for (float & value : values) value = normal(random);
    return values;
}

Tensor f32(std::vector<float> & values, Shape shape) { return {DType::f32, shape, values.data()}; }

constexpr int64_t rows = 1024, width = 2048, experts = 256, per_token = 8;
constexpr double elements = double(rows * width);

void measure_loops() {
    std::vector<float> x = random_floats(rows * width), u = x, y = x, w = random_floats(width);
    std::vector<float> moments(16 * 16);
    int32_t largest = 0;
    const cpu::Loops & first = *cpu::all_loops().front();
    for (const cpu::Loops * loops : cpu::all_loops()) {
        const cpu::RowLoops & row = loops->rows;
        const char * name = loops->name;
        const int64_t small = 16384; // elements that stay in a cache
        measure(name, "exp of 16384", small * 8, small, [&] { row.exponential(x.data(), small, y.data()); });
        measure(name, "silu_mul of 16384", small * 12, small,
                [&] { row.silu_mul(x.data(), u.data(), small, false, y.data()); });
        measure(name, "silu_mul of 16384, bf16", small * 12, small,
                [&] { row.silu_mul(x.data(), u.data(), small, true, y.data()); });
        if (loops != &first && loops == cpu::all_loops().back()) continue; // minutes
        measure(name, "rms_norm 1024 x 2048", elements * 8, elements,
                [&] { row.rms_norm(x.data(), width, w.data(), rows, width, 1e-6f, false, y.data()); });
        measure(name, "rms_norm 8 x 2048", 8 * width * 8, 8 * width,
                [&] { row.rms_norm(x.data(), width, w.data(), 8, width, 1e-6f, false, y.data()); });
        measure(name, "rms_norm 65536 x 32", elements * 8, elements,
                [&] { row.rms_norm(x.data(), 32, w.data(), rows * width / 32, 32, 1e-6f, false, y.data()); });
        measure(name, "largest_magnitude", elements * 4, elements,
                [&] { largest = row.largest_magnitude(x.data(), rows * width); });
        measure(name, "largest_magnitude of 16384", small * 4, small,
                [&] { largest = row.largest_magnitude(x.data(), small); });
        measure(name, "add_products 1024, 16 x 16", rows * 128, rows * 256,
                [&] { row.add_products(x.data(), 64, rows, moments.data()); });
        std::vector<int32_t> indices(per_token), list = {3, 70, 100, 200, 300, 400, 500, 600};
        std::vector<float> probabilities(experts), weights(per_token);
        measure(name, "router, 8 of 256, 1024 rows", double(rows * experts * 4), double(rows), [&] {
            for (int64_t t = 0; t < rows; t++)
                row.router(x.data() + t * experts, experts, per_token, false, probabilities.data(), weights.data(),
                           indices.data());
        });
        measure(name, "combine 8 rows of 2048, in cache", double(width * 4 * 9), double(width * 8),
                [&] { row.combine(nullptr, x.data(), list.data(), weights.data(), 8, width, y.data()); });
    }
}

struct Kernels {
    explicit Kernels(int count) : threads(ThreadPool::create(count).take()) {
        snprintf(group, sizeof group, "%d threads", count);
    }
    void measure_op(const char * name, double bytes, double operations, const KernelEntry & kernel,
                    const OpParams & params, std::vector<Tensor> inputs, std::vector<Tensor> outputs) {
        KernelCall call{params, Precision::f32, inputs.data(), outputs.data(), nullptr, threads.get()};
        std::vector<uint64_t> scratch(kernel.scratch_bytes ? kernel.scratch_bytes(call) / 8 + 8 : 1);
        call.scratch = scratch.data();
        measure(group, name, bytes, operations, [&] { GNV_CHECK(kernel.run(call).ok()); });
    }
    std::unique_ptr<ThreadPool> threads;
    char group[32];
};

void measure_kernels(int count) {
    Kernels kernels(count);
    const Shape shape = {rows, width};
    std::vector<float> x = random_floats(rows * width), u = x, y = x, w = random_floats(width);
    measure(kernels.group, "memcpy 1024 x 2048", elements * 8, elements, [&] {
        GNV_CHECK(kernels.threads
                      ->parallel_for(64,
                                     [&](int64_t i) -> Status {
                                         const size_t part = x.size() / 64;
                                         memcpy(y.data() + size_t(i) * part, x.data() + size_t(i) * part, part * 4);
                                         return {};
                                     })
                      .ok());
    });
    kernels.measure_op("rms_norm 1024 x 2048", elements * 8, elements, cpu::rms_norm_entry, RmsNormParams{},
                       {f32(x, shape), f32(w, {width})}, {f32(y, shape)});
    kernels.measure_op("add 1024 x 2048", elements * 12, elements, cpu::add_entry, AddParams{},
                       {f32(x, shape), f32(u, shape)}, {f32(y, shape)});
    kernels.measure_op("silu_mul 1024 x 2048", elements * 12, elements, cpu::silu_mul_entry, SiluMulParams{},
                       {f32(x, shape), f32(u, shape)}, {f32(y, shape)});
    std::vector<float> largest(1);
    std::vector<float> blocks(width * 16), moments(512 * 512);
    const auto observe = [&](const char * name, const Statistic & statistic, Shape x_shape, Tensor total) {
        kernels.measure_op(name, double(x_shape.elements()) * 4, double(x_shape.elements()), cpu::observe_entry,
                           ObserveParams{&statistic, 1}, {f32(x, x_shape), total, {}}, {});
    };
    kernels.measure_op("silu_mul and maximum 1024 x 2048", elements * 12, elements, cpu::silu_mul_entry,
                       SiluMulParams{1}, {f32(x, shape), f32(u, shape), f32(largest, {1}), {}}, {f32(y, shape)});
    observe("observe maximum", Statistic::maximum, shape, f32(largest, {1}));
    observe("observe second_moments_16", Statistic::second_moments_16, shape, f32(blocks, {1, width / 16, 16, 16}));
    observe("observe second_moments 4096 x 512", Statistic::second_moments, {4096, 512}, f32(moments, {1, 512, 512}));

    // 1024 tokens, 8 experts of 256 each.
    std::vector<float> logits = random_floats(rows * experts), weights(rows * per_token),
                       outputs = random_floats(rows * per_token * width);
    std::vector<int32_t> indices(weights.size()), slots(weights.size()), offsets(experts + 1);
    const Tensor index{DType::i32, {rows, per_token}, indices.data()},
        slot{DType::i32, {rows * per_token}, slots.data()}, offset{DType::i32, {experts + 1}, offsets.data()},
        weight = f32(weights, {rows, per_token});
    kernels.measure_op("router 1024 x 256, 8", double(rows * experts * 4), double(rows), cpu::router_entry,
                       RouterParams{per_token}, {f32(logits, {rows, experts})}, {weight, index});
    kernels.measure_op("expert_order 1024 x 8", double(rows * per_token * 8), double(rows * per_token),
                       cpu::expert_order_entry, ExpertOrderParams{0, experts}, {index}, {slot, offset});
    constexpr int64_t expert_width = 512, gathered_experts = width / expert_width; // of which `x` has all tokens
    const double gathered = double(rows * per_token * expert_width) * double(gathered_experts) / double(experts);
    kernels.measure_op("expert_gather 1024 x 8, 4 of 256", gathered * 8, gathered, cpu::expert_gather_entry,
                       ExpertGatherParams{0, gathered_experts, per_token}, {f32(x, shape), slot, offset, {}},
                       {f32(outputs, {rows * per_token, expert_width})});
    kernels.measure_op("expert_combine 1024 x 8 x 2048", elements * 4 * (per_token + 1), elements * per_token,
                       cpu::expert_combine_entry, ExpertCombineParams{},
                       {{}, f32(outputs, {rows * per_token, width}), slot, offset, weight}, {f32(y, shape)});
}

} // namespace

int main() {
    measure_loops();
    measure_kernels(1);
    if (available_processors() > 1) measure_kernels(available_processors());
}
