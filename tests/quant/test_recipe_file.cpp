// recipe.yaml as input: real ones, the round trip with what a run writes, and refusals by line.
#include "quant/recipe_file.h"

#include "formats/file.h"
#include "formats/yaml.h"
#include "quant/plan_fixture.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

RecipeOptions read_good(const std::string & text) {
    RecipeProblems problems;
    Result<RecipeOptions> read = parse_recipe(text, "recipe.yaml", problems);
    REQUIRE_MESSAGE(read.ok(), read.status().message());
    CHECK(problems.empty());
    return read.take();
}

// The lines of a modifier inside its stage.
std::string modifier(const std::string & name, const std::string & lines) {
    return "default_stage:\n  default_modifiers:\n    " + name + ":\n" + lines;
}

const std::string weights = "{num_bits: 4, type: float, symmetric: true, strategy: tensor_group, group_size: 16}";
const std::string inputs = "{num_bits: 4, type: float, strategy: tensor_group, group_size: 16, dynamic: local, "
                           "observer: static_minmax}";

void check_round_trip(const RecipeOptions & options) {
    const Plan plan = plan_with(options).take();
    const std::string text = recipe_yaml(plan.recipe);
    CAPTURE(text);
    const Plan again = plan_with(read_good(text)).take();
    CHECK(again.plan_fingerprint == plan.plan_fingerprint);
    CHECK(again.config_text == plan.config_text);
    CHECK(recipe_yaml(again.recipe) == text);
    REQUIRE(again.recipe.rules().size() == plan.recipe.rules().size());
    for (int rule = no_target; rule < int(plan.recipe.rules().size()); rule++)
        CHECK(again.recipe.describe_rule(rule) == plan.recipe.describe_rule(rule));
    CHECK(again.selection.rule == plan.selection.rule);
    CHECK(again.options.recipe.preset == plan.options.recipe.preset);
    CHECK(again.quantizer().name() == std::string(plan.quantizer().name()));
    CHECK(again.options.recipe.headroom == plan.options.recipe.headroom);
    if (options.file.empty()) CHECK(again.notes == plan.notes);
}

} // namespace

TEST_CASE("the recipe.yaml that llm-compressor wrote gives the default rules, and its own bytes again") {
    RecipeProblems problems;
    const RecipeOptions options = read_recipe(GNV_TEST_DATA "/golden/recipe.yaml", problems).take();
    const Plan plan = plan_with(options).take(), usual = plan_with({}).take();
    CHECK(plan.plan_fingerprint == usual.plan_fingerprint);
    CHECK(options.preset == Preset::recipe);
    CHECK(options.notes.empty());
    CHECK(recipe_yaml(plan.recipe) == read_file(GNV_TEST_DATA "/golden/recipe.yaml", 1 << 20).value());
}

TEST_CASE("the recipe.yaml of a run gives its plan") {
    RecipeOptions options;
    check_round_trip(options);
    options.scheme = &formats::nvfp4a16;
    options.preset = Preset::experts_only;
    options.ignore = {".*layers\\.2\\..*", "re:.*layers\\.5\\..*"};
    options.quantizer = &least_squares();
    options.headroom = 3.3f;
    check_round_trip(options);
    options = {};
    options.keep = {".*layers\\.[03]\\.mlp\\..*"};
    options.include = {".*linear_attn\\.in_proj_(qkv|z)$", "re:.*linear_attn.out_proj"};
    options.quantizer = &gptq();
    options.headroom = default_headroom;
    check_round_trip(options);
    // A recipe that is none of this program's comes back in its own form.
    check_round_trip(
        read_good(modifier("QuantizationModifier", "      targets: ['re:.*experts.*', 're:.*self_attn.*']\n"
                                                   "      ignore: [lm_head, 're:.*gate$']\n"
                                                   "      scheme: NVFP4A16\n")));
    check_round_trip(read_good(modifier("QuantizationModifier",
                                        "      ignore: [lm_head, 're:.*gate$', 're:.*visual.*', 're:.*linear_attn.*']\n"
                                        "      config_groups:\n"
                                        "        a: {targets: ['re:.*self_attn.*'], weights: " +
                                            weights +
                                            "}\n"
                                            "        b: {targets: [Linear], weights: " +
                                            weights + ", input_activations: " + inputs + "}\n")));
}

TEST_CASE("targets: names before expressions before the class, the rest stays") {
    const std::string ignore = "      ignore: ['re:.*gate$', 're:.*visual.*', lm_head, 're:.*linear_attn.*']\n";
    // The class comes first in the file, and decides last.
    const RecipeOptions mixed =
        read_good(modifier("QuantizationModifier", ignore + "      scheme:\n        NVFP4: [Linear]\n"
                                                            "        NVFP4A16: 're:.*self_attn.*'\n"));
    const Plan plan = plan_with(mixed).take();
    CHECK(plan.selection.count == 800);
    size_t weights_only = 0;
    for (size_t m = 0; m < plan.layout.modules.size(); m++)
        weights_only += plan.selection.format[m] == &formats::nvfp4a16;
    CHECK(weights_only == 8);
    CHECK(plan.takes_input_scales());

    const RecipeOptions some = read_good(
        modifier("QuantizationModifier", ignore + "      targets: ['re:.*self_attn.*']\n      scheme: nvfp4a16\n"));
    CHECK(plan_with(some).take().selection.count == 8);
    // A text is the name of a module, not the begin of one.
    const RecipeOptions name = read_good(
        modifier("QuantizationModifier",
                 "      targets: [model.language_model.layers.3.self_attn.o_proj]\n      scheme: NVFP4A16\n"));
    CHECK(plan_with(name).take().selection.count == 1);
    const RecipeOptions none = read_good(modifier("QuantizationModifier", "      targets: [LlamaAttention]\n"
                                                                          "      scheme: NVFP4A16\n"));
    const Status refused = plan_with(none).take_status();
    CHECK(refused.message().find("target \"LlamaAttention\" of the recipe matches no module") != std::string::npos);
}

TEST_CASE("patterns to ignore that match nothing are named, but no error; the draft head stays") {
    const RecipeOptions options = read_good(
        modifier("QuantizationModifier",
                 "      ignore: [LlamaRMSNorm, 're:.*gate$', 're:.*visual.*', lm_head, 're:.*linear_attn.*']\n"
                 "      scheme: NVFP4\n"));
    CHECK(options.preset == Preset::file);
    const Plan plan = plan_with(options).take();
    CHECK(plan.selection.count == 800);
    REQUIRE(!plan.notes.empty());
    CHECK(plan.notes.front() == "the recipe ignores \"LlamaRMSNorm\", which matches no module of this model");
}

TEST_CASE("the line of the draft head gives it its format, whatever targets the recipe has") {
    RecipeOptions options =
        read_good("# ggml-nvfp4: draft-head: nvfp4a16\n" +
                  modifier("QuantizationModifier", "      targets: ['re:model.*self_attn.*']\n      scheme: nvfp4\n"
                                                   "      ignore: ['re:.*gate$']\n"));
    CHECK(options.draft_head == &formats::nvfp4a16);
    const Plan plan = plan_with(options).take();
    CHECK(plan.selection.count == 8 + 103);
    CHECK(plan.selection.draft_count == 103);
    const RecipeOptions again = read_good(recipe_yaml(plan.recipe));
    CHECK(again.draft_head == &formats::nvfp4a16);
    CHECK(plan_with(again).take().plan_fingerprint == plan.plan_fingerprint);

    // Router and gate of the head, which engines build plain, stay without a pattern that names them.
    const Plan shorter =
        plan_with(read_good("# ggml-nvfp4: draft-head: nvfp4a16\n" +
                            modifier("QuantizationModifier",
                                     "      targets: ['re:model.*self_attn.*']\n      scheme: nvfp4\n")))
            .take();
    CHECK(shorter.selection.format == plan.selection.format);
    CHECK(shorter.config_text == plan.config_text);
}

TEST_CASE("GPTQModifier is method gptq, with notes on what has no effect") {
    const RecipeOptions options = read_good(
        modifier("GPTQModifier", "      block_size: 128\n      dampening_frac: 0.01\n      actorder: static\n"
                                 "      offload_hessians: false\n      sequential_targets: [Qwen3_5MoeDecoderLayer]\n"
                                 "      scheme: NVFP4\n      ignore: [lm_head]\n      kv_cache_scheme: null\n"));
    CHECK(options.quantizer == &gptq());
    CHECK(options.headroom == default_headroom);
    REQUIRE(options.notes.size() == 6);
    CHECK(options.notes[1] ==
          "recipe.yaml:4: block_size: no effect: it changes the time of llm-compressor's GPTQ alone");
}

TEST_CASE("what a recipe cannot have is refused with its line") {
    struct Case {
        std::string text;
        const char * expected; // the begin of the first problem, behind "recipe.yaml:"
    };
    const auto quantization = [](const std::string & lines) {
        return modifier("QuantizationModifier", "      scheme: NVFP4\n" + lines);
    };
    const auto group = [](const std::string & line) {
        return modifier("QuantizationModifier", "      config_groups:\n        group_0:\n          " + line + "\n");
    };
    const Case cases[] = {
        {"", "1: recipe: there is no QuantizationModifier"},
        {"[]", "1: recipe: a map is wanted here, not a list"},
        {"QuantizationModifier: {scheme: NVFP4}", "1: QuantizationModifier: write it into the maps default_stage"},
        {"other: {}", "1: other: stages have names that end with _stage"},
        {"args: {a: 1}", "1: args: stages have names"},
        {"a_stage: {x: {}}", "1: x: a stage holds maps with names that end with _modifiers"},
        {"a_stage: {run_type: train}", "1: run_type: "},
        {modifier("AWQModifier", "      a: 1\n"), "3: AWQModifier: this program runs QuantizationModifier and"},
        {modifier("QuantizationModifier", ""), "3: QuantizationModifier: it has no scheme"},
        {modifier("QuantizationModifier", "      targets: [Linear]\n"), "3: scheme: it is missing"},
        {quantization("    GPTQModifier: {scheme: NVFP4}\n"), "5: GPTQModifier: a run has one such modifier"},
        {quantization("      schem: x\n"), "5: schem: no key of QuantizationModifier that this program knows"},
        {quantization("      block_size: 128\n"), "5: block_size: no key of QuantizationModifier"},
        {quantization("      kv_cache_scheme: {num_bits: 8}\n"), "5: kv_cache_scheme: this program cannot do that"},
        {quantization("      ignore: [Linear]\n"), "5: ignore: Linear is every module"},
        {quantization("      ignore: ['re:.*mlp',\n        're:(']\n"), "6: ignore: pattern"},
        {quantization("      ignore: {a: b}\n"), "5: ignore: a list of names is wanted"},
        {quantization("      targets: []\n"), "5: targets: there are none"},
        {quantization("      weight_observer: mse\n"),
         "5: weight_observer: \"mse\" chooses scales as this program does not"},
        {quantization("      observer: {input: minmax}\n"), "5: input: \"minmax\" does not take the largest input"},
        {quantization("      observer: {inputs: minmax}\n"), "5: inputs: no key of observer"},
        {quantization("      bypass_divisibility_checks: true\n"), "5: bypass_divisibility_checks: columns that 16"},
        {quantization("      requires_calibration_data: 1\n"), "5: requires_calibration_data: \"1\" is neither"},
        {quantization("      config_groups: {a: {targets: [Linear], weights: " + weights + "}}\n"),
         "3: config_groups: scheme says the same"},
        {modifier("QuantizationModifier", "      scheme: FP8_DYNAMIC\n"), "4: scheme: \"FP8_DYNAMIC\" is no scheme"},
        {modifier("QuantizationModifier", "      scheme:\n        W8A8: [Linear]\n"),
         "5: scheme: \"W8A8\" is no scheme"},
        {modifier("GPTQModifier", "      scheme: NVFP4\n      dampening_frac: 0.1\n"),
         "5: dampening_frac: method gptq"},
        {modifier("GPTQModifier", "      scheme: NVFP4\n      actorder: group\n"),
         "5: actorder: \"group\" would store"},
        {group("{targets: [Linear]}"), "5: group_0: the group leaves weights as they are"},
        {group("weights: " + weights), "5: group_0: the group has no targets"},
        {group("{targets: [Linear], weights: {num_bits: 8, type: float, strategy: tensor_group, group_size: 16}}"),
         "6: weights.num_bits: \"8\" is not NVFP4: write 4"},
        {group("{targets: [Linear], weights: {num_bits: 4, type: float, group_size: 16}}"),
         "6: weights.strategy: it is missing"},
        {group("{targets: [Linear], weights: " + weights +
               ", input_activations: {num_bits: 4, type: float, strategy: "
               "tensor_group, group_size: 16, dynamic: true}}"),
         "6: input_activations.dynamic: \"true\" is not NVFP4: write local"},
        {group("{targets: [Linear], weights: " + weights + ", output_activations: {num_bits: 8}}"),
         "6: output_activations: this program cannot do that"},
        {group("{targets: [Linear], weights: " + weights + ", more: 1}"), "6: more: no key of a group"},
        {"# ggml-nvfp4: method: awq\n" + quantization(""), "1: method: it is none of rtn, mse"},
        {"# ggml-nvfp4: headroom: 0.5\n" + quantization(""), "1: headroom: \"0.5\" is not between 1 and 1024"},
        {"# ggml-nvfp4: speed: 2\n" + quantization(""), "1: speed: no setting of ggml-nvfp4"},
        {"# ggml-nvfp4: draft-head: nvfp4\n" + quantization(""), "1: draft-head: it is not nvfp4a16"},
        {"# ggml-nvfp4: method: mse\n" + modifier("GPTQModifier", "      scheme: NVFP4\n"),
         "4: GPTQModifier: the line # ggml-nvfp4: method: names another method"},
    };
    for (const Case & refused : cases) {
        CAPTURE(refused.text);
        RecipeProblems problems;
        const Status status = parse_recipe(refused.text, "recipe.yaml", problems).take_status();
        CHECK(status.code() == Code::unsupported);
        REQUIRE(!problems.empty());
        CHECK(problems.front().rfind(std::string("recipe.yaml:") + refused.expected, 0) == 0);
        CHECK(status.message().find(problems.front()) != std::string::npos);
    }
}

TEST_CASE("every line that cannot be met is named, not the first alone") {
    RecipeProblems problems;
    const Status status = parse_recipe(modifier("QuantizationModifier",
                                                "      scheme: FP8\n      foo: 1\n      observer: {weights: mse}\n"),
                                       "r.yaml", problems)
                              .take_status();
    CHECK(problems.size() == 3);
    CHECK(status.message().rfind("3 lines of the recipe cannot be met; the first: r.yaml:4: scheme: ", 0) == 0);
}

TEST_CASE("YAML: lines of values, and what is refused") {
    const YamlNode root = parse_yaml("a: 1\nb: [x, 'y z',\n  \"\\u00e9\"]\nc:\n- {d: e}\n", "f").take();
    CHECK(root.find("a")->text == "1");
    const YamlNode & b = *root.find("b");
    REQUIRE(b.items.size() == 3);
    CHECK(b.items[1].text == "y z");
    CHECK(b.items[1].quoted);
    CHECK(b.items[2].text == "é");
    CHECK(b.items[2].line == 3);
    CHECK(root.find("c")->line == 5);
    CHECK(parse_yaml("# nothing\n", "f").value().is_null());

    const auto refused = [](const std::string & text) { return parse_yaml(text, "f.yaml").take_status().message(); };
    CHECK(refused("a: &x 1").rfind("f.yaml:1: an anchor", 0) == 0);
    CHECK(refused("a: 1\nb: !!str 1").rfind("f.yaml:2: an anchor (&) or a tag", 0) == 0);
    CHECK(refused("a: *x").rfind("f.yaml:1: ", 0) == 0);
    CHECK(refused("<<: {a: 1}").rfind("f.yaml:1: a merge key", 0) == 0);
    CHECK(refused("[a]: 1").rfind("f.yaml:1: a key that is no text", 0) == 0);
    CHECK(refused("a: 1\nb: 2\na: 3").rfind("f.yaml:3: a is there twice, also in line 1", 0) == 0);
    CHECK(refused("a: 1\n---\nb: 2").rfind("f.yaml:2: a second document", 0) == 0);
    CHECK(refused("a: [1,\nb").rfind("f.yaml:", 0) == 0);
    CHECK(refused("a: \"\\q\"").rfind("f.yaml:1: this is not YAML", 0) == 0);
    CHECK(refused(std::string("a: \xff")).find("this is not YAML") != std::string::npos);
    CHECK(refused(std::string(1000, '[')).find("nested too deep") != std::string::npos);
    std::string many = "[";
    for (int i = 0; i < 200'001; i++) many += "0,";
    CHECK(refused(many + "]").find("more values") != std::string::npos);
}
