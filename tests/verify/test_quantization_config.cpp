#include "verify/quantization_config.h"

#include "formats/json.h"
#include "verify/loader_names.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::verify;
using Json = nlohmann::ordered_json;

namespace {

const char * const arguments = R"({"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16,
                                   "symmetric": true, "dynamic": false})";

Json group(const std::vector<std::string> & targets, bool inputs = false) {
    Json weights = Json::parse(arguments), activations = weights;
    activations["dynamic"] = "local";
    return {{"targets", targets}, {"weights", weights}, {"input_activations", inputs ? activations : Json(nullptr)}};
}

Json config_of(const Json & groups, const std::vector<std::string> & ignore = {}) {
    return {{"quantization_config",
             {{"quant_method", "compressed-tensors"},
              {"quantization_status", "compressed"},
              {"format", "nvfp4-pack-quantized"},
              {"config_groups", groups},
              {"ignore", ignore}}}};
}

QuantizationConfig read(const Json & config, Findings & findings, size_t space = 0) {
    const JsonDocument document = JsonDocument::parse(config.dump(), "config.json").take();
    return read_quantization_config(document.root(), name_spaces()[space], findings).take();
}

int declared(const QuantizationConfig & config, const std::string & module) {
    uint64_t budget = pattern_budget;
    return config.declared(module, budget).value();
}

// Keys of the findings, "" for none.
std::string problems(const Json & config) {
    Findings findings;
    (void)read(config, findings);
    std::string out;
    for (const Finding & finding : findings.all()) out += (out.empty() ? "" : " ") + finding.subject;
    return out;
}

Json changed(const std::string & pointer, const Json & value) {
    Json config = config_of({{"g", group({"Linear"}, true)}});
    config[Json::json_pointer("/quantization_config" + pointer)] = value;
    return config;
}

} // namespace

TEST_CASE("a config that is absent or no object is told apart") {
    const auto finding = [](const Json & config) {
        Findings findings;
        CHECK_FALSE(read(config, findings).present);
        REQUIRE(findings.all().size() == 1);
        CHECK(findings.all()[0].severity == Severity::error);
        return findings.all()[0].subject + ": " + findings.all()[0].what;
    };
    const std::string absent = "quantization_config: config.json has no quantization_config";
    CHECK(finding(Json::object()) == absent);
    CHECK(finding({{"quantization_config", nullptr}}) == absent);
    CHECK(finding({{"quantization_config", "nvfp4"}}) == "quantization_config: is \"nvfp4\", not an object");
    CHECK(finding({{"quantization_config", Json::array()}}) == "quantization_config: is [], not an object");
}

TEST_CASE("names before patterns before classes; ignore before all") {
    Findings findings;
    const QuantizationConfig config = read(
        config_of({{"a", group({"Linear"})}, {"b", group({"re:.*down_proj$"}, true)}, {"c", group({"m.1.down_proj"})}},
                  {"re:m\\.2", "m.3.up_proj"}),
        findings);
    CHECK(findings.all().empty());
    CHECK(declared(config, "m.0.up_proj") == 0);
    CHECK(declared(config, "m.0.down_proj") == 1);
    CHECK(declared(config, "m.1.down_proj") == 2);
    CHECK(declared(config, "m.2.down_proj") == undeclared);
    CHECK(declared(config, "m.20.x") == undeclared); // patterns end where they like
    CHECK(declared(config, "x.m.2.y") == 0);         // and start at the start
    CHECK(declared(config, "m.3.up_proj") == undeclared);
    CHECK(declared(config, "m.3.up_proj.x") == 0); // a name is all of the name
    CHECK(config.groups[0].declares.format == &formats::nvfp4a16);
    CHECK(config.groups[1].declares.format == &formats::nvfp4);
}

TEST_CASE("plain names follow a loader's prefixes, patterns do not") {
    const Json json = config_of({{"g", group({"Linear"})}},
                                {"model.visual.blocks.0.attn.qkv", "model.language_model.layers.0.mlp.gate", "lm_head",
                                 "re:model\\.visual\\.merger", "mtp.fc"});
    struct Row {
        const char * name;
        bool checkpoint, vllm, sglang; // ignored
    };
    const Row rows[] = {
        {"model.visual.blocks.0.attn.qkv", true, true, true},
        {"model.language_model.layers.0.mlp.gate", true, true, true},
        {"model.visual.merger.linear_fc1", true, false, false},
        {"mtp.fc", true, false, false},
    };
    for (size_t space = 0; space < 3; space++) {
        Findings findings;
        const QuantizationConfig config = read(json, findings, space);
        for (const Row & row : rows) {
            const bool expected[] = {row.checkpoint, row.vllm, row.sglang};
            CAPTURE(row.name);
            CAPTURE(name_spaces()[space].loader);
            CHECK((declared(config, name_spaces()[space].map(row.name)) == undeclared) == expected[space]);
        }
    }
    CHECK(name_spaces()[1].map("model.language_model.layers.3.self_attn.q_proj") ==
          "language_model.model.layers.3.self_attn.q_proj");
    CHECK(name_spaces()[1].map("lm_head.weight") == "language_model.lm_head.weight");
    CHECK(name_spaces()[2].map("model.visual.blocks.0.attn.qkv") == "visual.blocks.0.attn.qkv_proj");
}

TEST_CASE("what loaders need is missed by name") {
    CHECK(problems(config_of({{"g", group({"Linear"}, true)}})) == "");
    CHECK(problems(Json::object()) == "quantization_config");
    CHECK(problems(changed("/quant_method", "fp8")) == "quantization_config.quant_method");
    CHECK(problems(changed("/format", nullptr)) ==
          "quantization_config.format quantization_config.config_groups.g.format");
    CHECK(problems(changed("/quantization_status", "initialized")) == "quantization_config.quantization_status");
    CHECK(problems(changed("/config_groups", Json::object())) == "quantization_config.config_groups");
    CHECK(problems(changed("/config_groups/g/targets", nullptr)) == "quantization_config.config_groups.g.targets");
    CHECK(problems(changed("/config_groups/g/weights", nullptr)) == "quantization_config.config_groups.g.weights");
    CHECK(problems(changed("/config_groups/g/weights/group_size", 32)) ==
          "quantization_config.config_groups.g.weights.group_size");
    CHECK(problems(changed("/config_groups/g/weights/dynamic", true)) ==
          "quantization_config.config_groups.g.weights.dynamic");
    CHECK(problems(changed("/config_groups/g/input_activations/dynamic", false)) ==
          "quantization_config.config_groups.g.input_activations.dynamic");
    CHECK(problems(changed("/format", "mixed-precision")) ==
          "quantization_config.config_groups.g.format quantization_config.config_groups.g.format");
    CHECK(problems(changed("/kv_cache_scheme", {{"num_bits", 8}})) == "quantization_config.kv_cache_scheme");
    CHECK(problems(changed("/ignore", {"re:("})) == "quantization_config.ignore");
    CHECK(problems(changed("/ignore", {7})) == "quantization_config.ignore");
    CHECK(problems(changed("/ignore", "lm_head")) == "quantization_config.ignore");
}

TEST_CASE("prefixes and fused parameters") {
    CHECK(without_prefixes("model.language_model.layers.0.x") == "layers.0.x");
    CHECK(without_prefixes("language_model.model.language_model.layers.0.x") == "layers.0.x");
    CHECK(without_prefixes("model.visual.pos_embed.weight") == "visual.pos_embed.weight");
    CHECK(without_prefixes("lm_head.weight") == "lm_head.weight");
    CHECK(fused_parameter_of(Role::attention_q) == fused_parameter_of(Role::attention_v));
    CHECK(fused_parameter_of(Role::expert_gate) != fused_parameter_of(Role::shared_expert_gate_proj));
    CHECK(fused_parameter_of(Role::expert_down) == -1);
}

TEST_CASE("what patterns cost is bounded, however they are written") {
    const std::string name = "model.language_model.layers.11.mlp.experts.123.gate_proj";
    for (const std::string costly :
         {"re:(((a|.)*)*)*\\d$", "re:(a|.|..)*\\d$", "re:(m|o|d|.)*.*.*.*.*.*\\d$", "re:.*.*.*.*.*.*.*.*\\d$"}) {
        Findings findings;
        const QuantizationConfig config = read(config_of({{"g", group({costly})}}), findings);
        uint64_t budget = pattern_budget;
        const Result<int> group = config.declared(name, budget);
        CAPTURE(budget);
        CHECK_MESSAGE(group.status().code() == Code::unsupported, costly);
        CHECK(group.status().message().find("too many steps") != std::string::npos);
    }
    // One that needs some steps: the budget of a checkpoint is used up, and no more than that.
    Findings findings;
    const QuantizationConfig config = read(config_of({{"g", group({"re:.*.*.*\\d$"})}}), findings);
    uint64_t budget = 1'000'000;
    int done = 0;
    while (config.declared(name, budget).ok()) done++;
    CHECK(done > 100);
    CHECK(done < 20'000);
    // Sane ones cost little.
    std::vector<std::string> many;
    for (int i = 0; i < 100; i++)
        many.push_back("re:.*layers\\." + std::to_string(i) + "\\.mlp\\.experts\\..*up_proj$");
    const QuantizationConfig sane = read(config_of({{"g", group(many)}}), findings);
    budget = 1000;
    CHECK(sane.declared(name, budget).ok());
    CHECK(budget >= 600);
    CHECK(findings.all().empty());
    // What takes long to compile.
    CHECK(problems(config_of({{"g", group({"re:" + std::string(10'000, 'a')})}})) ==
          "quantization_config.config_groups.g.targets");
    std::vector<std::string> large;
    for (int i = 0; i < 900; i++) large.push_back("re:((a{50}){50}){" + std::to_string(i % 5 + 10) + "}");
    CHECK(problems(config_of({{"g", group(large)}})) == "quantization_config.config_groups.g.targets");
}
