#include "ops/row_fixture.h"
#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

// The result on one thread, checked to be that of every number of threads.
std::vector<float> run_rows(const KernelEntry & kernel, const OpParams & params, const std::vector<Tensor> & inputs,
                            Shape shape, Precision precision = Precision::f32) {
    std::vector<float> first;
    for (const int threads : thread_counts) {
        std::vector<float> y(static_cast<size_t>(shape.elements()), -1.0f);
        CHECK(run_op(kernel, params, inputs, {tensor_of(y, shape)}, precision, threads).ok());
        if (threads == 1) first = y;
        CHECK(same_bits(y, first));
    }
    return first;
}

} // namespace

TEST_CASE("embedding: recorded rows; F32 and BF16 tables") {
    std::vector<float> table = checkpoint_floats("model.language_model.embed_tokens.weight");
    std::vector<int32_t> ids = recorded_text().ints("text70.input_ids");
    const int64_t words = int64_t(table.size()) / 256, count = int64_t(ids.size());
    const std::vector<float> expected = recorded_text().floats("text70.embed");
    const Tensor id = tensor_of(ids, {count});
    CHECK(same_bits(
        run_rows(cpu::embedding_entry, EmbeddingParams{}, {id, tensor_of(table, {words, 256}), {}}, {count, 256}),
        expected));
    std::vector<uint16_t> narrow(table.size());
    for (size_t i = 0; i < table.size(); i++) memcpy(&narrow[i], reinterpret_cast<char *>(&table[i]) + 2, 2);
    for (const Precision precision : {Precision::f32, Precision::bf16})
        CHECK(same_bits(run_rows(cpu::embedding_entry, EmbeddingParams{}, {id, tensor_of(narrow, {words, 256}), {}},
                                 {count, 256}, precision),
                        expected));
    for (const cpu::Loops * loops : cpu::all_loops()) {
        std::vector<float> wide(table.size());
        loops->rows.widen_bf16(narrow.data(), int64_t(narrow.size()), wide.data());
        CHECK(same_bits(wide, table));
    }
}

TEST_CASE("embedding: ids below zero mean given rows") {
    std::vector<float> table = normal_floats(5 * 20, 1), given = normal_floats(3 * 20, 2);
    std::vector<int32_t> ids = {4, -1, 0, -3, -2, -3};
    std::vector<float> expected;
    for (const int32_t id : ids) {
        const std::vector<float> & from = id < 0 ? given : table;
        const auto row = from.begin() + (id < 0 ? -1 - id : id) * 20;
        expected.insert(expected.end(), row, row + 20);
    }
    const std::vector<Tensor> inputs = {tensor_of(ids, {6}), tensor_of(table, {5, 20}), tensor_of(given, {3, 20})};
    CHECK(same_bits(run_rows(cpu::embedding_entry, EmbeddingParams{}, inputs, {6, 20}), expected));
    const std::vector<float> rounded =
        run_rows(cpu::embedding_entry, EmbeddingParams{}, inputs, {6, 20}, Precision::bf16);
    for (size_t i = 0; i < rounded.size(); i++)
        CHECK(rounded[i] == (ids[i / 20] < 0 ? nearest_bf16(expected[i]) : expected[i])); // the table is as it is
}

TEST_CASE("mask_rows: zeros where the mask says so, also in place") {
    std::vector<float> x = normal_floats(300 * 300, 1);
    std::vector<uint8_t> mask(300, 1);
    for (size_t t = 0; t < 300; t += 7) mask[t] = 0;
    x[0] = NAN; // masked: not multiplied
    std::vector<float> expected = x;
    for (size_t i = 0; i < x.size(); i++)
        if (!mask[i / 300]) expected[i] = 0;
    CHECK(same_bits(run_rows(cpu::mask_rows_entry, MaskRowsParams{}, {tensor_of(x, {300, 300}), tensor_of(mask, {300})},
                             {300, 300}),
                    expected));
    CHECK(run_op(cpu::mask_rows_entry, MaskRowsParams{}, {tensor_of(x, {300, 300}), tensor_of(mask, {300})},
                 {tensor_of(x, {300, 300})})
              .ok());
    CHECK(same_bits(x, expected));
}

TEST_CASE("add, silu_mul: doubles, rounding, variants, in place") {
    for (const int64_t count : {1, 15, 16, 17, 100, 100003}) {
        CAPTURE(count);
        std::vector<float> a = normal_floats(count, 1, 5), b = normal_floats(count, 2), ones(a.size(), 1.0f);
        if (count > 20) a[3] = -200, a[4] = 200, a[5] = 0;
        const std::vector<Tensor> inputs = {tensor_of(a, {count}), tensor_of(b, {count})};
        const std::vector<float> sum = run_rows(cpu::add_entry, AddParams{}, inputs, {count});
        const std::vector<float> product = run_rows(cpu::silu_mul_entry, SiluMulParams{}, inputs, {count});
        std::vector<float> silu(a.size()), rounded_sum(a.size()), rounded_product(a.size());
        (*cpu::all_loops().front()).rows.silu_mul(a.data(), ones.data(), count, false, silu.data());
        int wrong = 0;
        for (size_t i = 0; i < a.size(); i++) {
            wrong += sum[i] != float(double(a[i]) + double(b[i]));
            wrong += !near(product[i], double(a[i]) * double_sigmoid(a[i]) * double(b[i]), 5e-7);
            rounded_sum[i] = nearest_bf16(sum[i]);
            rounded_product[i] = nearest_bf16(nearest_bf16(silu[i]) * b[i]);
        }
        CHECK(wrong == 0);
        CHECK(same_bits(run_rows(cpu::add_entry, AddParams{}, inputs, {count}, Precision::bf16), rounded_sum));
        CHECK(same_bits(run_rows(cpu::silu_mul_entry, SiluMulParams{}, inputs, {count}, Precision::bf16),
                        rounded_product));
        for (const cpu::Loops * loops : cpu::all_loops())
            for (const bool bf16 : {false, true}) {
                std::vector<float> y = a, z = b;
                loops->rows.add(y.data(), b.data(), count, bf16, y.data());
                loops->rows.silu_mul(a.data(), z.data(), count, bf16, z.data());
                CHECK_MESSAGE(same_bits(y, bf16 ? rounded_sum : sum), loops->name);
                CHECK_MESSAGE(same_bits(z, bf16 ? rounded_product : product), loops->name);
            }
    }
}

TEST_CASE("rounding to BF16: ties, overflow, NaN") {
    const std::vector<uint32_t> bits = {0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x7f7fffff, 0xff7f8000,
                                        0x7f800000, 0x00008000, 0x00018000, 0x7f800001, 0xffffffff};
    const std::vector<uint32_t> expected = {0x3f800000, 0x3f820000, 0x3f810000, 0x3f800000, 0x7f800000, 0xff800000,
                                            0x7f800000, 0x00000000, 0x00020000, 0x7fc00000, 0xffff0000};
    for (const cpu::Loops * loops : cpu::all_loops()) {
        std::vector<float> x(bits.size()), zeros(bits.size(), 0.0f), y(bits.size());
        memcpy(x.data(), bits.data(), bits.size() * 4);
        for (float & value : zeros) value = -0.0f; // keeps every value
        loops->rows.add(x.data(), zeros.data(), int64_t(x.size()), true, y.data());
        CHECK_MESSAGE(memcmp(y.data(), expected.data(), expected.size() * 4) == 0, loops->name);
    }
}

TEST_CASE("sigmoid_gate: a gate for each column, one for all, rounding") {
    for (const int64_t width : {2, 15, 16, 17, 100, 1000})
        for (const bool single : {false, true}) {
            CAPTURE(width);
            const int64_t rows = 70, column = 5, stride = single ? column + 1 : column + width + 2;
            std::vector<float> x = normal_floats(rows * width, 1), g = normal_floats(rows * stride, 2, 4);
            const std::vector<Tensor> inputs = {tensor_of(x, {rows, width}), tensor_of(g, {rows, stride})};
            const SigmoidGateParams params = {column};
            const std::vector<float> y = run_rows(cpu::sigmoid_gate_entry, params, inputs, {rows, width});
            std::vector<float> rounded(x.size());
            int wrong = 0;
            for (int64_t i = 0; i < rows * width; i++) {
                const float gate = g[size_t(i / width * stride + column + (single ? 0 : i % width))], one = 1;
                float sigmoid;
                (*cpu::all_loops().front()).rows.sigmoid_gate(&one, &gate, 1, false, &sigmoid);
                wrong += !near(y[size_t(i)], double(x[size_t(i)]) * double_sigmoid(gate), 5e-7);
                rounded[size_t(i)] = nearest_bf16(x[size_t(i)] * nearest_bf16(sigmoid));
            }
            CHECK(wrong == 0);
            CHECK(
                same_bits(run_rows(cpu::sigmoid_gate_entry, params, inputs, {rows, width}, Precision::bf16), rounded));
            for (const cpu::Loops * loops : cpu::all_loops())
                for (const bool bf16 : {false, true}) {
                    std::vector<float> other(x.size());
                    for (int64_t r = 0; r < rows; r++) {
                        const float * const gate = g.data() + r * stride + column;
                        if (single)
                            loops->rows.sigmoid_scale(x.data() + r * width, *gate, width, bf16,
                                                      other.data() + r * width);
                        else
                            loops->rows.sigmoid_gate(x.data() + r * width, gate, width, bf16, other.data() + r * width);
                    }
                    CHECK_MESSAGE(same_bits(other, bf16 ? rounded : y), loops->name);
                }
        }
}

TEST_CASE("sigmoid_gate, add: the recorded sum of routed and shared experts") {
    for (const char * layer : {"text70.layer.0.mlp", "text70.layer.3.mlp"}) {
        const std::string name = layer;
        std::vector<float> shared = recorded_text().floats(name + ".shared_expert"),
                           gate = recorded_text().floats(name + ".shared_expert_gate");
        std::vector<float> routed = recorded_text().floats(name + ".experts"), expected = recorded_text().floats(name);
        std::vector<float> gated = run_rows(cpu::sigmoid_gate_entry, SigmoidGateParams{0},
                                            {tensor_of(shared, {70, 256}), tensor_of(gate, {70, 1})}, {70, 256});
        const std::vector<float> sum = run_rows(cpu::add_entry, AddParams{},
                                                {tensor_of(routed, {70, 256}), tensor_of(gated, {70, 256})}, {70, 256});
        int wrong = 0;
        for (size_t i = 0; i < sum.size(); i++)
            wrong += std::fabs(sum[i] - expected[i]) > 3e-7 * double(std::fabs(routed[i]) + std::fabs(gated[i]));
        CHECK(wrong == 0);
    }
}
