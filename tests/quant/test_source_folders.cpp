// What a source folder holds beside its shards: parts in files of their own, checkpoints of training, pointers, links.
#include "checkpoint_files.h"
#include "core/sha256.h"
#include "quant/plan_fixture.h"
#include "scratch.h"

#include <doctest/doctest.h>
#include <map>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

std::string joined(const std::vector<std::string> & lines) {
    std::string out;
    for (const std::string & line : lines) out += line + "\n";
    return out;
}

// The small checkpoint in two shards without what starts with `prefix`, and that part, renamed, in a file of its own.
void save_with_sidecar(const ScratchFolder & folder, const std::string & prefix, const std::string & renamed,
                       const std::string & file) {
    std::vector<MemoryTensor> rest, part;
    for (MemoryTensor & tensor : load_tensors(tiny)) {
        const bool is_part = starts_with(tensor.name, prefix);
        if (is_part) tensor.name.replace(0, prefix.size(), renamed);
        (is_part ? part : rest).push_back(std::move(tensor));
    }
    copy_other_files(tiny, folder.path());
    save_tensors(folder.path(), rest, 2);
    const ScratchFolder one;
    save_tensors(one.path(), part, 1);
    REQUIRE(copy_file_synced(one / "model.safetensors", folder / file).ok());
}

std::string names_of(const Plan & plan) {
    std::string names;
    for (const PlanFile & file : plan.files) names += file.name + " ";
    return names;
}

} // namespace

TEST_CASE("a draft head or a vision tower in a file that the index does not list is taken in, aloud") {
    const Plan whole = make_plan(tiny, {}).take();
    for (const std::string prefix : {"mtp.", "model.visual."}) {
        const ScratchFolder folder;
        save_with_sidecar(folder, prefix, prefix, "sidecar.safetensors");
        const Plan plan = make_plan(folder.path(), {}).take();
        CHECK(plan.layout.missing.empty());
        CHECK(plan.warnings.empty());
        CHECK(plan.output.tensors.size() == whole.output.tensors.size());
        CHECK(plan.output.tensor_bytes() == whole.output.tensor_bytes());
        CHECK(plan.config_text == whole.config_text);
        CHECK(joined(plan.notes)
                  .find(concat("sidecar.safetensors is not listed in model.safetensors.index.json; its ")) !=
              std::string::npos);
        CHECK(joined(plan.notes).find(concat(" tensors ", prefix, "* are taken in")) != std::string::npos);
    }
}

TEST_CASE("a tensor that neither the index nor config.json calls for is left behind, aloud") {
    const ScratchFolder folder;
    std::vector<MemoryTensor> tensors = load_tensors(tiny);
    MemoryTensor stray = tensors.front();
    stray.name = "stray.weight";
    tensors.push_back(std::move(stray));
    copy_other_files(tiny, folder.path());
    save_tensors(folder.path(), tensors, 2);
    const Plan whole = make_plan(tiny, {}).take(), listed = make_plan(folder.path(), {}).take();
    CHECK(listed.output.tensors.size() == whole.output.tensors.size() + 1);
    CHECK(joined(listed.notes).find("does not call for, kept as they are: stray.weight") != std::string::npos);
    std::string index = read_file(folder / index_file_name, 1 << 24).take();
    const std::string entry = ",\"stray.weight\":\"model-00002-of-00002.safetensors\"";
    REQUIRE(index.find(entry) != std::string::npos);
    folder.save(index_file_name, index.erase(index.find(entry), entry.size()));
    const Plan unlisted = make_plan(folder.path(), {}).take();
    CHECK(unlisted.output.tensors.size() == whole.output.tensors.size());
    CHECK(unlisted.output.tensor_bytes() == whole.output.tensor_bytes());
    CHECK(joined(unlisted.notes).find("model.safetensors.index.json calls for, left behind: stray.weight") !=
          std::string::npos);
}

TEST_CASE("a part under another prefix is refused with the prefix, wherever it lies") {
    const std::pair<const char *, const char *> cases[] = {{"mtp.", "model.mtp."},
                                                           {"mtp.", "language_model.mtp."},
                                                           {"model.visual.", "visual."},
                                                           {"model.visual.", "model.vision_tower."}};
    for (const auto & [prefix, renamed] : cases) {
        const ScratchFolder folder;
        save_with_sidecar(folder, prefix, renamed, "sidecar.safetensors");
        const Status unlisted = make_plan(folder.path(), {}).take_status();
        CHECK(unlisted.code() == Code::model);
        CHECK(unlisted.message().find(concat("whose tensors start with ", prefix, "; here they start with ", renamed,
                                             ": rename them")) != std::string::npos);
        REQUIRE(remove_file(folder / index_file_name).ok()); // then every file counts
        CHECK(make_plan(folder.path(), {}).status().message() == unlisted.message());
    }
}

TEST_CASE("a part that is nowhere is a warning") {
    const ScratchFolder folder;
    save_with_sidecar(folder, "mtp.", "mtp.", "sidecar.safetensors");
    REQUIRE(remove_file(folder / "sidecar.safetensors").ok());
    CHECK(joined(make_plan(folder.path(), {}).value().warnings) ==
          "config.json announces a draft head, but no tensor starts with mtp.\n");
}

TEST_CASE("names that tools of training leave in a checkpoint get a hint") {
    const ScratchFolder folder;
    std::vector<MemoryTensor> tensors = load_tensors(tiny);
    const std::string q = "model.language_model.layers.3.self_attn.q_proj.";
    find_tensor(tensors, q + "weight").name = q + "base_layer.weight";
    save_tensors(folder.path(), tensors, 1);
    copy_other_files(tiny, folder.path());
    const std::string message = make_plan(folder.path(), {}).status().message();
    CHECK(message.find("tensor " + q + "weight of shape") != std::string::npos);
    CHECK(message.find("is the name of a weight inside a PEFT model: merge its adapter (merge_and_unload)") !=
          std::string::npos);
}

TEST_CASE("a folder without config.json says what it is") {
    const ScratchFolder folder;
    folder.save("adapter_config.json", "{}");
    folder.save("adapter_model.safetensors", "x");
    const std::string message = make_plan(folder.path(), {}).status().message();
    CHECK(message.find("config.json") != std::string::npos);
    CHECK(message.find("it holds an adapter (LoRA) alone: merge it into its base model") != std::string::npos);
}

TEST_CASE("weights of subfolders and whole checkpoints of training stay behind, and the plan says so") {
    const ScratchFolder folder;
    copy_other_files(tiny, folder.path());
    save_tensors(folder.path(), load_tensors(tiny), 1);
    for (const char * name : {"checkpoint-100", "original", "global_step7", "dense", "runs", "runs/a"})
        REQUIRE(make_directory(folder / name).ok());
    for (const char * name :
         {"checkpoint-100/model.safetensors", "checkpoint-100/config.json", "original/consolidated.00.safetensors",
          "original/params.json", "global_step7/x.txt", "dense/model.safetensors", "dense/model.safetensors.index.json",
          "dense/config.json", "dense/optimizer.pt", "runs/a/log.txt", "adapter_config.json"})
        folder.save(name, "x");
    REQUIRE(symlink("a", (folder / "runs/latest").c_str()) == 0);
    REQUIRE(symlink("..", (folder / "runs/up").c_str()) == 0);
    const Plan plan = make_plan(folder.path(), {}).take();
    const std::string notes = joined(plan.notes), names = names_of(plan);
    CHECK(names.find("dense/config.json ") != std::string::npos);
    CHECK(names.find("runs/a/log.txt ") != std::string::npos);
    for (const char * name :
         {"checkpoint-100", "original", "global_step7", "safetensors", "optimizer", "latest", "up/", "adapter"})
        CHECK_MESSAGE(names.find(name) == std::string::npos, name);
    for (const char * note : {"checkpoint-100 is not copied: a checkpoint of training\n",
                              "original is not copied: the weights in their original form\n",
                              "global_step7 is not copied: a state of training\n",
                              "dense/model.safetensors is not copied: weights in a subfolder are not the model's\n",
                              "dense/optimizer.pt is not copied: weights in another format\n",
                              "adapter_config.json is not copied: the config of an adapter",
                              "runs/latest is not copied: a link to the folder runs/a, which has its own name\n",
                              "runs/up is not copied: a link to a folder that holds it\n"})
        CHECK_MESSAGE(notes.find(note) != std::string::npos, note);
}

TEST_CASE("a Git LFS pointer among the files that a model needs is refused, another is left behind") {
    const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 13383448\n";
    const ScratchFolder folder;
    copy_other_files(tiny, folder.path());
    save_tensors(folder.path(), load_tensors(tiny), 1);
    folder.save("figure.png", pointer);
    CHECK(
        joined(make_plan(folder.path(), {}).value().notes).find("figure.png is not copied: it is a Git LFS pointer") !=
        std::string::npos);
    folder.save("tokenizer.json", pointer);
    const Status refused = make_plan(folder.path(), {}).take_status();
    CHECK(refused.code() == Code::format);
    CHECK(refused.message().find("tokenizer.json is a Git LFS pointer") != std::string::npos);
}

TEST_CASE("a draft head with another number of experts than the model is copied") {
    const ScratchFolder folder;
    std::vector<MemoryTensor> tensors = load_tensors(tiny);
    const int64_t experts = 24; // the model's are 32
    for (MemoryTensor & tensor : tensors) {
        const bool has_experts =
            ends_with(tensor.name, ".mlp.gate.weight") || tensor.name.find(".mlp.experts.") != std::string::npos;
        if (!starts_with(tensor.name, "mtp.") || !has_experts) continue;
        tensor.data.resize(tensor.data.size() / size_t(tensor.shape[0]) * size_t(experts));
        tensor.shape[0] = experts;
    }
    save_tensors(folder.path(), tensors, 1);
    copy_other_files(tiny, folder.path());
    const auto opened = make_plan(folder.path(), {});
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    const Plan & plan = opened.value();
    CHECK(plan.selection.count == 800);
    CHECK(joined(plan.notes).find("the draft head has 24 experts, the model 32; it keeps them") != std::string::npos);
    uint64_t bytes = 0;
    for (const PlanUnit & unit : plan.units) bytes += unit.source_bytes;
    CHECK(bytes == plan.checkpoint.tensor_bytes());
}
