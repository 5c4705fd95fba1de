#include "quant/plan.h"

#include "checkpoint_files.h"
#include "scratch.h"
#include "tools/synthetic_checkpoint.h"

#include <doctest/doctest.h>
#include <set>

using namespace gnv;
using namespace gnv::test;

namespace {

const std::string tiny = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";

Result<Plan> plan_with(const RecipeOptions & recipe) {
    PlanOptions options;
    options.recipe = recipe;
    return make_plan(tiny, options);
}

RecipeOptions rules(std::vector<std::string> ignore, std::vector<std::string> include, std::vector<std::string> keep) {
    RecipeOptions options;
    options.scheme = &formats::nvfp4a16;
    options.ignore = std::move(ignore), options.include = std::move(include), options.keep = std::move(keep);
    return options;
}

} // namespace

TEST_CASE("the reference recipe quantizes attention, shared and routed experts") {
    const Plan plan = plan_with({}).take();
    CHECK(plan.selection.count == 2 * 4 + 8 * 3 + 8 * 32 * 3);
    CHECK(plan.output.tensors.size() == 3357);
    CHECK(plan.warnings.empty());
    // Every byte of the source is used exactly once.
    uint64_t bytes = 0;
    for (const PlanUnit & unit : plan.units) bytes += unit.source_bytes;
    CHECK(bytes == plan.checkpoint.tensor_bytes());
    // q, k and v share one global scale, and so does each expert's gate and up.
    std::multiset<uint32_t> sizes;
    for (const PlanUnit & unit : plan.units)
        if (unit.quantize) sizes.insert(unit.count);
    CHECK(sizes.count(3) == 2);
    CHECK(sizes.count(2) == 8 * 32 + 8);
    CHECK(sizes.count(1) == 2 + 8 * 32 + 8);
}

TEST_CASE("presets and patterns") {
    RecipeOptions experts = rules({}, {}, {});
    experts.preset = Preset::experts_only;
    CHECK(plan_with(experts).value().selection.count == 8 * 32 * 3);
    CHECK(plan_with(rules({".*self_attn"}, {}, {})).value().selection.count == 800 - 8);
    CHECK(plan_with(rules({"re:.*self_attn"}, {}, {})).value().selection.count == 800 - 8);
    CHECK(plan_with(rules({}, {}, {".*layers\\.3\\."})).value().selection.count == 800 - 4 - 3 - 96);
    // Anchored at the start, not at the end, as Python's re.match.
    CHECK(plan_with(rules({"model.language_model.layers.3"}, {}, {})).value().selection.count == 800 - 4 - 3 - 96);
    // include overrides the list of the recipe, keep overrides include.
    CHECK(plan_with(rules({}, {".*linear_attn\\.(in_proj_(qkv|z)|out_proj)$"}, {})).value().selection.count ==
          800 + 6 * 3);
    CHECK(plan_with(rules({}, {".*linear_attn\\.out_proj$"}, {".*layers\\.0\\.linear_attn"})).value().selection.count ==
          800 + 5);
    const Plan plan = plan_with(rules({"layers\\.3"}, {}, {})).take();
    REQUIRE(plan.warnings.size() == 1);
    CHECK(plan.warnings[0] == "ignore \"layers\\.3\" matches no module");
}

TEST_CASE("rules that no loader could follow are refused by name") {
    struct Case {
        RecipeOptions rules;
        const char * message;
    };
    const Case cases[] = {
        {rules({".*k_proj"}, {}, {}), "layers.3.self_attn.q_proj would be quantized and "
                                      "model.language_model.layers.3.self_attn.k_proj not"},
        {rules({".*experts\\.7\\.gate_proj"}, {}, {}), "experts.7"},
        {rules({".*layers\\.2\\.mlp\\.experts\\.5\\."}, {}, {}), "the routed experts of a layer"},
        {rules({".*shared_expert.up_proj"}, {}, {}), "shared_expert"},
        {rules({}, {".*in_proj_z"}, {}), "in_proj_qkv not"},
        {rules({}, {".*in_proj_a"}, {}), "cannot be quantized"},
        {rules({}, {"lm_head"}, {}), "lm_head (include lm_head) cannot be quantized"},
        {rules({}, {".*visual.*qkv"}, {}), "vision tower"},
        {rules({}, {"mtp.*q_proj"}, {}), "draft head"},
        {rules({}, {".*mlp.gate$"}, {}), "cannot be quantized"},
        {rules({}, {}, {".*"}), "no module to quantize"},
        {rules({"re:("}, {}, {}), "pattern \"re:(\""},
        {rules({"(a+)+$"}, {}, {}), ""}, // slow in principle, bounded in practice
    };
    for (const Case & item : cases) {
        const Status status = plan_with(item.rules).take_status();
        CAPTURE(item.message);
        CAPTURE(status.message());
        if (*item.message) CHECK(status.code() == Code::invalid_argument);
        CHECK(status.message().find(item.message) != std::string::npos);
    }
}

TEST_CASE("in_features that 16 does not divide") {
    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors = load_tensors(tiny);
    for (MemoryTensor & tensor : tensors) { // experts of 72: no block fits
        const bool gate_up = ends_with(tensor.name, "experts.gate_up_proj"),
                   down = ends_with(tensor.name, "experts.down_proj");
        if (gate_up) tensor.shape[1] = 144;
        if (down) tensor.shape[2] = 72;
        if (gate_up || down) tensor.data.resize(size_t(tensor.shape[0] * tensor.shape[1] * tensor.shape[2] * 2));
    }
    save_tensors(scratch.path(), tensors, 1);
    copy_other_files(tiny, scratch.path());
    std::string config = read_file(scratch / "config.json", 1 << 20).take();
    config.replace(config.find("\"moe_intermediate_size\": 64"), 27, "\"moe_intermediate_size\": 72");
    CHECK(remove_file(scratch / "config.json").ok());
    CHECK(write_file_synced(scratch / "config.json", config).ok());
    const Status status = make_plan(scratch.path(), {}).take_status();
    CHECK(status.code() == Code::model);
    CHECK(status.message().find("experts.0.down_proj has 72 input features") != std::string::npos);
}

TEST_CASE("a run that calibrates: buffers leave what the forward pass was promised") {
    for (const int threads : {1, 2, 16}) {
        for (const uint64_t wanted :
             {uint64_t(1'000'000), uint64_t(4'600'000), uint64_t(5'700'000), uint64_t(90'000'000)}) {
            PlanOptions options;
            options.recipe.scheme = &formats::nvfp4;
            options.threads = threads;
            options.calibrates = true;
            options.ram_bytes = 1;
            const uint64_t budget = make_plan(tiny, options).value().budget_to_calibrate(wanted);
            CHECK(budget <= wanted * 4 / 3 + 2'000'000);
            options.ram_bytes = budget;
            const Plan plan = make_plan(tiny, options).take();
            CHECK(plan.calibration_ram_bytes() >= wanted);
            CHECK(plan.calibration_ram_bytes() + plan.memory.total() == budget);
            CHECK(plan.budget_to_calibrate(plan.calibration_ram_bytes()) == budget);
        }
    }
}

TEST_CASE("memory is planned, bounded, and too little of it is said with what would do") {
    PlanOptions options;
    options.threads = 16;
    const Plan roomy = make_plan(tiny, options).take();
    CHECK(roomy.memory.total() <= default_ram_bytes);
    options.ram_bytes = 5 << 20;
    const Plan tight = make_plan(tiny, options).take();
    CHECK(tight.memory.total() <= options.ram_bytes);
    CHECK(tight.memory.workers < 16);
    CHECK(tight.output.tensors.size() == roomy.output.tensors.size());
    CHECK(tight.plan_fingerprint == roomy.plan_fingerprint);
    options.ram_bytes = 1000;
    const Status status = make_plan(tiny, options).take_status();
    CHECK(status.code() == Code::out_of_memory);
    const std::string & message = status.message();
    options.ram_bytes = std::stoull(message.substr(message.rfind(' ')));
    CHECK(make_plan(tiny, options).ok());
    options.ram_bytes--;
    CHECK_FALSE(make_plan(tiny, options).ok());
}

TEST_CASE("both forms of the plan say what there is to say") {
    const ScratchFolder scratch;
    PlanOptions options;
    options.destination = scratch.path();
    const Plan plan = make_plan(tiny, options).take();
    const std::string text = plan_text(plan);
    for (const char * part : {"205 tensors in 3 files, 39,289,152 bytes", "800 quantized modules", "3,357 tensors",
                              "experts gate_up", "ignore re:.*linear_attn\\..*", "warning: the destination"})
        CHECK_MESSAGE(text.find(part) != std::string::npos, part);
    const JsonDocument json = JsonDocument::parse(plan_json(plan), "plan").take();
    const JsonValue tensors = json.root().get("tensors").take();
    CHECK(tensors.array_size().value() == 3357);
    uint64_t copied = 0;
    CHECK(tensors
              .for_each_element([&](size_t, const JsonValue & tensor) -> Status {
                  if (tensor.get("content").value().as_string().value() == "copy")
                      copied += uint64_t(tensor.get("source").value().get("bytes").value().as_int().value());
                  return {};
              })
              .ok());
    CHECK(copied == 39289152 - 2 * 13500416);
}

TEST_CASE("what lies beside the weights") {
    const ScratchFolder scratch;
    save_tensors(scratch.path(), load_tensors(tiny), 1);
    CHECK(copy_file_synced(tiny + "/config.json", scratch / "config.json").ok());
    CHECK(write_file_synced(scratch / "pytorch_model.bin", "x").ok());
    CHECK(write_file_synced(scratch / "vocab.json", "{}").ok());
    CHECK(make_directory(scratch / "images").ok());
    CHECK(write_file_synced(scratch / "images/a.png", "png").ok());
    CHECK(make_directory(scratch / ".cache").ok());
    const Plan plan = make_plan(scratch.path(), {}).take();
    REQUIRE(plan.files.size() == 2);
    CHECK(plan.files[0].name == "images/a.png");
    CHECK(plan.files[1].name == "vocab.json");
    CHECK(plan.notes.size() == 2);
    REQUIRE(plan.warnings.size() == 1);
    CHECK(plan.warnings[0].find("preprocessor_config.json") != std::string::npos);
}

TEST_CASE("published shapes are planned from headers alone") {
    struct Case {
        const char * config;
        uint64_t source_tensors, source_bytes;
        int64_t modules;
        size_t tensors; // of the W4A4 result
    };
    const Case cases[] = {
        {"qwen36-35b-a3b", 1045, 71903645408, 30880, 124306 + 19},
        {"qwen36-27b", 0, 0, 64 / 4 * 4 + 64 * 3, 0},
        {"qwen35-0.8b", 0, 0, 24 / 4 * 4 + 24 * 3, 0},
        {"qwen35-397b-a17b", 0, 0, 60 / 4 * 4 + 60 * 3 + 60 * 512 * 3, 0},
    };
    for (const Case & item : cases) {
        CAPTURE(item.config);
        const std::string config = read_file(concat(GNV_TEST_DATA "/configs/", item.config, ".json"), 1 << 20).take();
        std::string first_names;
        for (const bool fused : {true, false}) {
            const ScratchFolder scratch;
            SyntheticOptions options;
            options.headers_only = true;
            options.shards = 7;
            options.layout.fused_experts = fused;
            REQUIRE(write_synthetic_checkpoint(config, scratch / "source", options).ok());
            const Plan plan = make_plan(scratch / "source", {}).take();
            CHECK(plan.selection.count == item.modules);
            CHECK(plan.memory.total() <= default_ram_bytes);
            if (item.source_bytes) CHECK(plan.checkpoint.tensor_bytes() == item.source_bytes);
            if (item.tensors) CHECK(plan.output.tensors.size() == item.tensors);
            if (fused && item.source_tensors) CHECK(plan.checkpoint.tensors().size() == item.source_tensors);
            // Both layouts give the same tensors.
            std::set<std::string> names;
            for (const OutputTensor & tensor : plan.output.tensors)
                names.insert(tensor.name + shape_text(tensor.shape));
            std::string all;
            for (const std::string & name : names) all += name + "\n";
            if (fused) first_names = all;
            CHECK(all == first_names);
        }
    }
}
