// What single checks say about damage that loaders are known to meet; the expectations follow what vLLM 0.33 did with
// such files.
#include "verify/damage.h"
#include "verify/faults.h"
#include "verify_fixture.h"

using namespace gnv;
using namespace gnv::test;
using namespace gnv::verify;

namespace {

// llm-compressor's output, damaged by `change`, seen without its source.
VerifyReport damaged(const std::function<void(Damage &)> & change, const std::string & source = "") {
    static Findings findings;
    static const Subject subject = read_subject(open_folder(reference_pair().quantized).take(), findings).take();
    Damage damage(subject, best_instruction_set());
    change(damage);
    return examine(damage.finish().take(), source);
}

// Changes config.json as a tree of nlohmann's; the damage has it when this ends.
class ConfigEdit {
  public:
    explicit ConfigEdit(Damage & damage) : damage_(damage), json_(Json::parse(damage.config().dump())) {}
    ~ConfigEdit() { damage_.config() = JsonTree::copy(JsonDocument::parse(json_.dump(), "config.json").take().root()); }
    ConfigEdit(const ConfigEdit &) = delete;
    ConfigEdit & operator=(const ConfigEdit &) = delete;
    Json & operator[](const char * key) { return json_[key]; }

  private:
    Damage & damage_;
    Json json_;
};

VerifyReport with_config(const std::function<void(Json &)> & change) {
    return damaged([&](Damage & damage) { change(ConfigEdit(damage)["quantization_config"]); });
}

const Module & module_named(const Subject & subject, const std::string & name) {
    for (const Module & module : subject.modules)
        if (module.name == name) return module;
    check_failed(__FILE__, __LINE__, name.c_str());
}

int64_t tensor_named(const Damage & damage, const std::string & name) {
    const int64_t tensor = damage.subject().checkpoint->find(name);
    GNV_CHECK(tensor >= 0);
    return tensor;
}

bool mentions(const VerifyReport & report, const std::string & text) {
    for (const Finding & finding : report.findings.all())
        if ((finding.subject + ": " + finding.what).find(text) != std::string::npos) return true;
    return false;
}

const std::string layers = "model.language_model.layers.";

} // namespace

// --- Names and declarations -----------------------------------------------------------------------------------------------

TEST_CASE("patterns in place of the list of names") {
    const auto patterns = [](const Json & ignore) {
        return with_config([&](Json & config) { config["ignore"] = ignore; });
    };
    const Json good = {
        "re:.*lm_head", "re:.*visual.*", "re:.*linear_attn.*", "re:.*mlp\\.gate$", "re:.*shared_expert_gate$",
        "re:.*mtp.*"};
    CHECK(failed_checks(patterns(good)) == "");

    // Anchored at the start: holds in one name space and not in the other.
    Json engine_names = good, checkpoint_names = good;
    engine_names[1] = "re:visual.*";
    checkpoint_names[1] = "re:model.visual.*";
    CHECK(failed_checks(patterns(engine_names)) == "L3");
    const VerifyReport report = patterns(checkpoint_names);
    CHECK(failed_checks(report) == "L3");
    CHECK(mentions(report, "in the names of vLLM, SGLang"));

    Json fc_only = good;
    fc_only[5] = "mtp.fc";
    CHECK(failed_checks(patterns(fc_only)) == "L11");
    Json bare = good; // what the recipe's list comes to: vLLM builds these modules plain all the same
    bare.erase(4), bare.erase(3), bare.erase(0);
    const VerifyReport lenient = patterns(bare);
    CHECK(failed_checks(lenient) == "L3");
    CHECK(lenient.errors() == 0);
    CHECK(lenient.warnings() == 8 + 8 + 1);
    CHECK(patterns(Json::array()).errors() > 0);
}

TEST_CASE("an ignored module that is quantized: any module stops loaders, an expert after the first does not") {
    const auto ignore = [](const std::string & name) {
        return with_config([&](Json & config) { config["ignore"].push_back(name); });
    };
    CHECK(ignore(layers + "3.self_attn.o_proj").errors() == 1);
    CHECK(ignore(layers + "3.mlp.experts.0.down_proj").errors() == 1);
    const VerifyReport expert = ignore(layers + "3.mlp.experts.5.down_proj");
    CHECK(expert.errors() == 0);
    CHECK(expert.warnings() == 1);
}

TEST_CASE("one scheme for whatever loaders fuse") {
    // gate_proj of every shared expert under a group of its own, weight-only; its input scales are gone.
    const VerifyReport report = damaged([](Damage & damage) {
        ConfigEdit edit(damage);
        Json & config = edit["quantization_config"];
        Json group = config["config_groups"]["group_0"];
        group["targets"] = {"re:.*shared_expert\\.gate_proj$"};
        group["input_activations"] = nullptr;
        config["config_groups"]["group_1"] = group;
        config["format"] = "mixed-precision";
        for (int layer = 0; layer < 8; layer++)
            damage.remove(
                tensor_named(damage, concat(layers, layer, ".mlp.shared_expert.gate_proj.input_global_scale")));
    });
    CHECK(failed_checks(report) == "L4");
    CHECK(report.errors() == 8);

    // The same for down_proj, which stands alone: a good mixed-precision checkpoint.
    const VerifyReport alone = damaged([](Damage & damage) {
        ConfigEdit edit(damage);
        Json & config = edit["quantization_config"];
        Json group = config["config_groups"]["group_0"];
        group["targets"] = {"re:.*shared_expert\\.down_proj$"};
        group["input_activations"] = nullptr;
        config["config_groups"]["group_1"] = group;
        config["format"] = "mixed-precision";
        for (int layer = 0; layer < 8; layer++)
            damage.remove(
                tensor_named(damage, concat(layers, layer, ".mlp.shared_expert.down_proj.input_global_scale")));
    });
    CHECK(failed_checks(alone) == "");
}

TEST_CASE("FP8 modules of a mixed-precision checkpoint") {
    const std::string name = layers + "3.self_attn.o_proj";
    const auto make = [&](bool with_scale) {
        return damaged([&](Damage & damage) {
            const Module & module = module_named(damage.subject(), name);
            const int64_t codes = module.tensor(Component::codes);
            for (const int64_t tensor : module.tensors)
                if (tensor >= 0) damage.remove(tensor);
            damage.add(codes, name + ".weight", DType::f8_e4m3, {module.rows, module.columns},
                       std::string(size_t(module.rows * module.columns), '\x30'));
            if (with_scale) damage.add(codes, name + ".weight_scale", DType::f32, {1}, std::string("\0\0\x80\x3f", 4));
            ConfigEdit edit(damage);
            Json & config = edit["quantization_config"];
            config["format"] = "mixed-precision";
            config["config_groups"]["group_1"] = {
                {"format", "float-quantized"},
                {"targets", {"re:.*layers\\.3\\.self_attn\\.o_proj"}},
                {"weights",
                 {{"num_bits", 8}, {"type", "float"}, {"strategy", "tensor"}, {"symmetric", true}, {"dynamic", false}}},
                {"input_activations", nullptr}};
        });
    };
    const VerifyReport good = make(true);
    CHECK(failed_checks(good) == "");
    CHECK(good.not_checked[1] == "what the model answers: no forward pass was run");
    CHECK(failed_checks(make(false)) == "L2");
}

TEST_CASE("ModelOpt's names and config are recognised") {
    const VerifyReport config = with_config([](Json & quantization) { quantization["quant_method"] = "modelopt"; });
    CHECK(failed_checks(config) == "L10 L15");
    const VerifyReport file = damaged([](Damage & damage) { damage.files().put("hf_quant_config.json", "{}"); });
    CHECK(failed_checks(file) == "L15");
    const VerifyReport names = damaged([](Damage & damage) {
        for (const Module & module : damage.subject().modules)
            if (module.is_nvfp4())
                damage.rename(module.tensor(Component::weight_global_scale), module.name + ".weight_scale_2");
    });
    CHECK(names.findings.has("L15"));
    CHECK(mentions(names, "(800 of them)"));
}

// --- Experts ----------------------------------------------------------------------------------------------------------------

TEST_CASE("experts that are too many, in one tensor, or misnamed") {
    const std::string experts = layers + "0.mlp.experts.";
    const VerifyReport surplus = damaged([&](Damage & damage) {
        damage.add(0, experts + "32.up_proj.weight_global_scale", DType::f32, {1}, std::string(4, '\1'));
    });
    CHECK(failed_checks(surplus) == "L5");
    CHECK(surplus.errors() == 0); // loaders skip it

    const VerifyReport fused = damaged([&](Damage & damage) {
        for (const Module & module : damage.subject().modules)
            if (module.layer == 0 && module.expert >= 0 && module.part == Part::text)
                for (const int64_t tensor : module.tensors)
                    if (tensor >= 0) damage.remove(tensor);
        damage.add(0, experts + "gate_up_proj", DType::bf16, {32, 128, 256}, std::string(32 * 128 * 256 * 2, '\0'));
        damage.add(0, experts + "down_proj", DType::bf16, {32, 256, 64}, std::string(32 * 256 * 64 * 2, '\0'));
    });
    CHECK(failed_checks(fused) == "L5");
    CHECK(fused.errors() == 3); // none of the projections, two tensors of another form
    CHECK(mentions(fused, "holds all experts in one tensor"));
}

// --- Parts ------------------------------------------------------------------------------------------------------------------

TEST_CASE("a draft head that was dropped: a warning alone, an error beside a source that has one") {
    const auto drop = [](Damage & damage) {
        for (const TensorInfo & info : damage.subject().checkpoint->tensors())
            if (starts_with(info.name, "mtp.")) damage.remove(damage.subject().checkpoint->find(info.name));
    };
    const VerifyReport alone = damaged(drop);
    CHECK(failed_checks(alone) == "L11");
    CHECK(alone.errors() == 0);
    const VerifyReport compared = damaged(drop, tiny);
    CHECK(failed_checks(compared) == "L11");
    CHECK(compared.errors() == 1);
}

TEST_CASE("a draft head in NVFP4 that is declared otherwise, or of which too much is packed") {
    static Findings findings;
    static const Subject subject = read_subject(open_folder(draft_pair().quantized).take(), findings).take();
    const auto examine_with = [&](const std::function<void(Damage &)> & change) {
        Damage damage(subject, best_instruction_set());
        change(damage);
        return examine(damage.finish().take(), "");
    };
    // The whole head on the ignore list, as before it was quantized: by a pattern, and by names, which reach no engine.
    const auto ignored = [&](const Json & more) {
        return examine_with([&](Damage & damage) {
            ConfigEdit edit(damage);
            for (const Json & entry : more) edit["quantization_config"]["ignore"].push_back(entry);
        });
    };
    CHECK(failed_checks(ignored({"re:.*mtp.*"})) == "L11");
    CHECK(ignored({"re:.*mtp.*"}).errors() == 103);
    CHECK(failed_checks(ignored({"mtp.layers.0.self_attn.q_proj"})) == "L4 L11");
    // A group of W4A4 finds no input scales.
    const VerifyReport w4a4 = examine_with([](Damage & damage) {
        ConfigEdit edit(damage);
        Json & groups = edit["quantization_config"]["config_groups"];
        Json group = groups["group_0"], inputs = group["weights"];
        inputs["dynamic"] = "local";
        group["targets"] = {"re:.*mtp.*"};
        group["input_activations"] = inputs;
        groups["group_1"] = group;
    });
    CHECK(failed_checks(w4a4) == "L2");
    CHECK(w4a4.errors() == 103);

    const auto packed = [&](const std::string & name, int64_t rows, int64_t columns, size_t entry) {
        return examine_with([&](Damage & damage) {
            const int64_t weight = subject.checkpoint->find(name + ".weight");
            GNV_CHECK(weight >= 0);
            const float one = 1;
            damage.add(weight, name + ".weight_packed", DType::u8, {rows, columns / 2},
                       std::string(size_t(rows * columns / 2), '\x22'));
            damage.add(weight, name + ".weight_scale", DType::f8_e4m3, {rows, columns / 16},
                       std::string(size_t(rows * columns / 16), '\x38'));
            damage.add(weight, name + ".weight_global_scale", DType::f32, {1},
                       std::string(reinterpret_cast<const char *>(&one), sizeof one));
            damage.remove(weight);
            ConfigEdit edit(damage);
            Json & ignore = edit["quantization_config"]["ignore"];
            ignore.erase(ignore.size() - entry);
        });
    };
    const VerifyReport fc = packed("mtp.fc", 256, 512, 3);
    CHECK(failed_checks(fc) == "L11");
    CHECK(fc.errors() == 0);
    CHECK(mentions(fc, "mtp.fc: is stored as NVFP4"));
    const VerifyReport router = packed("mtp.layers.0.mlp.gate", 32, 256, 2);
    CHECK(router.findings.has("L11"));
    CHECK(router.errors() == 1);
}

TEST_CASE("a draft head with experts in both forms") {
    const VerifyReport report = damaged([](Damage & damage) {
        damage.add(0, "mtp.layers.0.mlp.experts.0.down_proj.weight", DType::bf16, {256, 64},
                   std::string(256 * 64 * 2, '\0'));
    });
    CHECK(failed_checks(report) == "L11");
    CHECK(mentions(report, "holds its experts twice"));
}

TEST_CASE("a config that cuts layers off leaves tensors of the source uncalled for") {
    const VerifyReport report = damaged(
        [](Damage & damage) {
            ConfigEdit edit(damage);
            Json & text = edit["text_config"];
            text["num_hidden_layers"] = 7;
            text["layer_types"].erase(7);
        },
        tiny);
    CHECK(report.findings.has("S1"));
    CHECK(report.findings.has("S4"));
    CHECK(report.findings.has("L2")); // the tensors of layer 7 are unknown
}

// --- Values -----------------------------------------------------------------------------------------------------------------

TEST_CASE("a module that NVFP4 cannot hold is a warning, not an error") {
    // Blocks far below the largest: all of them round to zero, as the format demands, and with them the energy.
    Findings findings;
    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors = load_tensors(tiny);
    std::string & data = find_tensor(tensors, layers + "3.self_attn.o_proj.weight").data;
    for (size_t i = 0; i < data.size(); i += 2) {
        const uint16_t bits = nvfp4::bf16_from_float(i == 0 ? 1.0f : i % 64 ? 0.0f : 3e-6f);
        memcpy(&data[i], &bits, sizeof bits);
    }
    CheckpointPair pair;
    pair.source = pair.scratch / "source";
    CHECK(make_directory(pair.source).ok());
    save_tensors(pair.source, tensors, 1);
    copy_other_files(tiny, pair.source);
    quantize_source(pair);
    CHECK(failed_checks(examine(pair.quantized, pair.source)) == ""); // one value holds nearly all the energy
}

TEST_CASE("other methods than round-to-nearest pass, wrong codes do not") {
    // Every tenth code moved to a neighbour, as methods do that weigh errors by their effect.
    const auto move_codes = [](size_t every) {
        return [every](Damage & damage) {
            for (const Module & module : damage.subject().modules) {
                if (!module.is_nvfp4()) continue;
                std::string codes = damage.read(module.tensor(Component::codes)).value();
                for (size_t i = 0; i < codes.size(); i += every) codes[i] ^= 1;
                damage.write(module.tensor(Component::codes), codes);
            }
        };
    };
    const VerifyReport moved = damaged(move_codes(10), tiny);
    CHECK(failed_checks(moved) == "");
    const VerifyReport wrong = damaged(move_codes(1), tiny);
    CHECK(failed_checks(wrong) == "S2");
}

// --- Files ------------------------------------------------------------------------------------------------------------------

TEST_CASE("files beside the weights") {
    const auto with_file = [](const char * name, const std::string & content) {
        return damaged([&](Damage & damage) { damage.files().put(name, content); }, tiny);
    };
    const auto file = [](const char * name) { return read_file(join_path(tiny, name), 1 << 24).value(); };
    // The same meaning, written differently
    CHECK(with_file("generation_config.json", Json::parse(file("generation_config.json")).dump()).errors() == 0);
    CHECK(failed_checks(with_file("generation_config.json", Json::parse(file("generation_config.json")).dump())) == "");
    CHECK(failed_checks(with_file("generation_config.json", "{\"eos_token_id\": 1}")) == "L14");
    CHECK(with_file("chat_template.jinja", "{{ messages }}").warnings() == 1);
    CHECK(with_file("chat_template.jinja", "{% for x in %}").errors() == 1);
    CHECK(failed_checks(with_file("chat_template.jinja", "{% for x in %}")) == "L14");
    CHECK(with_file("chat_template.jinja", "{{ messages }}{% macro").errors() == 1);
    // What calibration with older releases leaves in the tokenizer
    Json tokenizer = Json::parse(file("tokenizer.json"));
    tokenizer["truncation"] = {{"max_length", 2048}};
    const VerifyReport traces = with_file("tokenizer.json", tokenizer.dump());
    CHECK(traces.errors() == 0);
    CHECK(traces.warnings() == 1);
    // Newer tools write one file in place of two
    const VerifyReport replaced = damaged(
        [&](Damage & damage) {
            damage.files().remove("preprocessor_config.json");
            damage.files().put("processor_config.json", "{}");
        },
        tiny);
    CHECK(failed_checks(replaced) == "");
    CHECK(damaged([](Damage & damage) { damage.files().remove("generation_config.json"); }, tiny).errors() == 1);
}

TEST_CASE("folders that are no checkpoint, and sources that cannot serve") {
    const ScratchFolder empty;
    CHECK(verify::verify(open_folder(empty.path()).take(), nullptr, two_threads(), {}).status().code() ==
          Code::not_found);
    const Status quantized = verify::verify(open_folder(reference_pair().quantized).take(),
                                            open_folder(reference_pair().quantized).take(), two_threads(), {})
                                 .take_status();
    CHECK(quantized.code() == Code::unsupported);
    CHECK(quantized.message().find("source: ") == 0);
}

TEST_CASE("a wrong checkpoint is reported in bounded length") {
    const VerifyReport report = damaged([](Damage & damage) {
        for (const Module & module : damage.subject().modules)
            if (module.is_nvfp4())
                for (const Component component : {Component::block_scales, Component::input_global_scale})
                    damage.remove(module.tensor(component));
    });
    CHECK(report.findings.count("L2", Severity::error) == 1600);
    CHECK(std::count_if(report.findings.all().begin(), report.findings.all().end(), [](const Finding & finding) {
              return finding.check == "L2";
          }) == int64_t(Findings::kept_per_check));
    CHECK(report_text(report).find("... and 1,590 more") != std::string::npos);
    CHECK(report_text(report).size() < 20'000);
}
