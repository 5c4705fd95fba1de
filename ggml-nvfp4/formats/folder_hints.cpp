#include "formats/folder_hints.h"

#include <algorithm>

namespace gnv {

namespace {

constexpr std::string_view side_weights[] = {"adapter_", "optimizer", "scheduler", "random_states", "rng_state"};

// One kind of folder, by an entry whose name begins and ends so.
struct Kind {
    std::string_view begin, end;
    const char * hint;
};
constexpr Kind kinds[] = {
    {"adapter_", "", "it holds an adapter (LoRA) alone: merge it into its base model and give that folder"},
    {"models--", "", "it is the hub's cache: give ORG/NAME, or the folder models--ORG--NAME/snapshots/REVISION"},
    {"checkpoint-", "", "it is the folder of a training run: give one of its checkpoints"},
    {"global_step", "", "it holds a training state: convert it to safetensors (zero_to_fp32.py) first"},
    {"", ".gguf",
     "its weights are GGUF, quantized or converted already: start from the safetensors they were made from"},
    {"", ".bin", "its weights are PyTorch files: save the model as safetensors first"},
    {"", ".pt", "its weights are PyTorch files: save the model as safetensors first"},
    {"", ".pth", "its weights are PyTorch files: save the model as safetensors first"},
};

} // namespace

bool is_side_weights(std::string_view name) {
    return std::any_of(std::begin(side_weights), std::end(side_weights),
                       [&](std::string_view begin) { return starts_with(name, begin); });
}

std::string folder_hint(const Folder & folder) {
    Result<std::vector<DirectoryEntry>> entries = folder.list();
    if (!entries.ok()) return "";
    for (const DirectoryEntry & entry : entries.value()) {
        if (entry.name != "snapshots" || !entry.is_directory) continue;
        const std::string path = join_path(folder.path(), entry.name);
        const Result<std::vector<DirectoryEntry>> revisions = list_directory(path);
        const bool any = revisions.ok() && !revisions.value().empty();
        return concat("; it is a repository of the hub's cache: give ",
                      printable(join_path(path, any ? revisions.value().back().name : "REVISION")));
    }
    for (const Kind & kind : kinds)
        for (const DirectoryEntry & entry : entries.value())
            if (starts_with(entry.name, kind.begin) && ends_with(entry.name, kind.end)) return concat("; ", kind.hint);
    return "";
}

} // namespace gnv
