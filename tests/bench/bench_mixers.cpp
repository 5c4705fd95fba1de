// Positions per second of the token mixers, at the sizes of the small checkpoint and of the 35B one. Best of several runs; on
// a busy machine compare processor milliseconds (of all threads), not the clock's.
//   bench_mixers [THREADS]     default: every processor
#include "cpu/mixer_kernels.h"
#include "graph/graph.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <vector>

using namespace gnv;

namespace {

struct Bench {
    ThreadPool & threads;
    std::mt19937 random = std::mt19937(1);
    std::vector<std::vector<float>> buffers = {};

    Tensor tensor(std::initializer_list<int64_t> dims, float scale) {
        Tensor out;
        out.shape = dims;
        std::vector<float> & data = buffers.emplace_back(size_t(out.shape.elements()));
        for (float & value : data) value = float(int32_t(random())) * 0x1p-31f * scale;
        out.data = data.data();
        return out;
    }

    // Seconds of the fastest of some runs.
    double run(const char * name, const KernelEntry & kernel, const OpParams & params, std::vector<Tensor> inputs,
               Tensor output) {
        inputs.resize(Node::max_inputs); // absent ones have no data
        KernelCall call{params, Precision::bf16, inputs.data(), &output, nullptr, &threads};
        std::vector<char> scratch(kernel.scratch_bytes(call) + 64);
        call.scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64);
        double best = 1e30, processor = 1e30;
        const auto start = std::chrono::steady_clock::now();
        const auto seconds_since = [](auto begin) {
            return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        };
        for (int i = 0; i < 50 && (i < 3 || seconds_since(start) < 1.5); i++) {
            const auto begin = std::chrono::steady_clock::now();
            const std::clock_t processor_begin = std::clock();
            if (!kernel.run(call).ok()) exit(1);
            best = std::min(best, seconds_since(begin));
            processor = std::min(processor, double(std::clock() - processor_begin) / CLOCKS_PER_SEC);
        }
        const auto rows = double(output.shape[0]);
        printf("  %-28s %9.3f ms %12.0f positions/s   processor %9.3f ms\n", name, best * 1e3, rows / best,
               processor * 1e3);
        return best;
    }
};

struct Sizes {
    const char * name;
    int64_t segments, length;                               // of each
    int64_t key_heads, value_heads, delta_head;             // Gated DeltaNet
    int64_t query_heads, attention_key_heads, head, rotary; // attention
    bool recurrent;                                         // measured, too
};

void run_sizes(const Sizes & sizes, ThreadPool & threads) {
    const int64_t count = sizes.segments * sizes.length;
    printf("%s, %lld segments of %lld positions\n", sizes.name, (long long)sizes.segments, (long long)sizes.length);
    Bench bench{threads};
    std::vector<int32_t> offsets, positions;
    for (int64_t s = 0; s <= sizes.segments; s++) offsets.push_back(int32_t(s * sizes.length));
    for (int64_t i = 0; i < 3 * count; i++) positions.push_back(int32_t(i % sizes.length));
    const Tensor segments{DType::i32, {sizes.segments + 1}, offsets.data()};
    const int64_t q_width = sizes.query_heads * sizes.head, k_width = sizes.attention_key_heads * sizes.head;
    const int64_t channels = (2 * sizes.key_heads + sizes.value_heads) * sizes.delta_head;
    const Tensor q = bench.tensor({count, q_width}, 3), k = bench.tensor({count, k_width}, 3);
    const Tensor v = bench.tensor({count, k_width}, 1), u = bench.tensor({count, channels}, 1);
    const Tensor wide = bench.tensor({count, channels}, 0), q_out = bench.tensor({count, q_width}, 0);
    const Tensor k_out = bench.tensor({count, k_width}, 0);

    RopeParams rope;
    rope.head = sizes.head, rope.rotary = sizes.rotary, rope.theta = 1e7;
    rope.section[0] = rope.section[1] = rope.section[2] = sizes.rotary / 6 + 1;
    const Tensor position_tensor{DType::i32, {3, count}, positions.data()};
    double linear_layer = 0, full_layer = 0;
    full_layer += bench.run("rope of q", cpu::rope_entry, rope, {q, position_tensor}, q_out);
    full_layer += bench.run("rope of k", cpu::rope_entry, rope, {k, position_tensor}, k_out);
    AttentionParams attention;
    attention.head = sizes.head, attention.scale = 0.0625f;
    full_layer += bench.run("attention", cpu::attention_entry, attention, {q, k, v, segments, {}, {}, {}, {}}, q_out);
    const Tensor taps = bench.tensor({channels, 4}, 1);
    linear_layer += bench.run("causal_conv", cpu::causal_conv_entry, CausalConvParams{}, {u, taps, segments, {}}, wide);
    GatedDeltaNetParams delta;
    delta.key_heads = sizes.key_heads, delta.value_heads = sizes.value_heads;
    delta.key_head = delta.value_head = sizes.delta_head;
    const Tensor a = bench.tensor({count, sizes.value_heads}, 2), b = bench.tensor({count, sizes.value_heads}, 2);
    const Tensor a_log = bench.tensor({sizes.value_heads}, 2), dt_bias = bench.tensor({sizes.value_heads}, 1);
    const Tensor out = bench.tensor({count, sizes.value_heads * sizes.delta_head}, 0);
    const std::vector<Tensor> inputs = {u, a, b, a_log, dt_bias, segments, {}};
    delta.form = GatedDeltaNetParams::Form::chunked;
    linear_layer += bench.run("gated_delta_net, chunked", cpu::gated_delta_net_entry, delta, inputs, out);
    delta.form = GatedDeltaNetParams::Form::recurrent;
    if (sizes.recurrent) bench.run("gated_delta_net, recurrent", cpu::gated_delta_net_entry, delta, inputs, out);
    printf("  all of a linear layer %.1f ms, of a full attention layer %.1f ms\n", linear_layer * 1e3,
           full_layer * 1e3);
}

} // namespace

int main(int count, char ** arguments) {
    auto threads = ThreadPool::create(count > 1 ? atoi(arguments[1]) : 0);
    if (!threads.ok()) return 1;
    printf("%d threads\n", threads.value()->size());
    run_sizes({"small", 8, 256, 4, 8, 32, 4, 2, 64, 16, true}, *threads.value());
    run_sizes({"small", 32, 256, 4, 8, 32, 4, 2, 64, 16, false}, *threads.value());
    run_sizes({"small", 8, 1024, 4, 8, 32, 4, 2, 64, 16, false}, *threads.value());
    run_sizes({"35B", 1, 2048, 16, 32, 128, 16, 2, 256, 64, true}, *threads.value());
    return 0;
}
