#include "core/noise.h"
#include "ops/gathered_tiles.h"
#include "ops/row_fixture.h"
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Routed {
    std::vector<float> weights;
    std::vector<int32_t> indices;
};

Routed route(std::vector<float> logits, int64_t experts, int64_t chosen, Precision precision = Precision::f32,
             int threads = 1) {
    const int64_t tokens = int64_t(logits.size()) / experts;
    Routed routed{std::vector<float>(size_t(tokens * chosen), -1.0f),
                  std::vector<int32_t>(size_t(tokens * chosen), -1)};
    CHECK(run_op(cpu::router_entry, RouterParams{chosen}, {tensor_of(logits, {tokens, experts})},
                 {tensor_of(routed.weights, {tokens, chosen}), tensor_of(routed.indices, {tokens, chosen})}, precision,
                 threads)
              .ok());
    return routed;
}

struct Order {
    std::vector<int32_t> slots, offsets;
};

Order order_of(std::vector<int32_t> indices, int64_t chosen, int64_t first, int64_t count) {
    const int64_t tokens = int64_t(indices.size()) / chosen, most = tokens * std::min(chosen, count);
    Order order{std::vector<int32_t>(size_t(most), -7), std::vector<int32_t>(size_t(count + 1), -7)};
    CHECK(run_op(cpu::expert_order_entry, ExpertOrderParams{first, count}, {tensor_of(indices, {tokens, chosen})},
                 {tensor_of(order.slots, {most}), tensor_of(order.offsets, {count + 1})})
              .ok());
    return order;
}

// Of each token `chosen` different experts in any order.
std::vector<int32_t> random_choices(int64_t tokens, int64_t experts, int64_t chosen, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<int32_t> all(static_cast<size_t>(experts)), choices;
    std::iota(all.begin(), all.end(), 0);
    for (int64_t t = 0; t < tokens; t++) {
        std::shuffle(all.begin(), all.end(), random);
        choices.insert(choices.end(), all.begin(), all.begin() + chosen);
    }
    return choices;
}

} // namespace

TEST_CASE("router: recorded choices") {
    for (const char * layer : {"text70.layer.0.mlp.gate", "text70.layer.3.mlp.gate"}) {
        const std::string name = layer;
        const Routed routed = route(recorded_text().floats(name), 32, 4);
        CHECK(routed.indices == recorded_text().ints(name + ".2"));
        const std::vector<float> expected = recorded_text().floats(name + ".1");
        int wrong = 0;
        for (size_t i = 0; i < expected.size(); i++) wrong += !near(routed.weights[i], expected[i], 1e-6);
        CHECK(wrong == 0);
    }
}

TEST_CASE("router: doubles, rounding, threads, variants") {
    for (const int64_t experts : {1, 15, 16, 17, 100, 256})
        for (const int64_t chosen : {int64_t(1), std::min<int64_t>(8, experts), experts}) {
            CAPTURE(experts);
            CAPTURE(chosen);
            const int64_t tokens = 70;
            const std::vector<float> logits = normal_floats(tokens * experts, 1, 2);
            const Routed routed = route(logits, experts, chosen);
            int wrong = 0;
            for (int64_t t = 0; t < tokens; t++) {
                const float * const row = logits.data() + t * experts;
                std::vector<int32_t> order(static_cast<size_t>(experts));
                std::iota(order.begin(), order.end(), 0);
                std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return row[a] > row[b]; });
                double sum = 0;
                for (int64_t j = 0; j < chosen; j++) sum += std::exp(double(row[order[size_t(j)]]));
                for (int64_t j = 0; j < chosen; j++) {
                    const size_t i = size_t(t * chosen + j);
                    // Two probabilities may be equal where logits are not quite: the weight decides.
                    wrong += routed.indices[i] != order[size_t(j)] && row[routed.indices[i]] != row[order[size_t(j)]] &&
                             !near(row[routed.indices[i]], row[order[size_t(j)]], 1e-6);
                    wrong += !near(routed.weights[i], std::exp(double(row[order[size_t(j)]])) / sum, 2e-6);
                }
            }
            CHECK(wrong == 0);
            std::vector<float> rounded = routed.weights;
            for (float & weight : rounded) weight = nearest_bf16(weight);
            CHECK(same_bits(route(logits, experts, chosen, Precision::bf16).weights, rounded));
            CHECK(route(logits, experts, chosen, Precision::bf16).indices == routed.indices);
            for (const int threads : thread_counts) {
                const Routed other = route(logits, experts, chosen, Precision::f32, threads);
                CHECK(same_bits(other.weights, routed.weights));
                CHECK(other.indices == routed.indices);
            }
            for (const cpu::Loops * loops : cpu::all_loops()) {
                std::vector<float> scratch(static_cast<size_t>(experts)), weights(size_t(chosen), -1.0f);
                std::vector<int32_t> indices(size_t(chosen), -1);
                for (int64_t t = 0; t < tokens; t++) {
                    loops->rows.router(logits.data() + t * experts, experts, chosen, false, scratch.data(),
                                       weights.data(), indices.data());
                    CHECK(memcmp(weights.data(), routed.weights.data() + t * chosen, size_t(chosen) * 4) == 0);
                    CHECK(memcmp(indices.data(), routed.indices.data() + t * chosen, size_t(chosen) * 4) == 0);
                }
            }
        }
}

TEST_CASE("router: many threads take part, with the same result") {
    const std::vector<float> logits = normal_floats(2000 * 64, 3);
    const Routed routed = route(logits, 64, 6);
    for (const int threads : thread_counts) {
        const Routed other = route(logits, 64, 6, Precision::f32, threads);
        CHECK(same_bits(other.weights, routed.weights));
        CHECK(other.indices == routed.indices);
    }
}

TEST_CASE("router: equal probabilities, large logits, NaN") {
    CHECK(route({1, 2, 2, 2, 0}, 5, 3).indices == std::vector<int32_t>{1, 2, 3});
    CHECK(route({2, 1, 2, 2, 2}, 5, 2).indices == std::vector<int32_t>{0, 2});
    CHECK(route({-500, 0, -400, -300}, 4, 4).indices == std::vector<int32_t>{1, 0, 2, 3}); // three times 0
    const Routed large = route({3e38f, -3e38f, 3e38f}, 3, 2);
    CHECK(large.indices == std::vector<int32_t>{0, 2});
    CHECK(large.weights == std::vector<float>{0.5f, 0.5f});
    const Routed broken = route({1, NAN, 2, INFINITY}, 4, 2); // no numbers, but experts that exist
    CHECK(broken.indices == std::vector<int32_t>{0, 1});
    CHECK(std::isnan(broken.weights[0]));
}

TEST_CASE("expert_order: a stable sort of a range of experts") {
    for (const int64_t tokens : {0, 1, 70}) {
        const std::vector<int32_t> choices = random_choices(tokens, 20, 4, 1);
        for (const auto & [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, 20}, {5, 7}, {17, 3}, {3, 1}}) {
            CAPTURE(first);
            std::vector<int32_t> slots, offsets = {0};
            for (int64_t g = 0; g < count; g++) {
                for (size_t slot = 0; slot < choices.size(); slot++)
                    if (choices[slot] == first + g) slots.push_back(int32_t(slot));
                offsets.push_back(int32_t(slots.size()));
            }
            Order order = order_of(choices, 4, first, count);
            CHECK(order.offsets == offsets);
            REQUIRE(order.slots.size() >= slots.size());
            order.slots.resize(slots.size());
            CHECK(order.slots == slots);
        }
    }
}

namespace {

// Stacks of experts in NVFP4 and BF16, caches of them, and what the contract of expert_fetch says about both.
struct FetchedExperts {
    static constexpr int64_t experts = 12, rows = 2, columns = 32, codes = rows * columns / 2,
                             scales = rows * columns / 16, numbers = rows * columns;
    int64_t places;
    std::vector<uint8_t> of_codes = bytes(experts * codes, 1), of_scales = bytes(experts * scales, 2);
    std::vector<uint16_t> of_numbers;
    std::vector<uint8_t> cached_codes, cached_scales;
    std::vector<uint16_t> cached_numbers;
    std::vector<int32_t> table;

    explicit FetchedExperts(int64_t places_)
        : places(places_), cached_codes(size_t(places * codes)), cached_scales(size_t(places * scales)),
          cached_numbers(size_t(places * numbers)), table(size_t(experts + places)) {
        for (int64_t i = 0; i < experts * numbers; i++) of_numbers.push_back(uint16_t(i * 7));
    }
    static std::vector<uint8_t> bytes(int64_t count, uint32_t seed) {
        std::mt19937 random(seed);
        std::vector<uint8_t> out(static_cast<size_t>(count));
        for (uint8_t & byte : out) byte = uint8_t(random());
        return out;
    }
    static Tensor coded(std::vector<uint8_t> & data, std::vector<uint8_t> & block_scales, int64_t count) {
        Tensor tensor = {DType::f4, {count, rows, columns}, data.data()};
        tensor.block_scales = block_scales.data();
        return tensor;
    }
    std::vector<int32_t> run(const std::vector<int32_t> & chosen) {
        std::vector<int32_t> offsets = {0}, found(size_t(experts), -7);
        for (int32_t g = 0; g < experts; g++)
            offsets.push_back(offsets.back() + int32_t(std::count(chosen.begin(), chosen.end(), g)));
        CHECK(run_op(cpu::expert_fetch_entry, ExpertFetchParams{},
                     {tensor_of(offsets, {experts + 1}),
                      coded(of_codes, of_scales, experts),
                      coded(cached_codes, cached_scales, places),
                      tensor_of(of_numbers, {experts, rows, columns}),
                      tensor_of(cached_numbers, {places, rows, columns}),
                      {},
                      {},
                      tensor_of(table, {experts + places})},
                     {tensor_of(found, {experts})})
                  .ok());
        return found;
    }
    bool holds(int64_t place, int64_t expert) const {
        const auto same = [&](const auto & cached, const auto & stack, int64_t size) {
            return std::equal(cached.begin() + place * size, cached.begin() + (place + 1) * size,
                              stack.begin() + expert * size);
        };
        return same(cached_codes, of_codes, codes) && same(cached_scales, of_scales, scales) &&
               same(cached_numbers, of_numbers, numbers);
    }
};

} // namespace

TEST_CASE("expert_fetch: the chosen come to a place, and those that are chosen least make room") {
    for (const int64_t places : {3, 5, 12}) {
        CAPTURE(places);
        FetchedExperts f(places);
        std::mt19937 random{uint32_t(places)};
        std::vector<int64_t> counts(FetchedExperts::experts, 0), holds(size_t(places), -1);
        for (int call = 0; call < 200; call++) {
            std::vector<int32_t> chosen; // low numbers more often, some of them twice
            while (chosen.size() < 3) chosen.push_back(int32_t(std::min(random() % 12, random() % 12)));
            const std::set<int64_t> wanted(chosen.begin(), chosen.end());
            const std::vector<int32_t> found = f.run(chosen);
            for (const int64_t expert : wanted) {
                if (std::find(holds.begin(), holds.end(), expert) != holds.end()) continue;
                // Empty places, then small counts, then early places.
                std::vector<std::pair<int64_t, size_t>> candidates;
                for (size_t place = 0; place < holds.size(); place++)
                    if (holds[place] < 0 || wanted.count(holds[place]) == 0)
                        candidates.push_back({holds[place] < 0 ? -1 : counts[size_t(holds[place])], place});
                holds[std::min_element(candidates.begin(), candidates.end())->second] = expert;
            }
            for (int64_t expert = 0; expert < FetchedExperts::experts; expert++) {
                const auto at = std::find(holds.begin(), holds.end(), expert);
                CHECK(found[size_t(expert)] == (at == holds.end() ? -1 : int32_t(at - holds.begin())));
                counts[size_t(expert)] += int64_t(wanted.count(expert)) * 1024 - counts[size_t(expert)] / 64;
                CHECK(f.table[size_t(expert)] == counts[size_t(expert)]);
            }
            for (size_t place = 0; place < holds.size(); place++)
                if (holds[place] >= 0) CHECK(f.holds(int64_t(place), holds[place]));
        }
    }
}

TEST_CASE("grouped_linear: experts in the places of a cache have the bits of those in order") {
    constexpr int64_t groups = 6, rows = 5, columns = 32, count = 4;
    std::vector<float> x = normal_floats(count * columns, 1), stack = normal_floats(groups * rows * columns, 2);
    std::vector<float> cache(size_t(3 * rows * columns), NAN);
    std::vector<int32_t> slots = {0, 1, 2, 3}, offsets = {0, 0, 2, 2, 2, 3, 4}, places = {-1, 2, -1, -1, 0, 1};
    for (int64_t g = 0; g < groups; g++)
        if (places[size_t(g)] >= 0)
            std::copy_n(stack.begin() + g * rows * columns, rows * columns,
                        cache.begin() + places[size_t(g)] * rows * columns);
    for (const bool few_rows : {false, true}) {
        std::vector<float> expected(size_t(count * rows)), found(size_t(count * rows), -1.0f);
        const GroupedLinearParams params = {GroupedLinearParams::Row::own, 1, few_rows};
        const Tensor in_x = tensor_of(x, {count, columns}), in_slots = tensor_of(slots, {count}),
                     in_offsets = tensor_of(offsets, {groups + 1});
        CHECK(run_op(cpu::grouped_linear_entry, params,
                     {in_x, tensor_of(stack, {groups, rows, columns}), in_slots, in_offsets},
                     {tensor_of(expected, {count, rows})})
                  .ok());
        CHECK(
            run_op(cpu::grouped_linear_entry, params,
                   {in_x, tensor_of(cache, {3, rows, columns}), in_slots, in_offsets, {}, tensor_of(places, {groups})},
                   {tensor_of(found, {count, rows})})
                .ok());
        CHECK(same_bits(found, expected));
    }
}

TEST_CASE("expert_gather: rows of some experts of a range, the others as they were; threads") {
    for (const int64_t tokens : {1, 70, 500})
        for (const int64_t width : {1, 15, 16, 100}) {
            constexpr int64_t chosen = 4;
            std::vector<int32_t> choices = random_choices(tokens, 20, chosen, uint32_t(width));
            for (int32_t & choice : choices)
                if (choice == 8 || choice == 19) choice = 20; // nobody wants those
            struct Case {
                int64_t range_first, range_count, first, count;
            };
            for (const Case & c : {Case{0, 20, 0, 20},
                                   {0, 20, 7, 4},
                                   {0, 20, 18, 2},
                                   {0, 20, 8, 1},
                                   {5, 7, 0, 3},
                                   {5, 7, 2, 5},
                                   {6, 2, 1, 1}}) {
                CAPTURE(tokens);
                CAPTURE(width);
                CAPTURE(c.range_first);
                CAPTURE(c.first);
                Order order = order_of(choices, chosen, c.range_first, c.range_count);
                const int64_t n = int64_t(order.slots.size());
                std::vector<float> x = normal_floats(tokens * c.count * width, 9), into = normal_floats(n * width, 10);
                std::vector<float> expected = into;
                std::vector<bool> is_gathered(size_t(n), false);
                for (int64_t g = c.first; g < c.first + c.count; g++)
                    for (int64_t j = order.offsets[size_t(g)]; j < order.offsets[size_t(g + 1)]; j++) {
                        const int64_t token = order.slots[size_t(j)] / chosen;
                        for (int64_t i = 0; i < width; i++)
                            expected[size_t(j * width + i)] =
                                x[size_t(token * c.count * width + (g - c.first) * width + i)];
                        is_gathered[size_t(j)] = true;
                    }
                const Tensor rows = tensor_of(x, {tokens, c.count * width});
                const auto run = [&](const Tensor & base, std::vector<float> & out, int threads) {
                    CHECK(
                        run_op(cpu::expert_gather_entry, ExpertGatherParams{c.first, c.count, chosen},
                               {rows, tensor_of(order.slots, {n}), tensor_of(order.offsets, {c.range_count + 1}), base},
                               {tensor_of(out, {n, width})}, Precision::f32, threads)
                            .ok());
                };
                for (const int threads : thread_counts) {
                    std::vector<float> elsewhere(into.size(), -1.0f), in_place = into, alone(into.size(), -1.0f);
                    run(tensor_of(into, {n, width}), elsewhere, threads);
                    CHECK(same_bits(elsewhere, expected));
                    run(tensor_of(in_place, {n, width}), in_place, threads);
                    CHECK(same_bits(in_place, expected));
                    run({}, alone, threads);
                    int wrong = 0;
                    for (size_t i = 0; i < alone.size(); i++)
                        wrong += is_gathered[i / size_t(width)] && alone[i] != expected[i];
                    CHECK(wrong == 0);
                }
            }
        }
}

TEST_CASE("expert_gather: one graph takes all tiles in one place, unless somebody reads what was there") {
    const auto threads = ThreadPool::create(2).take();
    const auto backend = open_cpu(*threads);
    for (const int64_t tile : {1, 4, 5, 12}) {
        GatheredTiles tiles = {90, 5, 12, tile, 37, random_choices(90, 12, 5, 11), normal_floats(90 * 12 * 37, 12)};
        for (float & number : tiles.x) number = nearest_bf16(number);
        CHECK(same_bits(tiles.run(*backend, false), tiles.expected()));
        CHECK(same_bits(tiles.run(*backend, true), tiles.expected()));
    }
}

TEST_CASE("expert_gather: memory that is the caller's, or read by the same node") {
    Graph graph(Precision::f32);
    const ValueId slots = graph.input("slots", DType::i32, {6}), offsets = graph.input("offsets", DType::i32, {3});
    const ValueId x = graph.input("x", DType::f32, {6, 4});
    const auto gather = [&](int64_t first, ValueId rows, ValueId into) {
        return graph.add(ExpertGatherParams{first, 1, 1}, {rows, slots, offsets, into}, "gather");
    };
    const ValueId given = gather(0, x, x), a = gather(0, x, no_value), b = gather(1, x, a), c = gather(0, b, b);
    REQUIRE_MESSAGE(graph.status().ok(), graph.status().message());
    graph.keep(c);
    const auto none = [](const Node &) { return uint64_t(0); };
    std::vector<bool> bound(graph.values().size(), false);
    const ArenaPlan plan = plan_arena(graph, bound, none);
    CHECK(plan.offsets[size_t(given)] >= 0); // a batch's input is read only
    CHECK(plan.offsets[size_t(a)] == plan.offsets[size_t(b)]);
    CHECK(plan.offsets[size_t(c)] != plan.offsets[size_t(b)]);
    bound[size_t(b)] = true;
    const ArenaPlan other = plan_arena(graph, bound, none);
    CHECK(other.offsets[size_t(a)] >= 0);
    CHECK(other.offsets[size_t(b)] == -1);
}

TEST_CASE("expert_gather: what does not fit is refused while the graph is built") {
    struct Case {
        ExpertGatherParams params;
        int64_t slots;
        bool with_into;
        const char * reason;
    };
    for (const Case & c : {Case{{0, 1, 1}, 6, false, ""},
                           {{0, 3, 1}, 6, false, "expert_gather wrong: x must be [T, count * I]"},
                           {{0, 0, 1}, 6, false, "x must be [T, count * I]"},
                           {{1, 2, 1}, 6, false, "experts that have no offsets"},
                           {{-1, 1, 1}, 6, false, "experts that have no offsets"},
                           {{0, 1, 0}, 6, false, "more slots than tokens have"},
                           {{0, 1, 1}, 7, false, "more slots than tokens have"},
                           {{0, 1, 2}, 7, false, ""},
                           {{0, 2, 1}, 6, false, ""},
                           {{0, 1, 1}, 6, true, "into must be [n, I], of the dtype of x"}}) {
        Graph graph(Precision::f32);
        graph.add(c.params,
                  {graph.input("x", DType::f32, {6, 4}), graph.input("slots", DType::i32, {c.slots}),
                   graph.input("offsets", DType::i32, {3}),
                   c.with_into ? graph.input("into", DType::f32, {6, 8}) : no_value},
                  "wrong");
        CAPTURE(c.reason);
        CHECK(graph.status().ok() == (*c.reason == '\0'));
        CHECK(graph.status().message().find(c.reason) != std::string::npos);
    }
}

TEST_CASE("expert_combine: in the order of experts, each step fused; ranges, threads, variants") {
    for (const int64_t width : {1, 15, 16, 17, 100, 320}) {
        const int64_t tokens = 90, experts = 12, chosen = 5;
        std::vector<int32_t> choices = random_choices(tokens, experts, chosen, 2);
        std::vector<float> weights = normal_floats(tokens * chosen, 3), sum = normal_floats(tokens * width, 4);
        for (const auto & [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, 12}, {4, 3}})
            for (const bool with_sum : {false, true}) {
                CAPTURE(width);
                CAPTURE(count);
                Order order = order_of(choices, chosen, first, count);
                const int64_t n = int64_t(order.slots.size());
                std::vector<float> y = normal_floats(n * width, 5);
                for (int64_t j = order.offsets.back(); j < n; j++) { // not in use
                    order.slots[size_t(j)] = -1;
                    std::fill_n(y.begin() + j * width, width, NAN);
                }
                std::vector<float> expected = with_sum ? sum : std::vector<float>(sum.size(), 0.0f);
                for (int64_t j = 0; j < order.offsets.back(); j++)
                    for (int64_t c = 0; c < width; c++) {
                        const int64_t slot = order.slots[size_t(j)];
                        float & value = expected[size_t(slot / chosen * width + c)];
                        value = std::fma(weights[size_t(slot)], y[size_t(j * width + c)], value);
                    }
                for (const Precision precision : {Precision::f32, Precision::bf16})
                    for (const int threads : thread_counts) {
                        std::vector<float> out(sum.size(), -1.0f);
                        CHECK(run_op(cpu::expert_combine_entry, ExpertCombineParams{},
                                     {with_sum ? tensor_of(sum, {tokens, width}) : Tensor{}, tensor_of(y, {n, width}),
                                      tensor_of(order.slots, {n}), tensor_of(order.offsets, {count + 1}),
                                      tensor_of(weights, {tokens, chosen})},
                                     {tensor_of(out, {tokens, width})}, precision, threads)
                                  .ok());
                        CHECK(same_bits(out, expected));
                    }
            }
        // One token of every variant, onto the sum itself.
        const std::vector<float> rows = normal_floats(9 * width, 6), factors = normal_floats(3, 7);
        const std::vector<int32_t> list = {1, 4, 8};
        std::vector<float> first(sum.begin(), sum.begin() + width);
        (*cpu::all_loops().front())
            .rows.combine(first.data(), rows.data(), list.data(), factors.data(), 3, width, first.data());
        for (const cpu::Loops * loops : cpu::all_loops()) {
            std::vector<float> other(first.size());
            loops->rows.combine(sum.data(), rows.data(), list.data(), factors.data(), 3, width, other.data());
            CHECK_MESSAGE(same_bits(other, first), loops->name);
        }
    }
}

TEST_CASE("count_experts: adds, pads aside") {
    std::vector<int32_t> choices = random_choices(50, 9, 3, 8);
    std::vector<uint8_t> mask(50, 1);
    for (size_t t = 30; t < 50; t++) mask[t] = 0;
    for (const bool masked : {false, true}) {
        std::vector<int64_t> counts(9, 5), expected(9, 5);
        for (size_t i = 0; i < choices.size(); i++) expected[size_t(choices[i])] += !masked || i / 3 < 30;
        CHECK(run_op(cpu::count_experts_entry, CountExpertsParams{},
                     {tensor_of(choices, {50, 3}), masked ? tensor_of(mask, {50}) : Tensor{}, tensor_of(counts, {9})},
                     {})
                  .ok());
        CHECK(counts == expected);
    }
}

TEST_CASE("largest: the first of equal ones, NaN above all, only what is allowed; parts of long rows, threads") {
    for (const int64_t width : {1, 5, 32768, 32769, 100003}) {
        std::mt19937 random(static_cast<uint32_t>(width));
        std::vector<float> x(size_t(2 * width));
        for (float & value : x) value = float(int(random() % 2001) - 1000); // many are equal
        std::vector<uint8_t> allowed(static_cast<size_t>(width));
        for (uint8_t & flag : allowed) flag = random() % 4 != 0;
        if (width > 5) x[size_t(width + width / 2)] = NAN, allowed[size_t(width / 2)] = 1;
        for (const bool masked : {false, true})
            for (const int threads : {1, 3}) {
                std::vector<int32_t> columns(2, -7);
                std::vector<float> numbers(2, -7);
                CHECK(run_op(cpu::largest_entry, LargestParams{},
                             {tensor_of(x, {2, width}), masked ? tensor_of(allowed, {width}) : Tensor()},
                             {tensor_of(columns, {2}), tensor_of(numbers, {2})}, Precision::f32, threads)
                          .ok());
                for (int64_t row = 0; row < 2; row++) {
                    int64_t best = -1;
                    const auto at = [&](int64_t i) { return x[size_t(row * width + i)]; };
                    for (int64_t i = width; i-- > 0;) // from behind: the last to win is the first
                        if ((!masked || allowed[size_t(i)]) &&
                            (best < 0 || std::isnan(at(i)) || (!std::isnan(at(best)) && at(i) >= at(best))))
                            best = i;
                    CHECK(columns[size_t(row)] == best);
                    if (best >= 0 && !std::isnan(at(best))) CHECK(numbers[size_t(row)] == at(best));
                    if (best >= 0 && std::isnan(at(best))) CHECK(std::isnan(numbers[size_t(row)]));
                }
            }
    }
}

TEST_CASE("top: every number left out is smaller, NaN above all, only what is allowed; equal ones together") {
    constexpr int64_t wanted = 5, most = 9;
    for (const int64_t width : {1, 4, 5, 6, 333}) {
        std::mt19937 random(static_cast<uint32_t>(width));
        std::vector<float> x(size_t(2 * width));
        for (float & value : x) value = float(int(random() % 101) - 50); // some are equal
        std::vector<uint8_t> allowed(static_cast<size_t>(width));
        for (uint8_t & flag : allowed) flag = random() % 4 != 0;
        if (width > 5) x[size_t(width / 2)] = NAN, allowed[size_t(width / 2)] = 1;
        for (const bool masked : {false, true})
            for (const int threads : {1, 3}) {
                std::vector<int32_t> columns(2 * (1 + most), -7);
                std::vector<float> numbers(2 * most, -7);
                CHECK(run_op(cpu::top_entry, TopParams{wanted, most},
                             {tensor_of(x, {2, width}), masked ? tensor_of(allowed, {width}) : Tensor()},
                             {tensor_of(columns, {2, 1 + most}), tensor_of(numbers, {2, most})}, Precision::f32,
                             threads)
                          .ok());
                for (int64_t row = 0; row < 2; row++) {
                    std::vector<std::pair<float, int32_t>> all; // NaN as Inf: no number is
                    for (int64_t i = 0; i < width; i++)
                        if (!masked || allowed[size_t(i)]) {
                            const float number = x[size_t(row * width + i)];
                            all.emplace_back(std::isnan(number) ? INFINITY : number, int32_t(i));
                        }
                    std::sort(all.begin(), all.end(), [](const auto & a, const auto & b) { return a.first > b.first; });
                    size_t expected = all.size();
                    if (expected > wanted)
                        for (expected = wanted; expected < all.size() && all[expected].first == all[wanted - 1].first;)
                            expected++;
                    const int32_t * const found = columns.data() + row * (1 + most);
                    REQUIRE(size_t(found[0]) == expected);
                    if (expected > most) {
                        CHECK(found[1] == -7); // too many are equal: none is there
                        continue;
                    }
                    std::set<int32_t> left, right;
                    for (size_t i = 0; i < expected; i++) {
                        left.insert(found[1 + i]);
                        right.insert(all[i].second);
                        const float number = numbers[size_t(row * most) + i],
                                    there = x[size_t(row * width + found[1 + i])];
                        CHECK((number == there || (std::isnan(number) && std::isnan(there))));
                    }
                    CHECK(left == right);
                }
            }
    }
    std::vector<float> equal(20, 1.0f), numbers(most);
    std::vector<int32_t> columns(1 + most, -7);
    CHECK(run_op(cpu::top_entry, TopParams{wanted, most}, {tensor_of(equal, {1, 20}), Tensor()},
                 {tensor_of(columns, {1, 1 + most}), tensor_of(numbers, {1, most})})
              .ok());
    CHECK(columns[0] == 20);
    CHECK(columns[1] == -7);
}

TEST_CASE("draw: the largest logit with its noise, by the library's logarithms; parts of long rows, threads") {
    for (const int64_t width : {1, 5, 8192, 8193, 30001}) {
        std::mt19937 random(static_cast<uint32_t>(width));
        std::normal_distribution<float> normal(0, 4);
        std::vector<float> x(size_t(3 * width));
        for (float & value : x) value = normal(random);
        std::vector<uint8_t> allowed(static_cast<size_t>(width));
        for (uint8_t & flag : allowed) flag = random() % 4 != 0;
        std::vector<Draw> draws = {{random(), 1}, {0x1234567890abcdefu * random(), 0.3}, {random(), 7.5}};
        for (const bool masked : {false, true})
            for (const int threads : {1, 3}) {
                std::vector<int32_t> ids(3, -7);
                std::vector<float> numbers(3, -7);
                Tensor of_draws;
                of_draws.dtype = DType::i32, of_draws.shape = {3, 4}, of_draws.data = draws.data();
                CHECK(run_op(cpu::draw_entry, DrawParams{},
                             {tensor_of(x, {3, width}), masked ? tensor_of(allowed, {width}) : Tensor(), of_draws},
                             {tensor_of(ids, {3}), tensor_of(numbers, {3})}, Precision::f32, threads)
                          .ok());
                for (size_t row = 0; row < 3; row++) {
                    int64_t best = -1;
                    double largest = -INFINITY;
                    for (int64_t i = 0; i < width; i++) {
                        if (masked && !allowed[size_t(i)]) continue;
                        const double noise = -std::log(-std::log(unit_of(draws[row].series, uint64_t(i))));
                        const double key = double(x[row * size_t(width) + size_t(i)]) / draws[row].temperature + noise;
                        if (best < 0 || key > largest) best = i, largest = key;
                    }
                    CHECK(ids[row] == best);
                    if (best >= 0) CHECK(numbers[row] == x[row * size_t(width) + size_t(best)]);
                }
            }
    }
    // NaN is larger than all numbers, and of several the first; minus infinity comes where nothing else is.
    const auto drawn = [](std::vector<float> x) {
        std::vector<int32_t> id(1);
        std::vector<float> number(1);
        Draw draw = {5, 1};
        Tensor of_draw;
        of_draw.dtype = DType::i32, of_draw.shape = {1, 4}, of_draw.data = &draw;
        const auto width = int64_t(x.size());
        REQUIRE(run_op(cpu::draw_entry, DrawParams{}, {tensor_of(x, {1, width}), Tensor(), of_draw},
                       {tensor_of(id, {1}), tensor_of(number, {1})})
                    .ok());
        return id[0];
    };
    CHECK(drawn({INFINITY, 1, NAN, 2, NAN}) == 2);
    CHECK(drawn({1, 2, INFINITY, INFINITY}) == 2);
    CHECK(drawn({-INFINITY, -900, -INFINITY}) == 1);
    CHECK(drawn({-INFINITY, -INFINITY}) == 0);
}
