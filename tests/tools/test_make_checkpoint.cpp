#include "core/sha256.h"
#include "models/model_fixture.h"
#include "tools/synthetic_checkpoint.h"
#include "tools/synthetic_values.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <map>

using namespace gnv;
using namespace gnv::test;

namespace {

// The small model, smaller.
Json small_config() {
    Json config = read_data("qwen36-tiny");
    config["text_config"]["vocab_size"] = 1000;
    config["text_config"]["num_experts"] = 20;
    return config;
}

struct Made {
    std::unique_ptr<ScratchFolder> scratch;
    Checkpoint checkpoint;
    ModelLayout layout;
    FolderFiles files;

    std::vector<uint16_t> values(const TensorInfo & tensor) const {
        std::vector<uint16_t> out(tensor.bytes / 2);
        REQUIRE(files[tensor.shard]->read(out.data(), tensor.bytes, tensor.offset).ok());
        return out;
    }
    std::vector<uint16_t> values(const std::string & name) const {
        const int64_t found = checkpoint.find(name);
        REQUIRE(found >= 0);
        return values(checkpoint.tensors()[size_t(found)]);
    }
    std::vector<uint16_t> values(const LinearModule & module) const {
        const std::vector<uint16_t> all = values(checkpoint.tensors()[module.source]);
        const auto begin = all.begin() + int64_t(module.offset / 2);
        return {begin, begin + module.rows * module.columns};
    }
};

Made make(const SyntheticOptions & options, const Json & config = small_config()) {
    auto scratch = std::make_unique<ScratchFolder>();
    const std::string folder = *scratch / "checkpoint";
    const Result<SyntheticResult> result = write_synthetic_checkpoint(config.dump(), folder, options);
    REQUIRE_MESSAGE(result.ok(), result.status().message());
    Checkpoint checkpoint = Checkpoint::open(folder).take();
    CHECK(checkpoint.tensors().size() == result.value().tensors);
    CHECK(checkpoint.tensor_bytes() == result.value().bytes);
    CHECK(checkpoint.shards().size() == result.value().shards);
    const JsonDocument parsed = JsonDocument::read(join_path(folder, "config.json"), 1 << 20).take();
    ModelLayout layout = match_model(parsed.root(), checkpoint).take();
    FolderFiles files = checkpoint.open_shards().take();
    return {std::move(scratch), std::move(checkpoint), std::move(layout), std::move(files)};
}

double bf16(uint16_t bits) {
    const uint32_t wide = uint32_t(bits) << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return double(value);
}

struct Moments {
    double mean = 0, deviation = 0;
};

Moments moments(const std::vector<uint16_t> & values) {
    double sum = 0, squares = 0;
    for (const uint16_t bits : values) sum += bf16(bits), squares += bf16(bits) * bf16(bits);
    const double count = double(values.size()), mean = sum / count;
    return {mean, std::sqrt(squares / count - mean * mean)};
}

} // namespace

TEST_CASE("threads and files do not change a value, the seed does") {
    SyntheticOptions options;
    const auto one = make(options);
    options.threads = 3;
    options.shards = 4;
    const auto many = make(options);
    CHECK(one.checkpoint.shards().size() == 1);
    CHECK_FALSE(one.checkpoint.has_index());
    CHECK(many.checkpoint.shards().size() == 4);
    CHECK(many.checkpoint.has_index());
    for (const TensorInfo & tensor : one.checkpoint.tensors()) CHECK(one.values(tensor) == many.values(tensor.name));
    options.seed = 1;
    const auto other = make(options);
    for (const TensorInfo & tensor : one.checkpoint.tensors()) CHECK(one.values(tensor) != other.values(tensor.name));
}

TEST_CASE("both layouts and both prefixes hold the same model") {
    SyntheticOptions options;
    const auto fused = make(options);
    options.layout.fused_experts = false;
    options.layout.fused_mtp_experts = false;
    options.layout.nested_prefix = false;
    const auto single = make(options);
    CHECK(fused.checkpoint.tensor_bytes() == single.checkpoint.tensor_bytes());
    REQUIRE(fused.layout.modules.size() == single.layout.modules.size());
    for (size_t i = 0; i < fused.layout.modules.size(); i++) {
        CAPTURE(fused.layout.modules[i].name);
        CHECK(fused.values(fused.layout.modules[i]) == single.values(single.layout.modules[i]));
    }
    CHECK(fused.values("model.language_model.layers.2.linear_attn.A_log") ==
          single.values("model.layers.2.linear_attn.A_log"));
}

// Recorded from a second implementation, in Python with its own normal quantiles.
TEST_CASE("values are the same everywhere") {
    const ValueMaker maker;
    std::vector<uint16_t> values(64 * 300);
    Spread spread;
    spread.outlier_columns = spread.skewed_rows = true;
    maker.fill(value_key(7, "layers.0.mlp.gate.weight"), spread, 300, 0, 64, values.data());
    CHECK(sha256_hex(values.data(), values.size() * 2) ==
          "81cdf6e8940eeb0a8044aa622db3f8936e5a4aeef78a5152de4f31d179e72267");
    // In pieces that begin anywhere.
    std::vector<uint16_t> pieces(values.size());
    for (int64_t row = 0; row < 64; row += 3)
        maker.fill(value_key(7, "layers.0.mlp.gate.weight"), spread, 300, row, std::min<int64_t>(3, 64 - row),
                   pieces.data() + row * 300);
    CHECK(pieces == values);
}

TEST_CASE("values are spread as in a trained model") {
    const auto made = make({});
    const std::string layer = "model.language_model.layers.0.";
    for (const TensorInfo & tensor : made.checkpoint.tensors())
        for (const uint16_t bits : made.values(tensor))
            if ((bits & 0x7f80) == 0x7f80) FAIL(tensor.name); // infinite or not a number
    const Moments norm = moments(made.values(layer + "input_layernorm.weight"));
    CHECK(std::abs(norm.mean) < 0.03);
    CHECK(norm.deviation == doctest::Approx(0.1).epsilon(0.15));
    CHECK(moments(made.values(layer + "linear_attn.norm.weight")).mean == doctest::Approx(1).epsilon(0.1));
    CHECK(moments(made.values("model.visual.blocks.0.norm1.weight")).mean == doctest::Approx(1).epsilon(0.02));
    const Moments head = moments(made.values("lm_head.weight"));
    CHECK(std::abs(head.mean) < 0.001);
    CHECK(head.deviation > 0.75 / 16);
    CHECK(head.deviation < 1.25 / 16);
    for (const uint16_t bits : made.values(layer + "linear_attn.A_log")) {
        CHECK(bf16(bits) >= 0);
        CHECK(bf16(bits) < std::log(17.0));
    }

    // Columns that stand out, and experts whose largest values differ.
    std::map<double, int> largest;
    for (const LinearModule & module : made.layout.modules) {
        if (module.role != Role::expert_gate) continue;
        double amax = 0;
        for (const uint16_t bits : made.values(module)) amax = std::max(amax, std::abs(bf16(bits)));
        largest[amax]++;
    }
    CHECK(largest.size() > 9 * 20 / 2);
    std::vector<double> columns(256);
    const std::vector<uint16_t> query = made.values("model.language_model.layers.3.self_attn.q_proj.weight");
    for (size_t i = 0; i < query.size(); i++) columns[i % 256] += bf16(query[i]) * bf16(query[i]);
    std::sort(columns.begin(), columns.end());
    CHECK(columns[255] > 8 * columns[128]);

    // A router with experts that nothing chooses.
    int idle = 0, rows = 0;
    for (int l = 0; l < 8; l++) {
        const std::vector<uint16_t> router = made.values(concat("model.language_model.layers.", l, ".mlp.gate.weight"));
        for (size_t row = 0; row < 20; row++, rows++)
            idle += moments({router.begin() + int64_t(row) * 256, router.begin() + int64_t(row + 1) * 256}).deviation <
                    0.005;
    }
    CHECK(idle > 0);
    CHECK(idle < rows / 4);
}

TEST_CASE("headers only: the 35B model takes no space") {
    SyntheticOptions options;
    options.headers_only = true;
    options.shards = 26;
    options.layout.fused_experts = false;
    const auto made = make(options, read_data("qwen36-35b-a3b"));
    CHECK(made.checkpoint.tensor_bytes() == 71'903'645'408);
    CHECK(made.checkpoint.shards().size() == 26);
    CHECK(made.values("model.language_model.norm.weight") == std::vector<uint16_t>(2048, 0));
}

TEST_CASE("what cannot be made") {
    const ScratchFolder scratch;
    const std::string config = small_config().dump();
    CHECK(write_synthetic_checkpoint("{", scratch / "a", {}).status().code() == Code::format);
    CHECK_FALSE(path_exists(scratch / "a"));
    CHECK_FALSE(write_synthetic_checkpoint(config, scratch.path(), {}).ok()); // exists
    SyntheticOptions none;
    none.shards = 0;
    CHECK(write_synthetic_checkpoint(config, scratch / "b", none).status().code() == Code::invalid_argument);
}
