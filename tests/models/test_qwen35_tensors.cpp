#include "models/model_fixture.h"

#include <doctest/doctest.h>
#include <map>
#include <set>

using namespace gnv;
using namespace gnv::test;

static uint64_t parameters(const std::vector<TensorSpec> & specs) {
    uint64_t sum = 0;
    for (const TensorSpec & spec : specs) sum += elements(spec.shape);
    return sum;
}

// Tensor counts and parameters follow from closed formulas over the architecture; those of the 35B model also from the
// published index (total_size 71903645408).
TEST_CASE("published models have the tensors and parameters they are known for") {
    struct Case {
        const char * name;
        size_t tensors;
        uint64_t text, head, vision, draft; // parameters
        bool nested;
    };
    const Case cases[] = {
        {"qwen36-35b-a3b", 1045, 34'152'051'328, 508'559'360, 446'571'248, 844'640'768, true},
        {"qwen35-397b-a17b", 1390, 395'329'231'616, 1'017'118'720, 456'010'480, 6'595'568'128, true},
        {"qwen36-27b", 1199, 25'624'600'064, 1'271'398'400, 460'730'096, 424'699'392, true},
        {"qwen35-0.8b", 488, 752'393'024, 0, 100'592'896, 20'452'864, true},
        {"qwen38-2.4t-a95b", 1609, 2'417'770'460'544, 2'034'237'440, 0, 26'378'027'520, false},
    };
    for (const Case & model : cases) {
        CAPTURE(model.name);
        LayoutChoice choice;
        choice.nested_prefix = model.nested;
        const std::vector<TensorSpec> specs = list(read_data(model.name), choice).take();
        CHECK(specs.size() == model.tensors);
        std::map<std::string, uint64_t> sums;
        for (const TensorSpec & spec : specs)
            sums[spec.role == Role::lm_head ? "head"
                 : spec.part == Part::text  ? "text"
                 : spec.part == Part::mtp   ? "draft"
                                            : "vision"] += elements(spec.shape);
        CHECK(sums["text"] == model.text);
        CHECK(sums["head"] == model.head);
        CHECK(sums["vision"] == model.vision);
        CHECK(sums["draft"] == model.draft);
        std::set<std::string> names;
        for (const TensorSpec & spec : specs) names.insert(spec.name);
        CHECK(names.size() == specs.size());
    }
}

TEST_CASE("layout choices of the 35B model") {
    const Json config = read_data("qwen36-35b-a3b");
    CHECK(parameters(list(config).value()) * 2 == 71'903'645'408);
    LayoutChoice choice;
    choice.with_mtp = false;
    CHECK(parameters(list(config, choice).value()) * 2 == 70'214'363'872);
    choice.with_vision = false;
    CHECK(parameters(list(config, choice).value()) * 2 == 69'321'221'376);
    choice = {};
    choice.fused_experts = false;
    CHECK(list(config, choice).value().size() == 1045 + 40 * (3 * 256 - 2));
    CHECK(parameters(list(config, choice).value()) * 2 == 71'903'645'408);
    choice.fused_mtp_experts = false;
    const std::vector<TensorSpec> single = list(config, choice).value();
    CHECK(single.size() == 1045 + 41 * (3 * 256 - 2));
    CHECK(parameters(single) * 2 == 71'903'645'408);
    for (const TensorSpec & spec : single) {
        if (spec.name != "mtp.layers.0.mlp.experts.255.down_proj.weight") continue;
        CHECK(spec.shape == std::vector<int64_t>{2048, 512});
        CHECK(spec.role == Role::expert_down);
        CHECK(spec.part == Part::mtp);
        CHECK(spec.layer == 0);
        CHECK(spec.expert == 255);
    }
}

TEST_CASE("the small checkpoint's names and shapes are the real ones") {
    const Checkpoint real = Checkpoint::open(tiny_folder).take();
    const std::vector<TensorSpec> specs = list(read_data("qwen36-tiny")).take();
    CHECK(specs.size() == 205);
    CHECK(real.tensors().size() == 205);
    for (const TensorSpec & spec : specs) {
        CAPTURE(spec.name);
        const int64_t found = real.find(spec.name);
        REQUIRE(found >= 0);
        CHECK(spec.shape == real.tensors()[size_t(found)].shape);
    }
}

TEST_CASE("the order of the layers follows layer_types, or the interval where it is missing") {
    const auto full_layers = [](const Json & config) {
        std::vector<int32_t> layers;
        for (const TensorSpec & spec : list(config).take())
            if (spec.role == Role::attention_q && spec.part == Part::text) layers.push_back(spec.layer);
        return layers;
    };
    Json config = read_data("qwen36-tiny");
    CHECK(full_layers(config) == std::vector<int32_t>{3, 7});
    config["text_config"].erase("layer_types");
    CHECK(full_layers(config) == std::vector<int32_t>{3, 7});
    config["text_config"]["full_attention_interval"] = 3;
    CHECK(full_layers(config) == std::vector<int32_t>{2, 5});
    config["text_config"].erase("full_attention_interval");
    CHECK(full_layers(config) == std::vector<int32_t>{3, 7});
}

TEST_CASE("tied embeddings, no vision, no draft head, several draft layers") {
    Json config = read_data("qwen36-tiny");
    const size_t all = list(config).value().size();
    CHECK(list(set(config, "/tie_word_embeddings", true)).value().size() == all - 1);
    CHECK(list(without(config, "", "vision_config")).value().size() == all - (3 * 12 + 9));
    CHECK(list(set(config, "/vision_config", nullptr)).value().size() == all - (3 * 12 + 9));
    CHECK(list(set(config, "/text_config/mtp_num_hidden_layers", 0)).value().size() == all - 19);
    CHECK(list(set(config, "/text_config/mtp_num_hidden_layers", 2)).value().size() == all + 15);
    // The outer statement counts, the inner one only where there is no other.
    CHECK(list(set(config, "/text_config/tie_word_embeddings", true)).value().size() == all);
    config.erase("tie_word_embeddings");
    CHECK(list(set(config, "/text_config/tie_word_embeddings", true)).value().size() == all - 1);
}

TEST_CASE("every role has traits, and only Linears can be quantized") {
    std::set<std::string> names;
    for (size_t role = 0; role < size_t(Role::count_); role++) {
        const RoleTraits & traits = role_traits(Role(role));
        names.insert(traits.name);
        CHECK((traits.is_linear || !traits.can_quantize));
    }
    CHECK(names.size() == size_t(Role::count_));
    CHECK_FALSE(role_traits(Role::extra).is_linear);
    CHECK(role_traits(Role::router).is_linear);
    CHECK_FALSE(role_traits(Role::router).can_quantize);
    CHECK(role_traits(Role::expert_down).can_quantize);
    CHECK(role_traits(Role::mlp_down).can_quantize);
    CHECK(role_traits(Role::linear_attention_out).can_quantize);
    CHECK_FALSE(role_traits(Role::linear_attention_in_a).can_quantize);
    CHECK_FALSE(role_traits(Role::mtp_fc).can_quantize);
}
