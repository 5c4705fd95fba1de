#include "quant/plan_fixture.h"

#include "budget_message.h"
#include "checkpoint_files.h"
#include "scratch.h"
#include "tools/synthetic_checkpoint.h"

#include <doctest/doctest.h>
#include <set>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

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
}

TEST_CASE("a pattern that matches no module is refused, whichever list it is on") {
    const auto refusal = [](const RecipeOptions & options) {
        const Status status = plan_with(options).take_status();
        CHECK(status.code() == Code::invalid_argument);
        return status.message();
    };
    for (const std::string list : {"ignore", "include", "keep"}) {
        const std::vector<std::string> slip = {".*self_atn.*"}, none;
        const std::string message = refusal(
            rules(list == "ignore" ? slip : none, list == "include" ? slip : none, list == "keep" ? slip : none));
        CHECK(starts_with(message, list + " \".*self_atn.*\" matches no module"));
        CHECK(message.find("from the start of a module's name, such as ") != std::string::npos);
    }
    CHECK(refusal(rules({"layers\\.3"}, {}, {})).find("\"layers\\.3\" matches no module") != std::string::npos);
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
        {rules({}, {"lm_head"}, {}), "lm_head (include re:lm_head) cannot be quantized"},
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

// The patterns of the draft head at the end of the ignore list, and those of the second group, where there is one.
static std::string draft_config(const Plan & plan) {
    const JsonDocument config = JsonDocument::parse(plan.config_text, "config.json").take();
    const JsonValue quantization = config.root().get("quantization_config").value();
    std::string out;
    const auto add = [&](size_t, const JsonValue & item) -> Status {
        const std::string text(item.as_string().value());
        if (text.find("mtp") != std::string::npos) out += text + " ";
        return {};
    };
    CHECK(quantization.get("ignore").value().for_each_element(add).ok());
    JsonValue group;
    if (quantization.get("config_groups").value().find("group_1", group)) {
        out += "| ";
        CHECK(group.get("targets").value().for_each_element(add).ok());
    }
    return out;
}

TEST_CASE("the draft head: its modules, and the patterns by which engines find them") {
    RecipeOptions head;
    CHECK(draft_config(plan_with(head).value()) == "re:.*mtp.* ");
    head.draft_head = &formats::nvfp4a16;
    const std::string always = "re:.*mtp\\.fc$ ", router = "re:.*mtp\\.layers\\.0\\.mlp\\.gate$ ",
                      gate = "re:.*mtp\\.layers\\.0\\.mlp\\.shared_expert_gate$ ";
    Plan plan = plan_with(head).take();
    CHECK(plan.selection.count == 800 + 103);
    CHECK(plan.selection.draft_count == 103);
    CHECK(draft_config(plan) == always + router + gate + "| re:.*mtp.* ");
    CHECK(plan.takes_input_scales());
    CHECK(plan_text(plan).find("903 quantized modules, 103 of them of the draft head: nvfp4a16 by rtn") !=
          std::string::npos);
    for (const PlanModule & module : plan.modules)
        CHECK((plan.linear(module).part == Part::mtp) == !plan.format(module).takes_input_scale());

    // Whole parts that are kept have one pattern, which also matches what engines fuse.
    head.keep = {"mtp.*self_attn", "mtp.*experts"};
    plan = plan_with(head).take();
    CHECK(plan.selection.draft_count == 3);
    CHECK(draft_config(plan) == always + "re:.*mtp\\.layers\\.0\\.self_attn(\\..*)?$ " + router +
                                    "re:.*mtp\\.layers\\.0\\.mlp\\.experts(\\..*)?$ " + gate + "| re:.*mtp.* ");
    head.keep = {};
    head.preset = Preset::experts_only;
    plan = plan_with(head).take();
    CHECK(plan.selection.draft_count == 96);
    head.preset = Preset::recipe;
    // Nothing else is quantized: no group of W4A4, which no module would have.
    head.keep = {".*language_model"};
    plan = plan_with(head).take();
    CHECK(plan.selection.count == 103);
    CHECK_FALSE(plan.takes_input_scales());
    CHECK(draft_config(plan) == always + router + gate);
    const JsonDocument alone = JsonDocument::parse(plan.config_text, "config.json").take();
    const JsonValue groups = alone.root().get("quantization_config").value().get("config_groups").value();
    CHECK(groups.get("group_0").value().get("targets").value().text() == "[\"Linear\"]");
    CHECK(groups.get("group_0").value().get("input_activations").value().is_null());
    CHECK(std::string(plan.main_format().name) == "nvfp4a16");
    head.keep = {};
    head.scheme = &formats::nvfp4a16; // one group has them all
    CHECK(draft_config(plan_with(head).value()) == always + router + gate);
    head.quantizer = &gptq();
    CHECK(plan_with(head).value().recipe.quantizer_of(Part::mtp).name() == std::string("mse"));
    CHECK(plan_with(head).value().recipe.quantizer_of(Part::text).name() == std::string("gptq"));

    const auto refusal = [](const RecipeOptions & options) {
        const Status status = plan_with(options).take_status();
        return status.message();
    };
    head.keep = {".*mtp"};
    CHECK(refusal(head).find("leave no module of the draft head to quantize") != std::string::npos);
    head.keep = {"mtp.*v_proj"};
    CHECK(refusal(head).find("mtp.layers.0.self_attn.v_proj not, but loaders fuse them") != std::string::npos);
    head.keep = {};
    head.include = {"mtp.*fc"};
    CHECK(refusal(head).find("mtp.fc (include re:mtp.*fc) cannot be quantized") != std::string::npos);
    head.include = {};
    head.draft_head = &formats::nvfp4;
    CHECK(refusal(head).find("its inputs are not calibrated") != std::string::npos);

    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors = load_tensors(tiny);
    std::erase_if(tensors, [](const MemoryTensor & tensor) { return starts_with(tensor.name, "mtp."); });
    save_tensors(scratch.path(), tensors, 1);
    copy_other_files(tiny, scratch.path());
    PlanOptions options;
    options.recipe.draft_head = &formats::nvfp4a16;
    const Status none = make_plan(scratch.path(), options).take_status();
    CHECK(none.code() == Code::invalid_argument);
    CHECK(none.message().find("has no draft head (tensors mtp.*) to quantize") != std::string::npos);
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
            options.buffer_share = calibrating_buffer_share;
            options.ram_bytes = 1;
            const uint64_t budget = make_plan(tiny, options).value().memory_left().whole(wanted);
            CHECK(budget <= wanted * 4 / 3 + 2'000'000);
            options.ram_bytes = budget;
            const Plan plan = make_plan(tiny, options).take();
            CHECK(plan.memory_left().total() >= wanted);
            CHECK(plan.memory_left().total() + plan.memory.total() == budget);
            CHECK(plan.memory_left().whole(plan.memory_left().total()) == budget);
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
    options.ram_bytes = smallest_budget(status.message());
    CHECK(make_plan(tiny, options).ok());
    options.ram_bytes--;
    CHECK_FALSE(make_plan(tiny, options).ok());
}

TEST_CASE("both forms of the plan say what there is to say") {
    const ScratchFolder scratch;
    PlanOptions options;
    options.destination = scratch.path();
    scratch.save("something", "");
    const Plan plan = make_plan(tiny, options).take();
    const std::string text = plan_text(plan);
    for (const char * part : {"205 tensors in 3 files, 39,289,152 bytes", "800 quantized modules", "3,357 tensors",
                              "experts gate_up", "ignore re:.*linear_attn\\..*", "warning: output folder "})
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

TEST_CASE("JSON files that engines need are read before they are copied") {
    const ScratchFolder scratch;
    save_tensors(scratch.path(), load_tensors(tiny), 1);
    copy_other_files(tiny, scratch.path());
    CHECK(write_file_synced(scratch / "trainer_state.json", "{\"loss\": NaN").ok()); // no engine reads it
    CHECK(make_plan(scratch.path(), {}).ok());
    for (const char * const name :
         {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "preprocessor_config.json"}) {
        const std::string path = scratch / name, content = read_file(path, 1 << 20).take();
        const auto replace = [&](const std::string & text) {
            REQUIRE(remove_file(path).ok());
            REQUIRE(write_file_synced(path, text).ok());
        };
        replace(content.substr(0, content.size() / 2));
        const Status status = make_plan(scratch.path(), {}).take_status();
        CHECK(status.code() == Code::format);
        CHECK_MESSAGE(starts_with(status.message(), path + ": not valid JSON at byte "), status.message());
        CHECK_MESSAGE(ends_with(status.message(), "; copy or download the file again"), status.message());
        replace("[]");
        CHECK(make_plan(scratch.path(), {}).status().message() ==
              path + ": expected an object; copy or download the file again");
        replace(content);
    }
    CHECK(make_plan(scratch.path(), {}).ok());
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
    REQUIRE(plan.warnings.size() == 2);
    CHECK(plan.warnings[0].find("preprocessor_config.json") != std::string::npos);
    CHECK(plan.warnings[1].find("the source lacks tokenizer.json and tokenizer_config.json: engines cannot build") ==
          0);
    CHECK(write_file_synced(scratch / "merges.txt", "").ok());
    CHECK(make_plan(scratch.path(), {}).value().warnings[1].find("the source lacks tokenizer_config.json: ") == 0);
}

TEST_CASE("links are followed in the source and in the hub's cache alone, hidden files stay behind, and both is said") {
    const ScratchFolder scratch;
    REQUIRE(make_directory(scratch / "hub").ok());
    const std::string hub = scratch / "hub/models--a--b", source = hub + "/snapshots/1";
    for (const char * folder : {"", "/blobs", "/snapshots", "/snapshots/1", "/snapshots/1/images", "/snapshots/1/.git"})
        REQUIRE(make_directory(hub + folder).ok());
    REQUIRE(make_directory(scratch / "outside").ok());
    const auto save = [&](const std::string & path) { REQUIRE(write_file_synced(path, path).ok()); };
    const auto link_to = [&](const std::string & target, const std::string & name) {
        REQUIRE(symlink(target.c_str(), join_path(source, name).c_str()) == 0);
    };
    save_tensors(source, load_tensors(tiny), 1);
    REQUIRE(rename_path(source + "/model.safetensors", hub + "/blobs/w").ok());
    link_to("../../blobs/w", "model.safetensors");
    REQUIRE(copy_file_synced(tiny + "/config.json", hub + "/blobs/c").ok());
    link_to("../../blobs/c", "config.json");
    for (const char * name : {"/snapshots/1/images/a.png", "/snapshots/1/.env", "/snapshots/1/.gitattributes",
                              "/snapshots/1/images/.secret", "/snapshots/1/.git/HEAD", "/snapshots/1/journal"})
        save(hub + name);
    REQUIRE(write_file_synced(hub + "/blobs/t", "{}").ok());
    save(scratch / "outside/passwd");
    save(hub + "/refs");
    link_to("../../blobs/t", "tokenizer.json");
    link_to("images/a.png", "b.png");
    link_to("images", "c");
    link_to("b.png", "d.png");                           // a link to a link
    link_to("..", "images/up");                          // to a folder that holds it
    link_to(scratch / "outside/passwd", "notes.txt");    // out
    link_to("../../../../outside/passwd", "notes2.txt"); // out, relative
    link_to("notes.txt", "notes3.txt");                  // in, then out
    link_to(scratch / "outside", "apt");                 // a folder outside
    link_to("../../refs", "refs");                       // the cache, but not its blobs
    link_to("../../blobs-of-others", "z.bin");           // is not looked at

    const Plan plan = make_plan(source, {}).take();
    std::string names, notes;
    for (const PlanFile & file : plan.files) names += file.name + " ";
    for (const std::string & note : plan.notes) notes += note + "\n";
    CAPTURE(notes);
    CHECK(names == ".gitattributes b.png d.png images/a.png tokenizer.json ");
    for (const char * line : {
             ".env is not copied: a hidden file\n",
             ".git is not copied: a hidden folder\n",
             "images/.secret is not copied: a hidden file\n",
             "images/up is not copied: a link to a folder that holds it\n",
             "c is not copied: a link to the folder images, which has its own name\n",
             "\nnotes.txt is not copied: a link to ",
             "\nnotes2.txt is not copied: a link to ",
             "\nnotes3.txt is not copied: a link to ",
             "\napt is not copied: a link to ",
             "\nrefs is not copied: a link to ",
             "/outside/passwd, outside the source\n",
             "z.bin is not copied: weights in another format\n",
             "journal is not copied: a run has its journal under this name\n",
         })
        CHECK_MESSAGE(notes.find(line) != std::string::npos, line);
    CHECK(plan_text(plan).find("note: .env is not copied") != std::string::npos);

    // A folder that a hub's client made elsewhere, with links for large files alone.
    const std::string local = scratch / "local";
    REQUIRE(make_directory(local).ok());
    REQUIRE(copy_file_synced(tiny + "/config.json", local + "/config.json").ok());
    REQUIRE(symlink((hub + "/blobs/w").c_str(), (local + "/model.safetensors").c_str()) == 0);
    REQUIRE(symlink((hub + "/blobs/t").c_str(), (local + "/tokenizer.json").c_str()) == 0);
    CHECK(make_plan(local, {}).value().files.size() == 1);

    // Without its tokenizer a result is of no use: that is no matter of a note.
    REQUIRE(remove_file(source + "/tokenizer.json").ok());
    link_to(scratch / "outside/passwd", "tokenizer.json");
    const Status refused = make_plan(source, {}).take_status();
    CHECK(refused.code() == Code::invalid_argument);
    CHECK(refused.message().find("tokenizer.json is a link to ") != std::string::npos);
    CHECK(refused.message().find("put the file in its place") != std::string::npos);
}

TEST_CASE("names in messages and notes do nothing to a terminal") {
    const ScratchFolder scratch;
    const std::string escape = "\x1b[2J\nnote: all is well\u202e";
    save_tensors(scratch.path(), load_tensors(tiny), 1);
    REQUIRE(copy_file_synced(tiny + "/config.json", scratch / "config.json").ok());
    REQUIRE(write_file_synced(scratch / (escape + ".bin"), "x").ok());
    const auto is_safe = [](const std::string & text) {
        return text.find('\x1b') == std::string::npos && text.find("\u202e") == std::string::npos &&
               text.find("\nnote: all is well") == std::string::npos;
    };
    const std::string text = plan_text(make_plan(scratch.path(), {}).take());
    CHECK(is_safe(text));
    CHECK(text.find("\\x1b[2J\\x0anote: all is well\\xe2\\x80\\xae.bin is not copied") != std::string::npos);
    REQUIRE(make_directory(scratch / escape).ok());
    const Status missing = make_plan(scratch / escape, {}).take_status(); // in the path of the folder itself
    CHECK(is_safe(missing.message()));
    CHECK(missing.message().find("\\x1b[2J") != std::string::npos);
    // A shard's name from the index.
    const std::string index = "{\"weight_map\":{\"a\":" + json_quote(escape + ".safetensors") + "}}";
    REQUIRE(write_file_synced(join_path(scratch / escape, "model.safetensors.index.json"), index).ok());
    const Status shard = make_plan(scratch / escape, {}).take_status();
    CHECK(is_safe(shard.message()));
    CHECK(shard.message().find("x1b[2J\\x0anote") != std::string::npos);
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
        {"qwen35-122b-a10b", 0, 0, 48 / 4 * 4 + 48 * 3 + 48 * 256 * 3, 0},
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
