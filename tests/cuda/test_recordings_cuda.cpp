// Replays that follow each other become one CUDA graph: the bits are those of the launches, whatever comes between them.
#include "cuda/device_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

// y = rms_norm(x) + x of one row; several stand behind each other, each with the row of the one before.
struct Step {
    static constexpr int64_t width = 2048;
    Graph graph{Precision::bf16, DType::bf16};
    ValueId x = graph.input("x", DType::bf16, {1, width});
    ValueId w = graph.weight("w", DType::f32, {width});
    ValueId y = graph.add(AddParams{}, {graph.add(RmsNormParams{}, {x, w}, "norm"), x}, "y");
    std::optional<PreparedGraph> prepared;

    Step(Backend & backend) {
        graph.keep(y);
        prepared = PreparedGraph::create(backend, graph, bound()).take();
    }
    std::vector<bool> bound() const {
        std::vector<bool> flags(graph.values().size(), false);
        flags[size_t(graph.owner(y))] = true;
        return flags;
    }
    void bind(const void * from, const void * to, const void * weight) {
        const auto tensor = [](const void * data, DType dtype, Shape shape) {
            return Tensor{dtype, shape, const_cast<void *>(data)};
        };
        prepared->bind(x, tensor(from, DType::bf16, {1, width}));
        prepared->bind(graph.owner(y), tensor(to, DType::bf16, {1, width}));
        prepared->bind(w, tensor(weight, DType::f32, {width}));
    }
};

// A row of several places, one for each step's result.
class Way {
  public:
    Way(Backend & backend, size_t steps) : backend_(backend) {
        rows_ = backend.allocate((steps + 1) * row_bytes).take();
        spare_ = backend.allocate(row_bytes).take();
        arena_ = backend.allocate(1 << 20).take();
        weights_ = backend.allocate(Step::width * sizeof(float)).take();
        std::vector<float> ones(Step::width);
        for (size_t i = 0; i < ones.size(); i++) ones[i] = float(i % 7) / 8 - 0.25f;
        backend.upload(weights_.get(), ones.data(), ones.size() * sizeof(float));
        REQUIRE(backend.synchronize().ok());
        for (size_t i = 0; i < steps; i++) steps_.push_back(std::make_unique<Step>(backend));
        for (size_t i = 0; i < steps; i++) place(i, false);
    }
    // Where a step's result goes; the next one reads the old place then.
    void place(size_t i, bool spare) {
        Step & step = *steps_[i];
        step.bind(row(i), spare ? spare_.get() : row(i + 1), weights_.get());
        step.prepared->bind_arena(arena_.get());
    }
    void renew(size_t i) { steps_[i] = std::make_unique<Step>(backend_); }
    void write(int seed) {
        std::vector<uint16_t> values(Step::width);
        for (size_t i = 0; i < values.size(); i++) values[i] = uint16_t(0x3f00 + (i * 37 + size_t(seed) * 101) % 256);
        backend_.upload(row(0), values.data(), row_bytes);
        REQUIRE(backend_.synchronize().ok());
    }
    void run(size_t i) { REQUIRE(steps_[i]->prepared->run().ok()); }
    void run_all() {
        for (size_t i = 0; i < steps_.size(); i++) run(i);
    }
    std::vector<uint16_t> read() {
        std::vector<uint16_t> values((steps_.size() + 1) * Step::width);
        backend_.download(values.data(), rows_.get(), values.size() * sizeof(uint16_t));
        REQUIRE(backend_.synchronize().ok());
        return values;
    }
    int64_t replays() const { return steps_.back()->prepared->replays(); }

  private:
    static constexpr size_t row_bytes = Step::width * sizeof(uint16_t);
    uint8_t * row(size_t i) const { return static_cast<uint8_t *>(rows_.get()) + i * row_bytes; }

    Backend & backend_;
    DeviceMemory rows_, spare_, arena_, weights_;
    std::vector<std::unique_ptr<Step>> steps_;
};

// The results of a way whose steps are prepared anew for each run, and so never replayed.
std::vector<uint16_t> launched(Backend & backend, size_t steps, int seed) {
    Way way(backend, steps);
    way.write(seed);
    way.run_all();
    return way.read();
}

} // namespace

TEST_CASE("replays that follow each other: the bits of their launches") {
    Devices devices;
    Backend & backend = *devices.cuda;
    for (const size_t steps : {1, 2, 3, 12, 300}) { // 300: more than may wait
        Way way(backend, steps);
        for (int seed = 0; seed < 6; seed++) { // launched, recorded, joined, joined ...
            way.write(seed);
            way.run_all();
            CHECK(way.read() == launched(backend, steps, seed));
        }
        CHECK(way.replays() == 5);
    }
}

TEST_CASE("joined replays: other memory, other orders and graphs that go") {
    Devices devices;
    Backend & backend = *devices.cuda;
    Way way(backend, 5);
    for (int seed = 0; seed < 4; seed++) {
        way.write(seed);
        way.run_all();
    }
    CHECK(way.read() == launched(backend, 5, 3));
    way.write(4); // replays that wait, and then a step whose result goes elsewhere
    way.run(0), way.run(1), way.run(2), way.run(3);
    way.place(3, true);
    way.run(3), way.run(4);
    CHECK(way.read() == launched(backend, 5, 4));
    way.place(3, false);
    way.write(5); // a step that goes while its replay waits
    way.run_all(), way.run_all();
    way.write(6);
    way.run_all();
    way.renew(2);
    CHECK(way.read() == launched(backend, 5, 6));
    way.place(2, false);
    way.write(7); // in another order: rows of the run before
    for (const size_t i : {4, 3, 2, 1, 0, 1, 2, 3, 4}) way.run(i);
    CHECK(way.read() == launched(backend, 5, 7));
    for (int seed = 8; seed < 30; seed++) { // more orders than are kept
        way.write(seed);
        for (int i = 0; i < seed; i++) way.run(size_t(i % 5));
        way.run_all();
        CHECK(way.read() == launched(backend, 5, seed));
    }
}
