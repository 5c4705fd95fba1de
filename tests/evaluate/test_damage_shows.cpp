// One thing wrong in an otherwise good checkpoint fails its gate, and the figures by layer point to the layer.
#include "evaluate/evaluate_fixture.h"

using namespace gnv;
using namespace gnv::test;
using namespace gnv::evaluate;

namespace {

struct Fixture {
    EvaluationData data = read_data(4, 256);
    Checkpoint checkpoint = Checkpoint::open(untripped_pair().quantized).take();
    FolderFiles files = checkpoint.open_shards().take();
    std::shared_ptr<OverlayFolder> folder =
        std::make_shared<OverlayFolder>(open_folder(untripped_pair().quantized).take());

    std::string bytes(const std::string & name) const {
        const TensorInfo & info = find(name);
        std::string content(info.bytes, '\0');
        REQUIRE(files[info.shard]->read(content.data(), info.bytes, info.offset).ok());
        return content;
    }
    void write(const std::string & name, const std::string & content) {
        const TensorInfo & info = find(name);
        REQUIRE(content.size() == info.bytes);
        REQUIRE(folder->patch(checkpoint.shards()[info.shard].file_name, info.offset, content).ok());
    }
    void scale(const std::string & name, float factor) {
        std::string content = bytes(name);
        float value;
        memcpy(&value, content.data(), sizeof value);
        value *= factor;
        memcpy(content.data(), &value, sizeof value);
        write(name, content);
    }
    const TensorInfo & find(const std::string & name) const {
        const int64_t at = checkpoint.find(name);
        REQUIRE_MESSAGE(at >= 0, name);
        return checkpoint.tensors()[size_t(at)];
    }
    // Of the damaged checkpoint, with gates that the good one passes.
    Evaluation judge() const {
        EvaluateOptions options = w4a4_alone();
        options.gates.max_divergence = good().lines[0].all.divergence.mean * 1.05;
        options.gates.max_room = 32;
        const ScratchFolder scratch;
        REQUIRE(write_file_synced(scratch / "good.json", evaluation_json(good())).ok());
        options.gates.baseline = scratch / "good.json";
        return evaluate_folder(folder, data, options);
    }
    static EvaluateOptions w4a4_alone() {
        EvaluateOptions options;
        options.lines[size_t(Line::w4a16)] = options.lines[size_t(Line::activations)] = false;
        return options;
    }
    const Evaluation & good() const {
        static const Evaluation evaluation = evaluate_reference(data, w4a4_alone());
        return evaluation;
    }
    std::vector<double> added_before() const {
        std::vector<double> added;
        for (const LayerFigures & layer : good().lines[0].layers) added.push_back(layer.added);
        return added;
    }
};

std::string layer_prefix(int layer) { return concat("model.language_model.layers.", layer, "."); }

const GateResult & gate(const Evaluation & evaluation, const std::string & name) {
    for (const GateResult & result : evaluation.gates)
        if (result.gate == name) return result;
    FAIL("no gate " << name);
    return evaluation.gates.front();
}

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("nothing wrong: every gate is passed, and the difference to itself is zero") {
    const Fixture f;
    const Evaluation same = f.judge();
    CHECK(same.gates.size() == 4);
    CHECK(same.failed_gates() == 0);
    CHECK(gate(same, "baseline").value == 0);
    CHECK(gate(same, "baseline-perplexity").value == 1);
}

// Small values get coarser codes: predictions hardly suffer, and what is wrong shows in the scale itself.
TEST_CASE("one input scale x 1/100") {
    Fixture f;
    f.scale(layer_prefix(3) + "self_attn.o_proj.input_global_scale", 0.01f);
    const Evaluation bad = f.judge();
    CHECK_FALSE(gate(bad, "max-room").passed);
    CHECK(has(gate(bad, "max-room").text, "layer 3: the input scale of attention o"));
    EvaluateOptions options = Fixture::w4a4_alone(); // without the gate it is a suspicion
    const Evaluation plain = evaluate_folder(f.folder, f.data, options);
    CHECK(plain.failed_gates() == 0);
    CHECK(gate(plain, "input-scales").flagged);
}

TEST_CASE("one input range x 1/100: the largest values are cut off") {
    Fixture f;
    f.scale(layer_prefix(3) + "self_attn.o_proj.input_global_scale", 100);
    const Evaluation bad = f.judge();
    CHECK_FALSE(gate(bad, "max-kl").passed);
    CHECK_FALSE(gate(bad, "baseline").passed);
    CHECK(has(gate(bad, "baseline").text, "layer 3 adds"));
    CHECK(worst_layer(bad.lines[0].layers, f.added_before()) == 3);
}

TEST_CASE("an expert exchanged with another") {
    Fixture f;
    for (const char * projection : {"gate_proj", "up_proj", "down_proj"})
        for (const char * part : {"weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"}) {
            const std::string experts = layer_prefix(2) + "mlp.experts.", rest = concat(".", projection, ".", part);
            f.write(experts + "9" + rest, f.bytes(experts + "10" + rest));
            f.write(experts + "10" + rest, f.bytes(experts + "9" + rest));
        }
    const Evaluation bad = f.judge();
    CHECK_FALSE(gate(bad, "max-kl").passed);
    CHECK_FALSE(gate(bad, "baseline").passed);
    CHECK(has(gate(bad, "baseline").text, "layer 2 adds"));
    CHECK(worst_layer(bad.lines[0].layers, f.added_before()) == 2);
}

TEST_CASE("one layer's scales doubled") {
    Fixture f;
    for (const TensorInfo & info : f.checkpoint.tensors())
        if (starts_with(info.name, layer_prefix(4)) && ends_with(info.name, ".weight_global_scale"))
            f.scale(info.name, 2);
    const Evaluation bad = f.judge();
    CHECK_FALSE(gate(bad, "max-kl").passed);
    CHECK(has(gate(bad, "max-kl").text, "layer 4 adds"));
    CHECK_FALSE(gate(bad, "baseline").passed);
    CHECK_FALSE(gate(bad, "baseline-perplexity").passed);
    CHECK(worst_layer(bad.lines[0].layers) == 4);
}
