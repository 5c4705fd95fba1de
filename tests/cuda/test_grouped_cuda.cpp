// Products of experts on a CUDA device against the CPU's: weights in BF16, F32 and NVFP4, inputs as they are and quantized,
// experts without rows. What a launch covers is known to the device alone, so no case may depend on how rows are distributed.
#include "cuda/device_fixture.h"
#include "cuda/expert_choices.h"

using namespace gnv;
using namespace gnv::test;

namespace {

using Row = GroupedLinearParams::Row;

struct Product {
    int64_t tokens, experts, n, k;
};

// Four experts of each token, all slots in use so that all rows of the result are defined. Experts from `used` on get no rows.
OpCase product_case(std::mt19937 & random, const Product & size, Row row, OpInput weight, bool quantized, int64_t used,
                    bool few_rows = false) {
    const int64_t chosen = 4, room = size.tokens * chosen;
    const std::vector<int32_t> choices = random_choices(random, size.tokens, int(chosen), int(used));
    const Order order = order_of(choices, 0, int(size.experts), size_t(room));
    const int64_t rows = row == Row::own ? room : size.tokens;
    std::vector<float> scales(size_t(size.experts), 400);
    for (size_t i = 0; i < scales.size(); i++) scales[i] += float(i);
    return {GroupedLinearParams{row, chosen, few_rows},
            {activation(random, {rows, size.k}), std::move(weight), indices({room}, order.slots),
             indices({size.experts + 1}, order.offsets), numbers({size.experts}, scales)},
            {true, true, true, true, quantized}};
}

constexpr Product sizes[] = {
    {200, 32, 48, 64}, {1, 32, 130, 208}, {700, 5, 257, 80}, {700, 5, 264, 192}, {64, 8, 512, 2048}};

constexpr Product few_rows_sizes[] = {{1, 32, 130, 224}, {3, 8, 64, 32},     {1, 256, 512, 2048}, {2, 64, 2048, 512},
                                      {9, 5, 33, 96},    {33, 300, 40, 256}, {90, 6, 33, 544}};

template <class MakeWeight>
void compare_few_rows(bool quantized, const MakeWeight & make_weight) {
    Devices devices;
    std::mt19937 random(17);
    for (const Product & size : few_rows_sizes)
        for (const Row row : {Row::token, Row::own}) {
            CAPTURE(size.tokens);
            CAPTURE(size.k);
            CAPTURE(int(row));
            compare(devices, product_case(random, size, row, make_weight(random, size), quantized, size.experts, true));
        }
}

template <class MakeWeight>
void compare_products(bool quantized, const MakeWeight & make_weight) {
    Devices devices;
    std::mt19937 random(13);
    for (const Product & size : sizes)
        for (const Row row : {Row::token, Row::own})
            for (const bool all_used : {true, false}) {
                CAPTURE(size.tokens);
                CAPTURE(int(row));
                CAPTURE(all_used);
                const int64_t used = all_used ? size.experts : std::max<int64_t>(4, size.experts / 2);
                compare(devices, product_case(random, size, row, make_weight(random, size), quantized, used));
            }
}

OpInput bf16_weight(std::mt19937 & random, const Product & size) {
    return weight(random, DType::bf16, {size.experts, size.n, size.k}, 0.1f);
}
OpInput coded_weight(std::mt19937 & random, const Product & size) {
    return nvfp4_weight(random, {size.experts, size.n, size.k}, 100);
}

} // namespace

TEST_CASE("experts: products of few rows") {
    for (const bool quantized : {false, true}) {
        compare_few_rows(quantized, bf16_weight);
        compare_few_rows(quantized, coded_weight);
    }
}
TEST_CASE("experts: products") { compare_products(false, bf16_weight); }
TEST_CASE("experts: products with quantized inputs") { compare_products(true, bf16_weight); }
TEST_CASE("experts: products with NVFP4 weights") { compare_products(false, coded_weight); }
TEST_CASE("experts: products with NVFP4 weights and quantized inputs") { compare_products(true, coded_weight); }

// k that 8 and not 16 divides, and n that 8 does not.
TEST_CASE("experts: products of ragged shapes") {
    Devices devices;
    std::mt19937 random(17);
    for (const Product & size : {Product{1, 32, 130, 200}, {90, 6, 33, 72}})
        for (const Row row : {Row::token, Row::own})
            compare(devices, product_case(random, size, row, bf16_weight(random, size), false, size.experts));
}

// Sums in the order of the index: the bits of the CPU.
TEST_CASE("experts: products in F32, and rows that 8 does not divide") {
    Devices devices;
    std::mt19937 random(14);
    for (const Product & size : {Product{60, 16, 48, 64}, {60, 16, 48, 36}, {300, 7, 130, 100}, {1, 9, 5, 20}})
        for (const DType dtype : {DType::f32, DType::bf16})
            for (const Row row : {Row::token, Row::own})
                for (const int64_t used : {size.experts, int64_t(4)}) {
                    CAPTURE(size.k);
                    CAPTURE(int(row));
                    OpInput w = weight(random, dtype, {size.experts, size.n, size.k}, 0.1f);
                    if (dtype == DType::f32) // values that BF16 does not hold
                        for (float & value : w.numbers) value *= 1.0f + float(random() % 1000) * 1e-5f;
                    if (size.k % 8 == 0 && dtype == DType::bf16) continue;
                    compare_exactly(devices, product_case(random, size, row, w, false, used));
                    if (size.k % 16 == 0) compare(devices, product_case(random, size, row, w, true, used));
                }
}

// Rows with a single 1 pick columns of the weight: every code with every scale, and nothing is rounded.
TEST_CASE("experts: NVFP4 weights are widened exactly") {
    Devices devices;
    std::mt19937 random(15);
    const int64_t k = 128, n = 200, experts = 3;
    OpInput w = nvfp4_weight(random, {experts, n, k}, 1);
    w.global_scales.assign(size_t(experts), 1.0f);
    for (size_t i = 0; i < w.block_scales.size(); i++) w.block_scales[i] = uint8_t(i % 0x7f); // all but NaN
    OpInput x = activation(random, {experts * k, k});
    for (int64_t i = 0; i < experts * k; i++)
        for (int64_t j = 0; j < k; j++) x.numbers[size_t(i * k + j)] = i % k == j ? 1.0f : 0.0f;
    const std::vector<int32_t> slots(size_t(experts * k), 0), offsets = {0, int32_t(k), int32_t(2 * k), int32_t(3 * k)};
    compare_exactly(devices, {GroupedLinearParams{Row::own, 1},
                              {x, w, indices({experts * k}, slots), indices({experts + 1}, offsets), {}},
                              {true, true, true, true, false}});
    OpInput dense = w, first = x; // the same through the product of a single weight
    dense.shape = {n, k};
    dense.bytes.resize(size_t(n * k / 2));
    dense.block_scales.resize(size_t(n * k / 16));
    dense.global_scales.resize(1);
    first.shape = {k, k};
    first.numbers.resize(size_t(k * k));
    compare_exactly(devices, {LinearParams{}, {first, dense}, {}});
}

TEST_CASE("experts: a row's bits do not depend on the others") {
    Devices devices;
    std::mt19937 random(12);
    OpRunner cuda(*devices.cuda);
    const int64_t rows = 600, k = 320, n = 200;
    const OpInput x = activation(random, {rows, k}), same_scales = numbers({3}, {300, 300, 300});
    OpInput coded = nvfp4_weight(random, {3, n, k}, 100);
    struct Case {
        OpInput w;
        bool quantized, few_rows;
    };
    std::vector<Case> cases = {{weight(random, DType::f32, {3, n, k}), false, false}};
    for (const bool quantized : {false, true})
        for (const bool few_rows : {false, true})
            for (const bool is_coded : {false, true})
                cases.push_back({is_coded ? coded : weight(random, DType::bf16, {3, n, k}), quantized, few_rows});
    for (const auto & [w, quantized, few_rows] : cases) {
        CAPTURE(int(w.dtype));
        CAPTURE(quantized);
        CAPTURE(few_rows);
        const auto product = [&](int32_t first, int32_t second, int32_t last) {
            const std::vector<int32_t> slots(size_t(rows), 0);
            return cuda
                .run({GroupedLinearParams{Row::own, 1, few_rows},
                      {x, w, indices({rows}, slots), indices({4}, {0, first, second, last}), same_scales},
                      {true, true, true, true, quantized}})
                .tensors[0];
        };
        const std::vector<float> all = product(0, 600, 600); // the second expert has them all
        for (const auto & [first, second] : {std::pair<int32_t, int32_t>{1, 2}, {77, 300}, {128, 257}, {599, 600}}) {
            const std::vector<float> some = product(first, second, second + (600 - second) / 2);
            CHECK(std::equal(some.begin() + first * n, some.begin() + second * n, all.begin() + first * n));
        }
    }
}

namespace {

// Experts of a step: what a layer of a mixture adds to its stream, with a sum over one range of experts.
struct StepOfExperts {
    Backend & device;
    int64_t tokens, hidden, width, experts;
    bool coded, quantized;

    using Outputs = std::vector<std::vector<uint8_t>>;
    // All outputs of single nodes, and of as few launches as the device has kernels for.
    std::pair<Outputs, Outputs> run() const {
        std::mt19937 random(19);
        constexpr int64_t chosen = 4;
        Graph graph(Precision::bf16, DType::bf16);
        std::vector<std::pair<ValueId, Tensor>> bound;
        std::vector<DeviceMemory> memory;
        const auto upload = [&](const void * data, size_t bytes) {
            memory.push_back(device.allocate(bytes).take());
            device.upload(memory.back().get(), data, bytes);
            REQUIRE(device.synchronize().ok());
            return memory.back().get();
        };
        const auto add = [&](const char * name, DType dtype, const Shape & shape, const void * data) {
            Tensor tensor;
            tensor.dtype = dtype, tensor.shape = shape;
            tensor.data = upload(data, size_t(tensor_bytes(dtype, shape)));
            const ValueId id = graph.input(name, dtype, shape);
            bound.push_back({id, tensor});
            return id;
        };
        const auto add_bf16 = [&](const char * name, const Shape & shape, float scale, bool is_weight) {
            std::vector<uint16_t> bits;
            for (const float value : random_numbers(random, shape.elements(), scale))
                bits.push_back(nvfp4::bf16_from_float(value));
            Tensor tensor;
            tensor.dtype = DType::bf16, tensor.shape = shape;
            tensor.data = upload(bits.data(), bits.size() * 2);
            const ValueId id =
                is_weight ? graph.weight(name, DType::bf16, shape) : graph.input(name, DType::bf16, shape);
            bound.push_back({id, tensor});
            return id;
        };
        const auto add_weight = [&](const char * name, int64_t n, int64_t k) {
            const Shape shape = {experts, n, k};
            if (!coded) return add_bf16(name, shape, 0.05f, true);
            const OpInput w = nvfp4_weight(random, shape, 100);
            Tensor tensor;
            tensor.dtype = DType::f4, tensor.shape = shape;
            tensor.data = upload(w.bytes.data(), w.bytes.size());
            tensor.block_scales = static_cast<const uint8_t *>(upload(w.block_scales.data(), w.block_scales.size()));
            tensor.global_scales =
                static_cast<const float *>(upload(w.global_scales.data(), w.global_scales.size() * sizeof(float)));
            tensor.global_scale_rows = n;
            const ValueId id = graph.weight(name, DType::f4, shape);
            bound.push_back({id, tensor});
            return id;
        };
        const auto add_scales = [&](const char * name, float every_third) {
            std::vector<float> scales(size_t(experts), 100);
            for (size_t i = 0; i < scales.size(); i += 3) scales[i] = every_third;
            return quantized ? add(name, DType::f32, {experts}, scales.data()) : no_value;
        };
        const Order order = order_of(random_choices(random, tokens, int(chosen), int(experts)), 0, int(experts),
                                     size_t(tokens * chosen));
        const std::vector<float> shares(size_t(tokens * chosen), 0.3f);
        const ValueId slots = add("slots", DType::i32, {tokens * chosen}, order.slots.data());
        const ValueId offsets = add("offsets", DType::i32, {experts + 1}, order.offsets.data());
        const ValueId weights = add("weights", DType::f32, {tokens, chosen}, shares.data());
        const ValueId x = add_bf16("x", {tokens, hidden}, 1, false),
                      more = add_bf16("more", {tokens, hidden}, 1, false);
        const GroupedLinearParams by_token = {Row::token, chosen, true}, own = {Row::own, chosen, true};
        std::vector<ValueId> made;
        const auto node = [&](const OpParams & params, const std::vector<ValueId> & inputs) {
            made.push_back(graph.add(params, inputs, "value"));
            graph.keep(made.back());
            return made.back();
        };
        const ValueId gate =
            node(by_token, {x, add_weight("gate", width, hidden), slots, offsets, add_scales("g", 70)});
        const ValueId up = node(by_token, {x, add_weight("up", width, hidden), slots, offsets, add_scales("u", 130)});
        const ValueId activated = node(SiluMulParams{}, {gate, up, no_value, no_value});
        const ValueId down =
            node(own, {activated, add_weight("down", hidden, width), slots, offsets, add_scales("d", 70)});
        const ValueId sum = node(ExpertCombineParams{}, {no_value, down, slots, offsets, weights});
        node(AddParams{}, {more, sum});
        REQUIRE_MESSAGE(graph.status().ok(), graph.status().message());
        const auto outputs = [&](bool fused) {
            Result<PreparedGraph> created = PreparedGraph::create(device, graph);
            REQUIRE_MESSAGE(created.ok(), created.status().message());
            PreparedGraph prepared = created.take();
            const DeviceMemory arena = device.allocate(prepared.plan().bytes + 64).take();
            const std::vector<uint8_t> nothing(prepared.plan().bytes, 0xff);
            device.upload(arena.get(), nothing.data(), nothing.size());
            prepared.bind_arena(arena.get());
            for (const auto & [id, tensor] : bound) prepared.bind(id, tensor);
            PreparedGraph::Hooks hooks;
            if (!fused) hooks.on_tap = [](const Tap &, const Tensor &) { return Status(); };
            REQUIRE(prepared.run(hooks).ok());
            Outputs all;
            for (const ValueId id : made) {
                const Tensor tensor = prepared.tensor_of(id);
                all.emplace_back(size_t(tensor_bytes(tensor.dtype, tensor.shape)));
                device.download(all.back().data(), tensor.data, all.back().size());
                REQUIRE(device.synchronize().ok());
            }
            return all;
        };
        Outputs single = outputs(false);
        return {std::move(single), outputs(true)};
    }
};

} // namespace

// Few tokens, whose sum and last product are one kernel; more, whose inputs are quantized by a launch of their own.
TEST_CASE("experts of few rows: kernels of several ops have the bits of single ops") {
    Devices devices;
    for (const int64_t tokens : {1, 3, 5, 9, 70})
        for (const bool coded : {false, true})
            for (const bool quantized : {false, true}) {
                CAPTURE(tokens);
                CAPTURE(coded);
                CAPTURE(quantized);
                // All but the second have kernels of one row, the pair at least: k of one, two, four and eight parts.
                for (const auto & [hidden, width] : {std::pair<int64_t, int64_t>{2048, 96},
                                                     {96, 1056},
                                                     {2048, 512},
                                                     {512, 1024},
                                                     {1024, 544},
                                                     {4096, 160}}) {
                    const StepOfExperts step = {*devices.cuda, tokens, hidden, width, 12, coded, quantized};
                    const auto [single, several] = step.run();
                    for (size_t i = 0; i < single.size(); i++) CHECK(single[i] == several[i]);
                }
            }
}
