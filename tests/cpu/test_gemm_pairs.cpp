// Products of BF16 numbers by pairs: cpu/gemm_kernels.h says when they may be taken. These tests look at both: that bits are
// those of the plain loop whatever a panel holds, and that pairs are what made them where they should.
#include "codec/nvfp4.h"
#include "cpu/gemm.h"
#include "cpu/gemm_products.h"

#include <doctest/doctest.h>
#include <memory>
#include <string>

using namespace gnv;
using namespace gnv::test;

namespace {

const cpu::GemmKernels * kernels_with_pairs() {
    for (const cpu::GemmKernels * kernels : cpu::gemm_kernels())
        if (kernels->pairs) return kernels;
    MESSAGE("not tested: this processor has no AVX512_BF16, or not as it is needed");
    return nullptr;
}

// How often each way was taken. For one thread.
struct Calls {
    int pairs = 0, f32 = 0;
    bool operator==(const Calls &) const = default;
};
Calls calls;

// The kernels that this processor has, counted.
struct CountedKernels {
    explicit CountedKernels(const cpu::GemmKernels & from) : kernels(from), pairs(*from.pairs) {
        original = &from;
        calls = {};
        pairs.multiply = [](const uint32_t * a, int rows, const uint32_t * b, int64_t panel_stride, int64_t panels,
                            int64_t k, bool first, const cpu::Finish * finish, float * c, int64_t c_stride) {
            calls.pairs += int(panels);
            original->pairs->multiply(a, rows, b, panel_stride, panels, k, first, finish, c, c_stride);
        };
        kernels.multiply = [](const float * a, int64_t a_stride, int rows, const float * b, int64_t panel_stride,
                              int64_t panels, int64_t k, bool first, float * c, int64_t c_stride) {
            calls.f32 += int(panels);
            original->multiply(a, a_stride, rows, b, panel_stride, panels, k, first, c, c_stride);
        };
        kernels.multiply_direct = [](const float * const * a, int rows, const float * b, int64_t k, bool first,
                                     float * c, int64_t c_stride) {
            calls.f32++;
            original->multiply_direct(a, rows, b, k, first, c, c_stride);
        };
        kernels.pairs = &pairs;
    }
    CountedKernels(const CountedKernels &) = delete;

    static inline const cpu::GemmKernels * original = nullptr;
    cpu::GemmKernels kernels;
    cpu::PairKernels pairs;
};

std::vector<float> run_one(const cpu::GemmKernels & kernels, const Product & product, ThreadPool & pool) {
    std::vector<float> result = product.fresh_result();
    std::vector<cpu::GemmProblem> problems = {product.problem};
    problems[0].c = result.data();
    run(kernels, problems, pool);
    return result;
}

Calls calls_of(const cpu::GemmKernels & kernels, Product & product) {
    auto one = ThreadPool::create(1).take();
    const CountedKernels counted(kernels);
    const bool equal = same_bits(run_one(counted.kernels, product, *one), product.reference());
    CHECK(equal);
    return calls;
}

float of_bits(uint32_t bits) { return std::bit_cast<float>(bits); }

// Numbers that pairs are not for, or that are at the edge of it.
const std::vector<float> unusual = {of_bits(1),          of_bits(0x807f0000),
                                    0x1p-126f,           0x1p-100f,
                                    -0x1.fep-57f,        0x1p-56f,
                                    0x1.01p-3f,          -0.0f,
                                    of_bits(0x3f800001), 0x1.fep+127f,
                                    of_bits(0x7f800000), of_bits(0xff800000),
                                    -0x1p+100f,          of_bits(0x7fc00000)};

void set_weight(Product & product, int64_t row, int64_t column, float value) {
    const auto at = size_t(row * product.weight.columns + column);
    const auto upper = uint16_t(std::bit_cast<uint32_t>(value) >> 16);
    memcpy(&product.weight.bytes[at * 2], &upper, sizeof upper);
}

// NaNs may differ in their bits: which operand of several they come from is left to compilers.
bool same_numbers(const std::vector<float> & a, const std::vector<float> & b) {
    for (size_t i = 0; i < a.size(); i++)
        if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]) && !(std::isnan(a[i]) && std::isnan(b[i])))
            return false;
    return a.size() == b.size();
}

} // namespace

TEST_CASE("pairs: products of BF16 numbers and of NVFP4 take no other way") {
    const cpu::GemmKernels * const kernels = kernels_with_pairs();
    if (!kernels) return;
    const int height = kernels->panel_rows, width = kernels->panel_columns;
    struct Case {
        int64_t m, n, k;
    };
    for (const Case shape :
         {Case{3, 5, 7}, {1, 100, 33}, {40, 70, 1100}, {1021, 33, 16}, {28, 64, 1024}, {29, 1030, 80}}) {
        for (const DType dtype : {DType::bf16, DType::f4}) {
            for (const bool w4a4 : {false, true}) {
                const int64_t k = dtype == DType::f4 || w4a4 ? (shape.k + 15) / 16 * 16 : shape.k;
                for (const Precision precision : {Precision::f32, Precision::bf16}) {
                    Product product(dtype, shape.m, shape.n, k, {shape.m % 2 == 0, w4a4, precision}, 21);
                    const Calls found = calls_of(*kernels, product);
                    CHECK(found.f32 == 0);
                    const int64_t panels = cpu::divide_up(shape.m, height) * cpu::divide_up(shape.n, width);
                    CHECK(found.pairs >= panels);
                }
            }
        }
    }
}

TEST_CASE("pairs: F32 numbers take the way of F32, of a weight and of rows") {
    const cpu::GemmKernels * const kernels = kernels_with_pairs();
    if (!kernels) return;
    Product weight(DType::f32, 40, 70, 600, {}, 22);
    CHECK(calls_of(*kernels, weight).pairs == 0);
    for (const DType dtype : {DType::bf16, DType::f4}) {
        Product rows(dtype, 40, 70, 608, {}, 22);
        for (float & value : rows.a) value *= 1.1f;
        CHECK(calls_of(*kernels, rows).pairs == 0);
    }
}

// 3 panels of rows, 3 of columns, two stretches of k.
TEST_CASE("pairs: a panel that they are not for leaves them alone, for the rest of its sums") {
    const cpu::GemmKernels * const kernels = kernels_with_pairs();
    if (!kernels) return;
    REQUIRE(kernels->panel_rows == 14);
    REQUIRE(kernels->panel_columns == 32);
    REQUIRE(cpu::gemm_depth == 1024);
    constexpr int alone = 2;                    // calls for one panel of rows: of 12 and of 2
    constexpr int last = 1, both_stretches = 5; // of at most 256 steps of k, of 1100
    const auto make = [] { return Product(DType::bf16, 40, 70, 1100, {}, 23); };
    Product clean = make();
    CHECK(calls_of(*kernels, clean) == Calls{18, 0});
    for (const float value : {of_bits(0x3f800001), of_bits(1), of_bits(0x7f800000), 0x1p-126f}) {
        Product later = make(), earlier = make();
        later.a[size_t(20 * later.a_stride + 1050)] = value;
        CHECK(calls_of(*kernels, later) == Calls{15, 3 * alone * last});
        earlier.a[size_t(20 * earlier.a_stride + 10)] = value;
        CHECK(calls_of(*kernels, earlier) == Calls{12, 3 * alone * both_stretches});
        if (std::bit_cast<uint32_t>(value) & 0xffff && value > 1) continue; // no number of BF16
        Product weight = make();
        set_weight(weight, 33, 10, std::bit_cast<uint32_t>(value) == 1 ? of_bits(0x10000) : value);
        CHECK(calls_of(*kernels, weight) == Calls{12, (2 + 2 + 1) * both_stretches});
    }
    // Only together are these too small.
    Product rows = make(), weight = make(), both = make();
    rows.a[size_t(20 * rows.a_stride + 10)] = both.a[size_t(20 * both.a_stride + 10)] = 0x1p-60f;
    set_weight(weight, 33, 10, 0x1p-60f), set_weight(both, 33, 10, 0x1p-60f);
    CHECK(calls_of(*kernels, rows) == Calls{18, 0});
    CHECK(calls_of(*kernels, weight) == Calls{18, 0});
    CHECK(calls_of(*kernels, both) == Calls{16, alone * both_stretches});
}

TEST_CASE("pairs: the bits of the plain loop, whatever numbers there are, wherever they are") {
    Pools pools;
    std::mt19937 random(24);
    for (int i = 0; i < 160; i++) {
        const DType dtype = i % 3 == 2 ? DType::f4 : DType::bf16;
        const bool w4a4 = i % 4 == 3;
        const auto m = int64_t(1 + random() % (i % 10 == 0 ? 260 : 45)), n = int64_t(1 + random() % 100);
        int64_t k = int64_t(1 + random() % 2200);
        if (dtype == DType::f4 || w4a4) k = (k + 15) / 16 * 16;
        Product product(dtype, m, n, k, {i % 2 == 0, w4a4, Precision(i % 5 == 0)}, uint32_t(i));
        bool has_nan = false;
        for (uint32_t count = random() % 4; count > 0; count--) {
            const float value = unusual[random() % unusual.size()];
            if (w4a4 && std::isnan(value)) continue;    // the plain loop says nothing of it
            has_nan |= !(std::fabs(value) < 0x1p+120f); // or becomes it
            if (dtype == DType::bf16 && random() % 2)
                set_weight(product, int64_t(random() % uint64_t(n)), int64_t(random() % uint64_t(k)), value);
            else
                product.a[random() % product.a.size()] = value;
        }
        const std::vector<float> expected = product.reference();
        for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) {
            const std::vector<float> found = run_one(*kernels, product, *pools.list[size_t(i) % pools.list.size()]);
            CAPTURE(std::string(kernels->name));
            CAPTURE(i);
            const bool equal = has_nan ? same_numbers(found, expected) : same_bits(found, expected);
            CHECK(equal);
        }
    }
}

// Threads keep the rows that they packed from one tile of a problem to the next, end with parts of tiles, and have room
// for fewer rows than a tile may have.
TEST_CASE("pairs: many tiles of several problems, in any order of threads") {
    const cpu::GemmKernels * const kernels = kernels_with_pairs();
    if (!kernels) return;
    std::vector<std::unique_ptr<Product>> products;
    struct Case {
        int64_t m, n, k;
    };
    for (const Case & shape : {Case{40, 2100, 64}, {600, 300, 48}, {17, 1300, 1104}, {5, 2100, 80}, {40, 2100, 64}}) {
        const auto seed = uint32_t(products.size());
        products.push_back(std::make_unique<Product>(seed % 2 ? DType::f4 : DType::bf16, shape.m, shape.n, shape.k,
                                                     ProductOptions{seed == 1, seed == 3, Precision(seed % 2)}, seed));
    }
    products[4]->a[size_t(20 * products[4]->a_stride + 10)] = of_bits(0x3f800001); // not for pairs
    std::vector<std::vector<float>> expected;
    for (const auto & product : products) expected.push_back(product->reference());
    Pools pools;
    for (const auto & pool : pools.list) {
        const std::vector<std::vector<float>> results = run_at_once(*kernels, products, *pool);
        for (size_t i = 0; i < products.size(); i++) {
            CAPTURE(i);
            CAPTURE(pool->size());
            const bool equal = same_bits(results[i], expected[i]);
            CHECK(equal);
        }
    }
}

// Padded texts have tiles whose first rows are zeros, numbers of BF16, between others. A thread goes from one to the other and
// back to rows that it had packed before.
TEST_CASE("pairs: tiles that begin with numbers of BF16 between tiles of F32 numbers") {
    const cpu::GemmKernels * const kernels = kernels_with_pairs();
    if (!kernels) return;
    Pools pools;
    for (const DType dtype : {DType::bf16, DType::f4}) {
        for (const bool zeros : {false, true}) {
            Product product(dtype, 1020, 2100, 64, {}, 26); // tiles of 518 rows
            product.problem.bf16_rows = true;
            for (int64_t row = 0; row < product.problem.m; row++) {
                float * const values = product.a.data() + row * product.a_stride;
                for (int64_t k = 0; k < product.problem.k; k++) values[k] *= row >= 518 ? 1.1f : zeros ? 0.0f : 1.0f;
            }
            const std::vector<float> expected = product.reference();
            for (const auto & pool : pools.list) {
                CAPTURE(pool->size());
                const bool equal = same_bits(run_one(*kernels, product, *pool), expected);
                CHECK(equal);
            }
        }
    }
}

// Sums of the smallest numbers that pairs are for, which cancel down to their last bit; and of those just below.
TEST_CASE("pairs: at the edge of subnormal sums") {
    std::mt19937 random(25);
    auto one = ThreadPool::create(1).take();
    for (const int lowest : {-58, -57, -56, -55}) {
        for (const int range : {1, 2, 9}) {
            Product product(DType::bf16, 31, 65, 1101, {}, 25);
            const auto number = [&] {
                const float magnitude =
                    std::ldexp(float(128 + random() % 128), lowest - 7 + int(random() % uint32_t(range)));
                return random() % 2 ? magnitude : -magnitude;
            };
            for (float & value : product.a) value = number();
            for (int64_t row = 0; row < 65; row++)
                for (int64_t column = 0; column < 1101; column++) set_weight(product, row, column, number());
            const std::vector<float> expected = product.reference();
            for (const cpu::GemmKernels * kernels : cpu::gemm_kernels()) {
                CAPTURE(std::string(kernels->name));
                const bool equal = same_bits(run_one(*kernels, product, *one), expected);
                CHECK(equal);
            }
            if (const cpu::GemmKernels * kernels = kernels_with_pairs())
                CHECK((calls_of(*kernels, product).f32 == 0) == (lowest >= -56));
        }
    }
}

TEST_CASE("pairs: what packing says of a panel") {
    const cpu::GemmKernels * const kernels = kernels_with_pairs();
    if (!kernels) return;
    for (const int64_t k : {1, 7, 31, 32, 33, 300}) {
        for (int64_t at = 0; at < k; at = at * 3 + 1) {
            const auto exponent = [&](float value, bool alone) {
                std::vector<float> x(size_t(k), alone ? 0.0f : 1.5f);
                x[size_t(at)] = value;
                const float * const rows[] = {x.data()};
                std::vector<uint32_t> panel(size_t(cpu::pair_stride(k)) * 16 + 16);
                const int found = kernels->pairs->pack_rows(rows, 1, k, panel.data());
                std::vector<uint16_t> weight;
                for (const float number : x) weight.push_back(uint16_t(std::bit_cast<uint32_t>(number) >> 16));
                panel.resize(size_t((k + 1) / 2 * kernels->panel_columns));
                if ((std::bit_cast<uint32_t>(value) & 0xffff) == 0)
                    CHECK(kernels->pairs->pack_bf16(weight.data(), k, 1, k, panel.data()) == found);
                return found;
            };
            for (const int e : {-126, -70, -1, 0}) {
                CHECK(exponent(std::ldexp(1.0f, e), false) == e);
                CHECK(exponent(-std::ldexp(1.984375f, e), true) == e);
            }
            CHECK(exponent(0x1p+127f, false) == (k == 1 ? 127 : 0));
            CHECK(exponent(0.0f, true) > 127);
            CHECK(exponent(-0.0f, true) > 127);
            for (const float value :
                 {of_bits(0x00010000), of_bits(0x807f0000), of_bits(0x7f800000), of_bits(0xff800000),
                  of_bits(0x7fc00000), of_bits(0xff810000), of_bits(0x3f800001), of_bits(0x3f808000)})
                CHECK(exponent(value, false) == cpu::not_for_pairs);
        }
    }
}

TEST_CASE("pairs: of NVFP4 they are the numbers of the F32 panel, for every scale and code") {
    const cpu::GemmKernels * const kernels = kernels_with_pairs();
    if (!kernels) return;
    constexpr int64_t k = 48;
    const int width = kernels->panel_columns;
    for (int byte = 0; byte < 256; byte++) {
        std::mt19937 random(26);
        std::vector<uint8_t> codes(size_t(width * k / 2)), scales(size_t(width * k / 16), uint8_t(byte));
        for (uint8_t & code : codes) code = uint8_t(random());
        for (size_t i = 1; i < scales.size(); i += 2) scales[i] = uint8_t(random() % 0x7f);
        const cpu::Nvfp4Rows rows = {codes.data(), k / 2, scales.data(), k / 16};
        for (const int count : {width, width - 3, 5}) {
            std::vector<float> panel(size_t(k * width));
            std::vector<uint32_t> pairs(size_t(k / 2 * width));
            const int exponent = kernels->pairs->pack_nvfp4(rows, count, k, pairs.data());
            CHECK(exponent == (byte >= 0x7f ? cpu::not_for_pairs : -10));
            if (byte >= 0x7f) continue;
            kernels->pack_nvfp4(rows, count, k, panel.data());
            for (int64_t i = 0; i < k; i++)
                for (int64_t column = 0; column < width; column++) {
                    const uint32_t pair = pairs[size_t(i / 2 * width + column)];
                    const uint32_t number = i % 2 ? pair << 16 : pair & 0xffff0000;
                    if (number != std::bit_cast<uint32_t>(panel[size_t(i * width + column)]))
                        FAIL_CHECK("scale ", byte, " k ", i, " column ", column, ": ", of_bits(number));
                }
        }
    }
}
