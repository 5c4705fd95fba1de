// Kernels for nodes that follow each other (cuda/fusions.cu): a run whose activations are tapped launches node by node, so both must
// leave the same bits, in every output and state, at once and when they are replayed.
#include "cuda/device_fixture.h"

#include <cstdint>

using namespace gnv;
using namespace gnv::test;

namespace {

// A graph with random inputs. States begin alike in every run.
class Pair {
  public:
    Pair(Backend & backend, unsigned seed)
        : graph(Precision::bf16, backend.activation_dtype()), backend_(backend), random_(seed) {}

    ValueId numbers(const char * name, DType dtype, Shape shape, float scale = 1) {
        std::vector<uint8_t> bytes(size_t(tensor_bytes(dtype, shape)));
        std::normal_distribution<float> normal(0, scale);
        for (int64_t i = 0; i < shape.elements(); i++) {
            const float number = normal(random_);
            if (dtype == DType::bf16) {
                const uint16_t bits = nvfp4::bf16_from_float(number);
                memcpy(bytes.data() + i * 2, &bits, 2);
            } else {
                memcpy(bytes.data() + i * 4, &number, 4);
            }
        }
        return bind(graph.weight(name, dtype, shape), std::move(bytes));
    }
    ValueId activation(const char * name, Shape shape) {
        const std::vector<float> values = random_numbers(random_, shape.elements(), 1);
        std::vector<uint8_t> bytes(size_t(shape.elements() * 2));
        for (size_t i = 0; i < values.size(); i++) {
            const uint16_t bits = nvfp4::bf16_from_float(values[i]);
            memcpy(bytes.data() + i * 2, &bits, 2);
        }
        return bind(graph.input(name, DType::bf16, shape), std::move(bytes));
    }
    ValueId indices(const char * name, Shape shape, const std::vector<int32_t> & values) {
        std::vector<uint8_t> bytes(values.size() * 4);
        memcpy(bytes.data(), values.data(), bytes.size());
        return bind(graph.input(name, DType::i32, shape), std::move(bytes));
    }
    ValueId mask(const char * name, std::vector<uint8_t> values) {
        const Shape shape = {int64_t(values.size())};
        return bind(graph.input(name, DType::u8, shape), std::move(values));
    }
    // Numbers, codes up to `most`, or bytes from `least` on.
    ValueId state(const char * name, DType dtype, Shape shape, int least = 0, int most = 255) {
        std::vector<uint8_t> bytes(size_t(tensor_bytes(dtype, shape)));
        if (dtype == DType::f32 || dtype == DType::bf16) {
            const std::vector<float> values = random_numbers(random_, shape.elements(), 1);
            for (size_t i = 0; i < values.size(); i++) {
                const uint16_t bits = nvfp4::bf16_from_float(values[i]);
                if (dtype == DType::bf16) memcpy(bytes.data() + i * 2, &bits, 2);
                if (dtype == DType::f32) memcpy(bytes.data() + i * 4, &values[i], 4);
            }
        } else {
            for (uint8_t & byte : bytes) byte = uint8_t(least + int(random_() % unsigned(most - least + 1)));
            if (dtype == DType::f8_e4m3)
                for (uint8_t & code : bytes)
                    if ((code & 127) == 127) code = 0; // NaN
        }
        const ValueId id = graph.state(name, dtype, shape);
        states_.push_back(id);
        return bind(id, std::move(bytes));
    }

    // The bits of all activations and states after a run that is fused or not, and with `replayed` after a second one.
    std::vector<std::vector<uint8_t>> run(bool fused, bool replayed = false) {
        REQUIRE_MESSAGE(graph.status().ok(), graph.status().message());
        PreparedGraph prepared = PreparedGraph::create(backend_, graph).take();
        const DeviceMemory arena = backend_.allocate(prepared.plan().bytes + 64).take();
        backend_.clear(arena.get(), prepared.plan().bytes);
        prepared.bind_arena(arena.get());
        std::vector<DeviceMemory> memory;
        for (const Bound & bound : bound_) {
            memory.push_back(backend_.allocate(bound.bytes.size()).take());
            Tensor tensor;
            tensor.dtype = graph.value(bound.id).dtype, tensor.shape = graph.value(bound.id).shape;
            tensor.data = memory.back().get();
            prepared.bind(bound.id, tensor);
        }
        const auto upload = [&](bool states_only) {
            for (size_t i = 0; i < bound_.size(); i++)
                if (!states_only || graph.value(bound_[i].id).kind == Value::Kind::state)
                    backend_.upload(memory[i].get(), bound_[i].bytes.data(), bound_[i].bytes.size());
            REQUIRE(backend_.synchronize().ok());
        };
        upload(false);
        PreparedGraph::Hooks hooks;
        if (!fused) hooks.on_tap = [](const Tap &, const Tensor &) { return Status(); };
        REQUIRE(prepared.run(hooks).ok());
        for (int i = 0; replayed && i < 2; i++) {
            upload(true);
            REQUIRE(prepared.run(hooks).ok());
        }
        if (replayed) CHECK(prepared.replays() > 0);
        std::vector<std::vector<uint8_t>> out;
        const auto download = [&](ValueId id) {
            const Tensor tensor = prepared.tensor_of(id);
            out.emplace_back(size_t(tensor_bytes(tensor.dtype, tensor.shape)));
            backend_.download(out.back().data(), tensor.data, out.back().size());
        };
        for (const Node & node : graph.nodes())
            for (const ValueId id : node.outputs)
                if (id != no_value) download(id);
        for (const ValueId id : states_) download(id);
        REQUIRE(backend_.synchronize().ok());
        return out;
    }
    // `nodes` from `first` on have a kernel together.
    void check(size_t first, size_t nodes) {
        for (const Node & node : graph.nodes())
            for (const ValueId id : node.outputs)
                if (id != no_value) graph.keep(id);
        CHECK(backend_.fusion(graph, first).nodes == nodes);
        const auto apart = run(false), together = run(true), again = run(true, true);
        for (size_t i = 0; i < apart.size(); i++) {
            CAPTURE(i);
            CHECK(apart[i] == together[i]);
            CHECK(apart[i] == again[i]);
        }
    }

    Graph graph;

  private:
    struct Bound {
        ValueId id;
        std::vector<uint8_t> bytes;
    };
    ValueId bind(ValueId id, std::vector<uint8_t> bytes) {
        bound_.push_back({id, std::move(bytes)});
        return id;
    }
    Backend & backend_;
    std::mt19937 random_;
    std::vector<Bound> bound_;
    std::vector<ValueId> states_;
};

struct AttentionCase {
    std::vector<int> pasts; // of a text each
    int query_heads, key_heads, head, rotary;
    bool coded = false, paged = false, masked = false;
};

// The product of v, the norms and rope of q and k, attention and its gate, as a layer has them.
void check_attention(Backend & backend, const AttentionCase & c) {
    constexpr int64_t width = 64;
    const int64_t texts = int64_t(c.pasts.size()), D = c.head, Q = c.query_heads, K = c.key_heads;
    const int64_t pages = *std::max_element(c.pasts.begin(), c.pasts.end()) / cache_page + 1, rows = pages * cache_page;
    Pair pair(backend, 61);
    Graph & g = pair.graph;
    const ValueId x = pair.activation("x", {texts, width});
    std::vector<int32_t> positions, places;
    for (int axis = 0; axis < 3; axis++)
        for (const int past : c.pasts) positions.push_back(past + axis);
    for (int32_t i = 0; i < int32_t(texts * pages); i++)
        places.push_back(int32_t(texts * pages) - i); // page 0 is no text's
    const ValueId at = pair.indices("positions", {3, texts}, positions);
    const ValueId segments = pair.indices("segments", {texts + 1}, segments_of(std::vector<int>(size_t(texts), 1)));
    const ValueId past = pair.indices("past", {texts}, c.pasts);
    const ValueId page = c.paged ? pair.indices("pages", {texts, pages}, places) : no_value;
    std::vector<uint8_t> real(static_cast<size_t>(texts), 1);
    real.back() = 0;
    const ValueId mask = c.masked ? pair.mask("mask", real) : no_value;
    const DType cached = c.coded ? DType::f8_e4m3 : DType::bf16;
    const auto shape = [&](int64_t last) {
        return c.paged ? Shape{texts * pages + 1, cache_page, last} : Shape{texts, rows, last};
    };
    const ValueId keys = pair.state("keys", cached, shape(K * D)), values = pair.state("values", cached, shape(K * D));
    const ValueId key_scales = c.coded ? pair.state("key scales", DType::f8_e8m0, shape(K), 117, 121) : no_value;
    const ValueId value_scales = c.coded ? pair.state("value scales", DType::f8_e8m0, shape(K), 117, 121) : no_value;
    const auto linear = [&](int64_t n, const char * name) {
        return g.add(LinearParams{true}, {x, pair.numbers(name, DType::bf16, {n, width}, 0.2f), no_value, no_value},
                     name);
    };
    ValueId q_gate = linear(Q * 2 * D, "q"), k = linear(K * D, "k");
    const ValueId v = linear(K * D, "v");
    q_gate = g.reshape(q_gate, {texts * Q, 2 * D});
    ValueId q = g.add(RmsNormParams{}, {q_gate, pair.numbers("weight of q", DType::f32, {D}, 0.3f)}, "norm of q");
    k = g.add(RmsNormParams{}, {g.reshape(k, {texts * K, D}), pair.numbers("weight of k", DType::f32, {D}, 0.3f)},
              "norm of k");
    RopeParams rope;
    rope.head = D, rope.rotary = c.rotary, rope.theta = 1e7;
    rope.section[0] = c.rotary / 2 - 4, rope.section[1] = rope.section[2] = 2;
    q = g.add(rope, {g.reshape(q, {texts, Q * D}), at}, "rope of q");
    k = g.add(rope, {g.reshape(k, {texts, K * D}), at}, "rope of k");
    const AttentionParams params = {D, float(1 / std::sqrt(double(D))), true, true};
    const ValueId o =
        g.add(params, {q, k, v, segments, mask, keys, values, past, page, key_scales, value_scales}, "attention");
    g.add(SigmoidGateParams{D}, {g.reshape(o, {texts * Q, D}), q_gate}, "gate");
    pair.check(3, 6);
}

} // namespace

TEST_CASE("fused: norm, rope, attention of one position and its gate") {
    Devices devices;
    for (const bool coded : {false, true}) {
        CAPTURE(coded);
        for (const int past : {0, 1, 63, 64, 127, 128, 700}) {
            CAPTURE(past);
            check_attention(*devices.cuda, {{past}, 16, 2, 256, 64, coded});
        }
        // 64 parts and 65; parts of one tile, of two, of three.
        for (const int past : {4095, 4096, 12287, 12288, 12352, 12479, 25000}) {
            CAPTURE(past);
            check_attention(*devices.cuda, {{past}, 4, 1, 64, 32, coded});
        }
        check_attention(*devices.cuda, {{13000}, 16, 2, 256, 64, coded, true});
        check_attention(*devices.cuda, {{191, 192, 5}, 16, 2, 256, 64, coded, true});
        check_attention(*devices.cuda, {{300, 20, 64, 0}, 8, 2, 128, 64, coded, false, true});
        check_attention(*devices.cuda,
                        {{300, 20, 64, 0, 190, 1, 2, 3, 63}, 8, 4, 64, 32, coded, true}); // heads have a launch
        check_attention(*devices.cuda, {std::vector<int>(20, 100), 16, 2, 256, 64, coded, true});
        check_attention(*devices.cuda, {{100}, 24, 2, 128, 64, coded}); // more query heads than a block has
        check_attention(*devices.cuda, {{100}, 4, 2, 128, 128, coded}); // more pairs than lanes
    }
}

// The convolution, Gated DeltaNet and its norm: one text has one launch.
TEST_CASE("fused: convolution, Gated DeltaNet and its norm") {
    struct Case {
        int64_t texts, key_heads, value_heads, head;
        bool shared; // states in slots
    };
    Devices devices;
    for (const Case & c :
         {Case{1, 16, 32, 128, false}, Case{1, 4, 8, 128, false}, Case{1, 4, 8, 128, true}, Case{1, 4, 4, 128, true},
          Case{1, 2, 16, 128, true}, Case{1, 4, 8, 64, false}, Case{3, 4, 8, 128, true}}) {
        CAPTURE(c.texts);
        CAPTURE(c.key_heads);
        CAPTURE(c.value_heads);
        CAPTURE(c.head);
        const int64_t of_values = c.value_heads * c.head, width = 2 * c.key_heads * c.head + of_values;
        const int64_t held = c.shared ? c.texts + 2 : c.texts;
        Pair pair(*devices.cuda, 62);
        Graph & g = pair.graph;
        const ValueId segments =
            pair.indices("segments", {c.texts + 1}, segments_of(std::vector<int>(size_t(c.texts), 1)));
        std::vector<int32_t> places;
        for (int64_t t = 0; t < c.texts; t++) places.push_back(int32_t(held - 1 - t));
        const ValueId slots = c.shared ? pair.indices("slots", {c.texts}, places) : no_value;
        const ValueId history = pair.state("history", DType::f32, {held, 3, width});
        const ValueId memory = pair.state("memory", DType::f32, {held, c.value_heads, c.head, c.head});
        CausalConvParams conv;
        conv.one_position = true;
        const ValueId made = g.add(conv,
                                   {pair.activation("u", {c.texts, width}),
                                    pair.numbers("taps", DType::f32, {width, 4}, 0.5f), segments, history, slots},
                                   "convolution");
        GatedDeltaNetParams delta;
        delta.key_heads = c.key_heads, delta.value_heads = c.value_heads;
        delta.key_head = delta.value_head = c.head;
        delta.one_position = true;
        const ValueId o =
            g.add(delta,
                  {made, pair.activation("a", {c.texts, c.value_heads}), pair.activation("b", {c.texts, c.value_heads}),
                   pair.numbers("a_log", DType::f32, {c.value_heads}),
                   pair.numbers("dt_bias", DType::f32, {c.value_heads}), segments, memory, slots},
                  "delta");
        g.add(GatedRmsNormParams{},
              {g.reshape(o, {c.texts * c.value_heads, c.head}), pair.numbers("weight", DType::f32, {c.head}, 0.3f),
               pair.activation("z", {c.texts * c.value_heads, c.head})},
              "norm");
        pair.check(0, 3);
    }
}

// Kernels that take the convolution's texts for those of Gated DeltaNet must not meet others.
TEST_CASE("fused: convolution and Gated DeltaNet with slots of their own stay apart") {
    Devices devices;
    Pair pair(*devices.cuda, 63);
    Graph & g = pair.graph;
    const ValueId segments = pair.indices("segments", {2}, {0, 1});
    CausalConvParams conv;
    conv.one_position = true;
    GatedDeltaNetParams delta;
    delta.key_heads = 4, delta.value_heads = 8, delta.key_head = delta.value_head = 128, delta.one_position = true;
    const ValueId made =
        g.add(conv,
              {pair.activation("u", {1, 2048}), pair.numbers("taps", DType::f32, {2048, 4}, 0.5f), segments,
               pair.state("history", DType::f32, {3, 3, 2048}), pair.indices("slots", {1}, {0})},
              "convolution");
    const ValueId o = g.add(delta,
                            {made, pair.activation("a", {1, 8}), pair.activation("b", {1, 8}),
                             pair.numbers("a_log", DType::f32, {8}), pair.numbers("dt_bias", DType::f32, {8}), segments,
                             pair.state("memory", DType::f32, {3, 8, 128, 128}), pair.indices("other slots", {1}, {2})},
                            "delta");
    g.add(GatedRmsNormParams{},
          {g.reshape(o, {8, 128}), pair.numbers("weight", DType::f32, {128}, 0.3f), pair.activation("z", {8, 128})},
          "norm");
    pair.check(0, 1);
}
