// Prepared graphs: one that runs again gives the bits of one that is prepared anew, with other values in the same memory, with
// other memory, and replayed by a device that records (deferred_device.h).
#include "forward/deferred_device.h"
#include "forward/forward_fixture.h"
#include "graph/fuse.h"

using namespace gnv;
using namespace gnv::test;

namespace {

// y = rms_norm(x) + x, and a maximum of y that goes on from run to run.
struct SmallGraph {
    static constexpr int64_t rows = 5, width = 48;
    Graph graph{Precision::f32};
    ValueId x = graph.input("x", DType::f32, {rows, width});
    ValueId w = graph.weight("w", DType::f32, {width});
    ValueId total = graph.state("maximum", DType::f32, {1});
    ValueId y = graph.add(AddParams{}, {graph.add(RmsNormParams{}, {x, w}, "norm"), x}, "y");

    SmallGraph() {
        graph.add(ObserveParams{}, {y, total, no_value}, "observed");
        graph.keep(y);
        graph.tap(y, {3, 7});
    }
};

// A device that may have one kernel for rms_norm and the add behind it.
class FusingDevice final : public DeferredDevice {
  public:
    using DeferredDevice::DeferredDevice;
    using DeferredDevice::launch;
    Fusion fusion(const Graph & graph, size_t first) const override {
        const auto is = [&](size_t n, Op op) {
            return n < graph.nodes().size() && op_of(graph.nodes()[n].params) == op;
        };
        return fuses && is(first, Op::rms_norm) && is(first + 1, Op::add) ? Fusion{&both, 2} : Fusion();
    }
    Status launch(const FusedKernel & kernel, std::span<KernelCall> calls) override {
        CHECK(&kernel == &both);
        CHECK(calls.size() == 2);
        fused++;
        for (KernelCall & call : calls) GNV_TRY(launch(call));
        return {};
    }
    static constexpr FusedKernel both = {"both", nullptr, nullptr};
    bool fuses = false;
    int fused = 0;
};

struct Runs {
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(2).take();
    FusingDevice device{*threads};
    SmallGraph small;
    std::vector<DeviceMemory> memory;

    Tensor upload(const std::vector<float> & values, Shape shape) {
        memory.push_back(device.allocate(values.size() * sizeof(float)).take());
        write(memory.back().get(), values);
        return {DType::f32, shape, memory.back().get()};
    }
    void write(void * to, const std::vector<float> & values) {
        device.upload(to, values.data(), values.size() * sizeof(float));
        REQUIRE(device.synchronize().ok());
    }
    std::vector<float> read(const Tensor & tensor) {
        std::vector<float> values(size_t(tensor.shape.elements()));
        device.download(values.data(), tensor.data, values.size() * sizeof(float));
        REQUIRE(device.synchronize().ok());
        return values;
    }
    PreparedGraph prepare() { return PreparedGraph::create(device, small.graph).take(); }
};

std::vector<float> values_of(int64_t count, int seed) {
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); i++) values[i] = float(int(i * 37 + size_t(seed) * 101) % 113 - 56) / 16;
    return values;
}

struct Result5 {
    std::vector<float> y, total;
    bool operator==(const Result5 &) const = default;
};

// Runs x = values 0..5 in turn; `fresh`: prepared anew for each run.
std::vector<Result5> run_all(Runs & r, bool fresh, int64_t & replays) {
    const Tensor w = r.upload(values_of(SmallGraph::width, 9), {SmallGraph::width});
    const Tensor total = r.upload({0}, {1});
    const Shape shape = {SmallGraph::rows, SmallGraph::width};
    const Tensor first = r.upload(values_of(shape.elements(), 0), shape);
    const Tensor second = r.upload(values_of(shape.elements(), 1), shape);
    PreparedGraph kept = r.prepare();
    const DeviceMemory arenas[2] = {r.device.allocate(kept.plan().bytes).take(),
                                    r.device.allocate(kept.plan().bytes).take()};
    std::vector<Result5> results;
    for (int i = 0; i < 12; i++) {
        const Tensor & x = i < 4 || i > 8 ? first : second; // changes its memory twice
        const DeviceMemory & arena = arenas[i >= 6];        // once, while x stays
        r.write(x.data, values_of(shape.elements(), i));
        PreparedGraph anew = r.prepare();
        PreparedGraph & graph = fresh ? anew : kept;
        graph.bind(r.small.x, x);
        graph.bind(r.small.w, w);
        graph.bind(r.small.total, total);
        graph.bind_arena(arena.get());
        REQUIRE(graph.run().ok());
        results.push_back({r.read(graph.tensor_of(r.small.y)), r.read(total)});
    }
    replays = kept.replays();
    REQUIRE(r.device.synchronize().ok());
    return results;
}

} // namespace

TEST_CASE("a prepared graph: the bits of a new one, replayed or not") {
    int64_t replays = 0;
    Runs plain;
    const std::vector<Result5> expected = run_all(plain, true, replays);
    CHECK(expected[0].y != expected[1].y);
    for (const bool records : {false, true}) {
        Runs runs;
        runs.device.records = records;
        CHECK(run_all(runs, false, replays) == expected);
        CHECK(replays == (records ? 8 : 0)); // all but the first run with each set of memory
        CHECK(runs.device.recorded == (records ? 4 : 0));
    }
}

TEST_CASE("a device that cannot record a graph launches it, and is not asked again") {
    int64_t replays = 0;
    Runs plain, refusing;
    refusing.device.records = true;
    refusing.device.refusals = 1;
    CHECK(run_all(refusing, false, replays) == run_all(plain, true, replays));
    CHECK(refusing.device.recorded == 0);
}

TEST_CASE("runs with a tap are not replayed") {
    Runs r;
    r.device.records = true;
    const Tensor w = r.upload(values_of(SmallGraph::width, 9), {SmallGraph::width}), total = r.upload({0}, {1});
    const Shape shape = {SmallGraph::rows, SmallGraph::width};
    PreparedGraph graph = r.prepare();
    const DeviceMemory arena = r.device.allocate(graph.plan().bytes).take();
    graph.bind(r.small.x, r.upload(values_of(shape.elements(), 0), shape));
    graph.bind(r.small.w, w);
    graph.bind(r.small.total, total);
    graph.bind_arena(arena.get());
    int64_t seen = 0;
    PreparedGraph::Hooks hooks;
    hooks.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
        seen += tap == Tap{3, 7} && tensor.data == graph.tensor_of(r.small.y).data;
        return {};
    };
    for (int i = 0; i < 3; i++) REQUIRE(graph.run(hooks).ok());
    CHECK(seen == 3);
    CHECK(graph.replays() == 0);
    REQUIRE(graph.run().ok());
    CHECK(graph.replays() == 1);
    REQUIRE(r.device.synchronize().ok());
}

TEST_CASE("a session that is replayed: the logits of one that is not") {
    static const std::unique_ptr<OpenModel> model = open_model(tiny_folder);
    const std::vector<int32_t> ids = GoldenFile("text.safetensors").ints("text70.input_ids");
    const auto logits_on = [&](DeferredDevice & device, ThreadPool & threads) {
        const auto session = TextSession::create(model->variant(Precision::f32), device, threads, {1, 64}).take();
        std::vector<std::vector<float>> all;
        for (int text = 0; text < 2; text++) {
            session->reset();
            for (const int64_t count : {8, 1, 1, 1, 3, 1, 1}) {
                TextSequence sequence;
                sequence.ids.assign(ids.begin() + session->past(), ids.begin() + session->past() + count);
                Result<std::vector<float>> logits = session->run(sequence, {});
                REQUIRE_MESSAGE(logits.ok(), logits.status().message());
                all.push_back(logits.take());
            }
        }
        return all;
    };
    const std::unique_ptr<ThreadPool> threads = ThreadPool::create(2).take();
    DeferredDevice plain(*threads), recording(*threads);
    recording.records = true;
    CHECK(logits_on(recording, *threads) == logits_on(plain, *threads));
    CHECK(recording.recorded > 0);
}

// SiLU(gate) * up and a statistic of it by two groups, on the CPU, with another node between unless `adjacent`.
struct Activation {
    std::vector<float> y, maxima;
    size_t nodes;
};
static Activation observed_activation(bool fused, const Statistic & statistic, bool adjacent) {
    const std::unique_ptr<ThreadPool> threads = ThreadPool::create(2).take();
    const std::unique_ptr<Backend> cpu = open_cpu(*threads);
    const Shape shape = {7, 96};
    Graph graph(Precision::f32);
    const ValueId gate = graph.input("gate", DType::f32, shape), up = graph.input("up", DType::f32, shape);
    const ValueId total = graph.state("total", statistic.dtype, statistic.total_shape(2, 48));
    const ValueId y = graph.add(SiluMulParams{}, {gate, up, no_value, no_value}, "y");
    if (!adjacent) graph.add(AddParams{}, {gate, up}, "between");
    graph.add(ObserveParams{&statistic, 2}, {y, total, no_value}, "observed");
    graph.keep(y);
    if (fused) fuse(graph);
    PreparedGraph prepared = PreparedGraph::create(*cpu, graph).take();
    std::vector<float> gates = values_of(shape.elements(), 3), ups = values_of(shape.elements(), 4);
    std::vector<float> totals(size_t(tensor_bytes(statistic.dtype, graph.value(total).shape)) / sizeof(float), 0.0f);
    const DeviceMemory arena = cpu->allocate(prepared.plan().bytes).take();
    prepared.bind(gate, {DType::f32, shape, gates.data()});
    prepared.bind(up, {DType::f32, shape, ups.data()});
    prepared.bind(total, {statistic.dtype, graph.value(total).shape, totals.data()});
    prepared.bind_arena(arena.get());
    REQUIRE(prepared.run().ok());
    const auto * const made = prepared.tensor_of(y).as<const float>();
    return {{made, made + shape.elements()}, totals, graph.nodes().size()};
}

TEST_CASE("an activation that is observed next becomes one node with the same bits") {
    for (const Statistic * statistic : {&Statistic::maximum, &Statistic::magnitudes})
        for (const bool adjacent : {true, false}) {
            const Activation plain = observed_activation(false, *statistic, adjacent);
            const Activation fused = observed_activation(true, *statistic, adjacent);
            CHECK(fused.y == plain.y);
            CHECK(fused.maxima == plain.maxima);

            CHECK(fused.nodes == plain.nodes - (adjacent && statistic == &Statistic::maximum ? 1 : 0));
        }
}

TEST_CASE("nodes of one launch: the same bits, apart from each other in memory, one by one with a tap") {
    Runs r;
    const Shape shape = {SmallGraph::rows, SmallGraph::width};
    const Tensor x = r.upload(values_of(shape.elements(), 3), shape), total = r.upload({0}, {1});
    const Tensor w = r.upload(values_of(SmallGraph::width, 9), {SmallGraph::width});
    const auto run = [&](const Tensor & input, const PreparedGraph::Hooks & hooks, const std::vector<bool> & bound,
                         const Tensor & y) {
        PreparedGraph graph = PreparedGraph::create(r.device, r.small.graph, bound).take();
        graph.bind(r.small.x, input);
        graph.bind(r.small.w, w);
        graph.bind(r.small.total, total);
        if (y.exists()) graph.bind(r.small.y, y);
        const DeviceMemory arena = r.device.allocate(std::max<uint64_t>(1, graph.plan().bytes)).take();
        graph.bind_arena(arena.get());
        REQUIRE(graph.run(hooks).ok());
        REQUIRE(r.device.synchronize().ok());
        return r.read(graph.tensor_of(r.small.y));
    };
    const std::vector<float> expected = run(x, {}, {}, {});
    r.device.fuses = true;
    CHECK(run(x, {}, {}, {}) == expected);
    CHECK(r.device.fused == 1);
    PreparedGraph::Hooks tapped;
    tapped.on_tap = [](const Tap &, const Tensor &) { return Status(); };
    CHECK(run(x, tapped, {}, {}) == expected);
    CHECK(r.device.fused == 1);
    // A caller that has y in the place of x gets two launches: the fused one may still read x.
    std::vector<bool> bound(r.small.graph.values().size(), false);
    bound[size_t(r.small.y)] = true;
    const Tensor own = r.upload(values_of(shape.elements(), 3), shape);
    CHECK(run(own, {}, bound, own) == expected);
    CHECK(r.device.fused == 1);
}

TEST_CASE("nodes of one launch: none takes the memory of another's input") {
    Graph graph{Precision::f32};
    const ValueId x = graph.input("x", DType::f32, {4, 16}), w = graph.weight("w", DType::f32, {16});
    const ValueId a = graph.add(RmsNormParams{}, {x, w}, "a"), b = graph.add(RmsNormParams{}, {a, w}, "b");
    const ValueId c = graph.add(RmsNormParams{}, {b, w}, "c");
    graph.keep(c);
    const std::vector<bool> bound(graph.values().size(), false);
    const auto none = [](const Node &) { return uint64_t(0); };
    const auto offset = [&](const ArenaPlan & plan, ValueId id) { return plan.offsets[size_t(id)]; };
    const ArenaPlan apart = plan_arena(graph, bound, none), together = plan_arena(graph, bound, none, {0, 0, 0});
    CHECK(offset(apart, a) == offset(apart, c)); // free again
    CHECK(offset(together, a) != offset(together, c));
    CHECK(offset(together, a) != offset(together, b));
}
