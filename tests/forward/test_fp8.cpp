// Linears in FP8 with scales, as checkpoints of mixed precision hold them, against the same numbers as F32.
#include "checkpoint_files.h"
#include "forward/forward_fixture.h"
#include "scratch.h"

#include <cstring>
#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

// E4M3 by its definition: a sign, four bits of exponent with bias 7, three bits of mantissa.
float value_of(uint8_t code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const float magnitude = exponent ? std::ldexp(float(8 + mantissa), exponent - 10) : std::ldexp(float(mantissa), -9);
    return code & 0x80 ? -magnitude : magnitude;
}

enum class Scales { tensor, scalar, channel, channel_bf16, block };

struct Pair {
    MemoryTensor codes, scales, numbers; // numbers: what both stand for
};

Pair make_pair(const MemoryTensor & original, Scales kind) {
    const int64_t rows = original.shape[0], columns = original.shape[1];
    constexpr int64_t block = 128;
    const int64_t block_columns = (columns + block - 1) / block;
    Pair pair;
    pair.codes = {original.name, DType::f8_e4m3, original.shape, ""};
    pair.numbers = {original.name, DType::f32, original.shape, ""};
    pair.scales = {original.name + "_scale", kind == Scales::channel_bf16 ? DType::bf16 : DType::f32, {1}, ""};
    int64_t count = 1;
    if (kind == Scales::scalar) pair.scales.shape = {};
    if (kind == Scales::channel || kind == Scales::channel_bf16) pair.scales.shape = {rows, 1}, count = rows;
    if (kind == Scales::block) {
        pair.scales.shape = {(rows + block - 1) / block, block_columns};
        count = pair.scales.shape[0] * block_columns;
    }
    std::vector<float> scales;
    for (int64_t i = 0; i < count; i++) {
        // Powers of two and a half: exact in BF16, products are exact in F32.
        const float scale = std::ldexp(i % 2 ? 1.5f : 1.0f, -12 + int(i % 3));
        uint32_t bits;
        memcpy(&bits, &scale, 4);
        bits >>= pair.scales.dtype == DType::bf16 ? 16 : 0;
        pair.scales.data.append(reinterpret_cast<const char *>(&bits), pair.scales.dtype == DType::bf16 ? 2 : 4);
        scales.push_back(scale);
    }
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++) {
            const uint64_t mixed = uint64_t(row * columns + column) * 0x9e3779b97f4a7c15u;
            const uint8_t code = uint8_t(mixed >> 56) & 0xf7; // no NaN
            const int64_t scale = kind == Scales::block ? row / block * block_columns + column / block
                                  : scales.size() == 1  ? 0
                                                        : row;
            const float number = value_of(code) * scales[size_t(scale)];
            pair.codes.data += char(code);
            pair.numbers.data.append(reinterpret_cast<const char *>(&number), 4);
        }
    return pair;
}

// The small checkpoint with other tensors in place of some.
void save_model(const ScratchFolder & folder, const std::vector<MemoryTensor> & tensors) {
    folder.save("config.json", read_file(join_path(tiny_folder, "config.json"), 1 << 20).value());
    save_tensors(folder.path(), tensors, 1);
}

std::vector<float> logits_of(const OpenModel & model) {
    const auto threads = ThreadPool::create(2).take();
    const auto device = open_cpu(*threads);
    const auto session = TextSession::create(model.variant(Precision::f32), *device, *threads, {1, 64}).take();
    TextSequence sequence;
    for (int32_t id = 0; id < 20; id++) sequence.ids.push_back(100 + 7 * id);
    return session->run(sequence, {true, {}}).take();
}

const std::string layers = "model.language_model.layers.";

} // namespace

TEST_CASE("FP8 Linears compute with code times scale, bit for bit") {
    const std::pair<const char *, Scales> linears[] = {{"3.self_attn.o_proj", Scales::tensor},
                                                       {"3.self_attn.q_proj", Scales::channel},
                                                       {"0.linear_attn.out_proj", Scales::block},
                                                       {"0.linear_attn.in_proj_qkv", Scales::channel_bf16},
                                                       {"1.mlp.shared_expert.down_proj", Scales::scalar}};
    std::vector<MemoryTensor> coded, plain;
    size_t replaced = 0;
    for (const MemoryTensor & tensor : load_tensors(tiny_folder)) {
        const auto found = std::find_if(std::begin(linears), std::end(linears), [&](const auto & linear) {
            return tensor.name == layers + linear.first + ".weight";
        });
        if (found == std::end(linears)) {
            coded.push_back(tensor);
            plain.push_back(tensor);
            continue;
        }
        Pair pair = make_pair(tensor, found->second);
        coded.push_back(std::move(pair.codes));
        coded.push_back(std::move(pair.scales));
        plain.push_back(std::move(pair.numbers));
        replaced++;
    }
    REQUIRE(replaced == std::size(linears));
    const ScratchFolder with_codes, with_numbers;
    save_model(with_codes, coded);
    save_model(with_numbers, plain);
    const auto model = open_model(with_codes.path());
    CHECK(model->layout.notes.empty());
    const std::vector<float> found = logits_of(*model), expected = logits_of(*open_model(with_numbers.path()));
    REQUIRE(found.size() == expected.size());
    CHECK(memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
}

TEST_CASE("FP8 Linears that lack their scales are refused by name") {
    const std::string name = layers + "3.self_attn.o_proj.weight";
    const auto failure = [&](const std::function<void(Pair &, std::vector<MemoryTensor> &)> & change) {
        std::vector<MemoryTensor> tensors = load_tensors(tiny_folder);
        for (MemoryTensor & tensor : tensors)
            if (tensor.name == name) {
                Pair pair = make_pair(tensor, Scales::channel);
                tensor = pair.codes;
                change(pair, tensors);
                break;
            }
        const ScratchFolder folder;
        save_model(folder, tensors);
        const auto opened = OpenModel::open(folder.path());
        if (!opened.ok()) return opened.status().message();
        const auto threads = ThreadPool::create(1).take();
        const auto device = open_cpu(*threads);
        return TextSession::create(opened.value()->variant(Precision::f32), *device, *threads, {1, 64})
            .take_status()
            .message();
    };
    CHECK(failure([](Pair &, auto &) {}).find("is in FP8, but has no .weight_scale") != std::string::npos);
    CHECK(failure([](Pair & pair, auto & tensors) {
              pair.scales.shape[0] -= 1;
              pair.scales.data.resize(pair.scales.data.size() - 4);
              pair.scales.shape = {pair.scales.shape[0]};
              tensors.push_back(pair.scales);
          }).find("needs one scale, one a row, or a grid of them") != std::string::npos);
    CHECK(failure([](Pair & pair, auto & tensors) {
              pair.scales.data.assign(pair.scales.data.size(), '\0');
              tensors.push_back(pair.scales);
          }).find("element 0 is 0; scales are numbers above zero") != std::string::npos);
}
