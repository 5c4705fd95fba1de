// Quantizers that search, on a CUDA device: the bytes of their twins on the CPU, and the same choices of methods, row by row.
#include "codec/nvfp4.h"
#include "exec/backend.h"
#include "quant/quantizers/quantizer.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <doctest/doctest.h>
#include <random>

using namespace gnv;

namespace {

constexpr size_t margin = 64;
constexpr uint8_t sentinel = 0xa5;

std::unique_ptr<Backend> open_device() {
    auto backend = open_cuda(0);
    REQUIRE_MESSAGE(backend.ok(), backend.status().message());
    return backend.take();
}

DeviceMemory allocate(Backend & backend, size_t bytes) {
    auto memory = backend.allocate(bytes);
    REQUIRE_MESSAGE(memory.ok(), memory.status().message());
    return memory.take();
}

void check_synchronized(Backend & backend) {
    const Status status = backend.synchronize();
    REQUIRE_MESSAGE(status.ok(), status.message());
}

// --- Units --------------------------------------------------------------------------------------------------------------------

struct Moments {
    std::vector<float> fitted, held;
    std::vector<double> weights;
};

struct Unit {
    int64_t columns = 0;
    std::vector<std::vector<uint16_t>> modules;
    Moments own;
    std::shared_ptr<Moments> layer;
};

// Rows of all kinds: normal, of heavy tails, one large value, zeros, negative zeros, tiny ones, ties.
std::vector<uint16_t> rows_of(std::mt19937 & random, int64_t rows, int64_t columns) {
    std::normal_distribution<float> normal;
    std::vector<uint16_t> bits;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < columns; k++) {
            float x = normal(random);
            if (r % 11 == 1) x = x * x * x;
            if (r % 11 == 2) x = k % 16 == 5 ? 4 : x * 0.01f;
            if (r % 11 == 3 && k < columns / 2) x = k % 2 == 0 ? 0.0f : -0.0f;
            if (r % 11 == 4) x *= 1e-6f; // block scales below the smallest normal one
            if (r % 11 == 5) x = k % 2 == 0 ? 2 : -1;
            if (r % 11 == 6 && k / 16 % 3 == 0) x *= 1e-38f; // subnormal weights
            bits.push_back(nvfp4::bf16_from_float(x * 0.02f));
        }
    return bits;
}

// Sums of products of correlated inputs, whose blocks have different energies. [K][K], or [K / 16][16][16].
std::vector<float> moments_of(std::mt19937 & random, int64_t columns, bool full, int positions) {
    std::normal_distribution<float> normal;
    std::vector<float> sums(size_t(columns * (full ? columns : 16))), x(static_cast<size_t>(columns));
    for (int t = 0; t < positions; t++) {
        const float common = normal(random);
        for (int64_t k = 0; k < columns; k++)
            x[size_t(k)] = (normal(random) + common) * (1 + float(k % 7) / 3 + float(k * 37 / 16 % 5));
        for (int64_t i = 0; i < columns; i++) {
            const int64_t first = full ? 0 : i / 16 * 16, width = full ? columns : 16;
            for (int64_t j = 0; j < width; j++) sums[size_t(i * width + j)] += x[size_t(i)] * x[size_t(first + j)];
        }
    }
    return sums;
}

Moments measured(std::mt19937 & random, int64_t columns, bool full, int positions) {
    const double count = positions;
    return {moments_of(random, columns, full, positions),
            moments_of(random, columns, full, positions / 9 + 1),
            {count, count * 0.7, count * 0.6}};
}

Unit make_unit(std::mt19937 & random, int64_t columns, const std::vector<int64_t> & modules, bool full, int positions) {
    Unit unit;
    unit.columns = columns;
    for (const int64_t rows : modules) unit.modules.push_back(rows_of(random, rows, columns));
    unit.own = measured(random, columns, full, positions);
    return unit;
}

// --- The CPU ------------------------------------------------------------------------------------------------------------------

template <class T>
const T * or_null(const std::vector<T> & list) {
    return list.empty() ? nullptr : list.data();
}

UnitInputs inputs_of(const Unit & unit, const Quantizer & quantizer) {
    UnitInputs inputs = {unit.columns, {}, {}};
    const std::vector<const Statistic *> needs = quantizer.needs(); // fitted, held, weights
    if (needs.empty()) return inputs;
    const auto take = [&](const Moments & from, std::vector<UnitStatistic> & to) {
        if (!from.fitted.empty()) to.push_back({needs[0], from.fitted.data()});
        if (!from.held.empty()) to.push_back({needs[1], from.held.data()});
        if (!from.weights.empty()) to.push_back({needs[2], from.weights.data()});
    };
    take(unit.own, inputs.own);
    if (unit.layer) take(*unit.layer, inputs.layer);
    return inputs;
}

int64_t rows_in(const Unit & unit, size_t m) { return int64_t(unit.modules[m].size()) / unit.columns; }

struct Expected {
    float scale = 0;
    std::vector<std::vector<uint8_t>> codes, scales; // by module
    std::vector<MethodChoices> choices;              // by module
};

Expected pack_on_cpu(const Quantizer & quantizer, const Unit & unit) {
    const InstructionSet set = best_instruction_set();
    UnitMeasure measure;
    for (size_t m = 0; m < unit.modules.size(); m++)
        quantizer.measure(set, {DType::bf16, unit.modules[m].data(), rows_in(unit, m), unit.columns}, measure);
    const UnitScale scale = quantizer.prepare(formats::nvfp4, DType::bf16, measure, inputs_of(unit, quantizer)).take();
    Expected expected;
    expected.scale = scale.value;
    for (size_t m = 0; m < unit.modules.size(); m++) {
        const int64_t rows = rows_in(unit, m), elements = rows * unit.columns;
        expected.codes.emplace_back(size_t(elements / 2 + int64_t(margin)), sentinel);
        expected.scales.emplace_back(size_t(elements / 16 + int64_t(margin)), sentinel);
        const PackedRows out = {rows, unit.columns, {expected.codes[m].data(), expected.scales[m].data()}};
        const WeightRows source = {DType::bf16, unit.modules[m].data(), rows, unit.columns};
        MethodChoices & choices = expected.choices.emplace_back();
        REQUIRE(quantizer.pack(set, formats::nvfp4, source, scale, out, nullptr, &choices).ok());
    }
    return expected;
}

// --- The device ---------------------------------------------------------------------------------------------------------------

// Memory of several vectors.
class Uploads {
  public:
    explicit Uploads(Backend & backend) : backend_(backend) {}
    template <class T>
    T * add(const std::vector<T> & data) {
        if (data.empty()) return nullptr;
        memory_.push_back(allocate(backend_, data.size() * sizeof(T)));
        backend_.upload(memory_.back().get(), data.data(), data.size() * sizeof(T));
        return static_cast<T *>(memory_.back().get());
    }

  private:
    Backend & backend_;
    std::vector<DeviceMemory> memory_;
};

// `room`: how many times the least memory there is to work in. `resident`: totals are in the device's memory.
void check_units(Backend & backend, const Quantizer & quantizer, const std::vector<Unit> & units, int room = 1,
                 bool resident = false) {
    DeviceQuantizer * const device = backend.quantizer(quantizer.name(), formats::nvfp4);
    REQUIRE(device);
    Uploads uploads(backend);
    std::vector<Expected> expected;
    std::vector<UnitToPack> list;
    std::vector<WeightsToPack> weights;
    uint64_t work_bytes = 0;
    for (const Unit & unit : units) {
        expected.push_back(pack_on_cpu(quantizer, unit));
        work_bytes = std::max(work_bytes, device->work_bytes(unit.columns));
        UnitToPack & one = list.emplace_back();
        const auto place = [&](const Moments & from) -> InputMoments {
            if (resident) return {uploads.add(from.fitted), uploads.add(from.held), uploads.add(from.weights)};
            return {or_null(from.fitted), or_null(from.held), or_null(from.weights)};
        };
        one.own = place(unit.own);
        if (unit.layer) one.layer = place(*unit.layer);
        for (size_t m = 0; m < unit.modules.size(); m++) {
            const std::vector<uint8_t> codes(expected.back().codes[m].size(), sentinel);
            const std::vector<uint8_t> scales(expected.back().scales[m].size(), sentinel);
            const PackedRows out = {rows_in(unit, m), unit.columns, {uploads.add(codes), uploads.add(scales)}};
            one.weights.push_back({uploads.add(unit.modules[m]), out, expected.back().scale});
        }
        weights.insert(weights.end(), one.weights.begin(), one.weights.end());
    }
    CHECK((work_bytes > 0) == !quantizer.needs().empty());
    DeviceMemory work;
    if (work_bytes > 0) {
        work_bytes *= uint64_t(room);
        work = allocate(backend, work_bytes);
        const Status status = device->pack_units(list, work.get(), work_bytes);
        REQUIRE_MESSAGE(status.ok(), status.message());
    } else {
        device->pack(weights);
    }
    check_synchronized(backend);
    for (size_t u = 0; u < units.size(); u++) {
        CAPTURE(u);
        for (size_t m = 0; m < units[u].modules.size(); m++) {
            CAPTURE(m);
            std::vector<uint8_t> codes(expected[u].codes[m].size()), scales(expected[u].scales[m].size());
            backend.download(codes.data(), list[u].weights[m].packed.data[0], codes.size());
            backend.download(scales.data(), list[u].weights[m].packed.data[1], scales.size());
            check_synchronized(backend);
            CHECK((codes == expected[u].codes[m]));
            CHECK((scales == expected[u].scales[m]));
            if (work_bytes == 0) continue;
            const MethodChoices &found = list[u].choices.at(m), &wanted = expected[u].choices[m];
            for (int method = 0; method < method_count; method++) CHECK(found.rows[method] == wanted.rows[method]);
            CHECK(found.judged == wanted.judged);
            CHECK(found.error_parts == wanted.error_parts);
        }
    }
}

const Quantizer * const by_moments[] = {&local_hessian(), &gptq()};
bool is_full(const Quantizer & quantizer) { return quantizer.needs()[0] == &Statistic::fitted_moments; }

} // namespace

TEST_CASE("mse on a device: rows of all kinds, shapes of all sizes") {
    const auto backend = open_device();
    std::mt19937 random(1);
    for (const int64_t columns : {16, 48, 512, 2048})
        for (const int64_t rows : {1, 7, 128, 300}) {
            CAPTURE(columns);
            CAPTURE(rows);
            Unit unit;
            unit.columns = columns;
            unit.modules = {rows_of(random, rows, columns), rows_of(random, 5, columns)};
            check_units(*backend, least_squares(), {unit});
        }
}

TEST_CASE("mse on a device: every exponent that a block may have, and zeros") {
    const auto backend = open_device();
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    Unit unit;
    unit.columns = 16;
    std::vector<uint16_t> & weights = unit.modules.emplace_back(32, uint16_t(0)); // two blocks of zeros
    for (size_t i = 16; i < 32; i++) weights[i] = 0x8000;
    for (int exponent = -133; exponent < 3; exponent++)
        for (int i = 0; i < 64; i++) weights.push_back(nvfp4::bf16_from_float(std::ldexp(normal(random), exponent)));
    check_units(*backend, least_squares(), {unit});
}

TEST_CASE("methods with moments on a device: ragged shapes, one unit after another or side by side") {
    const auto backend = open_device();
    std::mt19937 random(3);
    for (const Quantizer * const quantizer : by_moments) {
        CAPTURE(quantizer->name());
        const bool full = is_full(*quantizer);
        std::vector<Unit> units;
        for (const int64_t columns : {16, 32, 48, 48, 80, 80, 80, 144})
            units.push_back(make_unit(random, columns, {1 + int64_t(random() % 40), 130}, full, 200));
        check_units(*backend, *quantizer, units);
        check_units(*backend, *quantizer, units, 5, true);
    }
}

TEST_CASE("methods with moments on a device: experts blended with their layer, few positions") {
    const auto backend = open_device();
    std::mt19937 random(4);
    for (const Quantizer * const quantizer : by_moments) {
        CAPTURE(quantizer->name());
        const bool full = is_full(*quantizer);
        std::vector<Unit> units;
        const auto layer = std::make_shared<Moments>(measured(random, 64, full, 900));
        for (const int positions : {0, 1, 3, 40, 500}) {
            units.push_back(make_unit(random, 64, {20, 17}, full, positions));
            units.back().layer = layer;
        }
        units[0].own.weights = {0, 0, 0}; // saw nothing
        std::fill(units[0].own.held.begin(), units[0].own.held.end(), 0.0f);
        for (const int room : {1, 4}) check_units(*backend, *quantizer, units, room);
    }
}

TEST_CASE("methods with moments on a device: nothing measured, singular, not finite, misleading") {
    const auto backend = open_device();
    std::mt19937 random(5);
    for (const Quantizer * const quantizer : by_moments) {
        CAPTURE(quantizer->name());
        const bool full = is_full(*quantizer);
        const int64_t columns = 64, elements = columns * (full ? columns : 16);
        std::vector<Unit> units;
        const auto add = [&](const auto & change) {
            units.push_back(make_unit(random, columns, {23}, full, 300));
            change(units.back().own);
        };
        add([](Moments & own) { own = {}; });
        add([](Moments & own) { own.held.clear(); });
        add([](Moments & own) { own.fitted.clear(); });
        add([](Moments & own) { std::fill(own.fitted.begin(), own.fitted.end(), 0.0f); });
        add([](Moments & own) { std::fill(own.held.begin(), own.held.end(), 0.0f); });
        add([&](Moments & own) { own.fitted[size_t(random()) % size_t(elements)] = NAN; });
        add([&](Moments & own) { own.held[size_t(random()) % size_t(elements)] = INFINITY; });
        add([](Moments & own) { std::fill(own.fitted.begin(), own.fitted.end(), 1.0f); });  // of rank one
        add([](Moments & own) { std::fill(own.fitted.begin(), own.fitted.end(), -1.0f); }); // of no inputs
        add([&](Moments & own) { // not positive: factored with more damping, or not at all
            for (size_t i = 0; i < own.fitted.size(); i += 5) own.fitted[i] *= 1.5f;
        });
        add([&](Moments & own) { own.held = moments_of(random, columns, full, 3); }); // other inputs are judged by
        add([&](Moments & own) {
            for (float & value : own.held) value = -value; // every method is worse than round-to-nearest
        });
        add([](Moments & own) { own.fitted[0] *= 1e30f; });
        check_units(*backend, *quantizer, units, 3);
    }
}

TEST_CASE("methods with moments on a device: shapes of experts") {
    const auto backend = open_device();
    std::mt19937 random(6);
    for (const Quantizer * const quantizer : by_moments) {
        CAPTURE(quantizer->name());
        const bool full = is_full(*quantizer);
        check_units(*backend, *quantizer,
                    {make_unit(random, 512, {2048}, full, 100), make_unit(random, 512, {300}, full, 9)}, 3);
        check_units(*backend, *quantizer, {make_unit(random, 2048, {512, 512}, full, 60)}, 2, true);
    }
}

TEST_CASE("bench of methods" * doctest::skip()) {
    const auto backend = open_device();
    std::mt19937 random(7);
    const auto run = [&](const Quantizer & quantizer, int64_t columns, const std::vector<int64_t> & modules,
                         int count) {
        DeviceQuantizer * const device = backend->quantizer(quantizer.name(), formats::nvfp4);
        REQUIRE(device);
        Uploads uploads(*backend);
        const bool needs = !quantizer.needs().empty();
        const Unit unit = make_unit(random, columns, modules, needs && is_full(quantizer), 40);
        std::vector<UnitToPack> list(static_cast<size_t>(count));
        std::vector<WeightsToPack> weights;
        double blocks = 0;
        for (UnitToPack & one : list) {
            if (needs)
                one.own = {uploads.add(unit.own.fitted), uploads.add(unit.own.held), uploads.add(unit.own.weights)};
            for (size_t m = 0; m < modules.size(); m++) {
                const int64_t elements = modules[m] * columns;
                const PackedRows out = {modules[m],
                                        columns,
                                        {uploads.add(std::vector<uint8_t>(size_t(elements / 2))),
                                         uploads.add(std::vector<uint8_t>(size_t(elements / 16)))}};
                one.weights.push_back({uploads.add(unit.modules[m]), out, 20000.0f});
                weights.push_back(one.weights.back());
                blocks += double(elements / 16);
            }
        }
        const uint64_t bytes = device->work_bytes(columns) * uint64_t(count);
        const DeviceMemory work = allocate(*backend, std::max<uint64_t>(bytes, 256));
        double best = INFINITY;
        for (int turn = 0; turn < 3; turn++) {
            check_synchronized(*backend);
            const auto start = std::chrono::steady_clock::now();
            if (needs)
                REQUIRE(device->pack_units(list, work.get(), bytes).ok());
            else
                device->pack(weights);
            check_synchronized(*backend);
            best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        }
        printf("%-8s %3d units of %5d columns %10.3f ms %8.2f G blocks/s %8.1f GB/s of weights and codes\n",
               quantizer.name(), count, int(columns), best * 1e3, blocks / best * 1e-9,
               blocks * (32 + 9) / best * 1e-9);
        fflush(stdout);
    };
    for (const Quantizer * const quantizer : {&round_to_nearest(), &least_squares(), &local_hessian(), &gptq()}) {
        run(*quantizer, 2048, {512, 512}, 32);
        run(*quantizer, 512, {2048}, 32);
    }
}
