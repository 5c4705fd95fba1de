#include "model/matched_checkpoint.h"

#include "formats/folder_hints.h"

#include <algorithm>

namespace gnv {

Result<std::string> read_config_text(const Folder & folder) {
    constexpr uint64_t limit = 16 << 20;
    Result<std::string> text = read_file(folder, "config.json", limit);
    if (text.ok() || text.status().code() != Code::not_found) return text;
    return fail(Code::not_found, text.status().message(), folder_hint(folder));
}

Result<JsonDocument> read_config(const Folder & folder) {
    GNV_ASSIGN(std::string text, read_config_text(folder));
    return JsonDocument::parse(std::move(text), join_path(folder.path(), "config.json"), JsonKeys::last_wins);
}

// --- Parts that lie elsewhere -----------------------------------------------------------------------------------------------

// What a tensor's name begins with if it belongs to the part under another name than the model's: "model.mtp.".
static std::string other_prefix(const std::string & name, const MissingPart & part) {
    for (const char * const spelling : part.spellings) {
        const size_t at = name.find(spelling);
        if (at == std::string::npos || (at > 0 && name[at - 1] != '.')) continue;
        const std::string prefix = name.substr(0, at + std::string_view(spelling).size());
        if (prefix != part.prefix) return prefix;
    }
    return "";
}

static Status check_spelling(const std::string & folder, const std::string & name, const MissingPart & part) {
    const std::string prefix = other_prefix(name, part);
    if (prefix.empty()) return {};
    return fail(Code::model, folder, ": config.json announces a ", part.what, ", whose tensors start with ",
                part.prefix, "; here they start with ", printable(prefix),
                ": rename them, engines look for no other name");
}

// Looks for a part that the checkpoint lacks in files that the index does not list. True when one was taken in.
static Result<bool> take_in_part(Checkpoint & checkpoint, const MissingPart & part) {
    for (const TensorInfo & tensor : checkpoint.tensors())
        GNV_TRY(check_spelling(checkpoint.folder(), tensor.name, part));
    const std::vector<std::string> files = checkpoint.unlisted();
    size_t taken = 0;
    for (const std::string & file : files) {
        if (is_side_weights(file)) continue;
        GNV_ASSIGN(const std::vector<std::string> names, checkpoint.names_in(file));
        for (const std::string & name : names) GNV_TRY(check_spelling(checkpoint.folder(), name, part));
        GNV_ASSIGN(const size_t count, checkpoint.take_in(file, part.prefix));
        taken += count;
    }
    return taken > 0;
}

// Why tensors may be missing although the folder has files with them.
static std::string missing_hint(const Checkpoint & checkpoint) {
    for (const TensorInfo & tensor : checkpoint.tensors()) {
        if (tensor.name.find(".base_layer.") != std::string::npos || starts_with(tensor.name, "base_model.model."))
            return concat("; ", printable(tensor.name),
                          " is the name of a weight inside a PEFT model: merge its adapter "
                          "(merge_and_unload) and save the model again");
        if (starts_with(tensor.name, "module.") || starts_with(tensor.name, "_orig_mod."))
            return concat("; ", printable(tensor.name),
                          " is the name of a weight inside a wrapper of training (DDP, "
                          "torch.compile): save the model that it wraps");
    }
    std::string files;
    for (const std::string & file : checkpoint.unlisted())
        if (!is_side_weights(file)) files += concat(files.empty() ? "" : ", ", printable(file));
    return files.empty() ? "" : concat("; not part of the checkpoint, as the index does not list it: ", files);
}

static Result<ModelLayout> match(const JsonDocument & config, const Checkpoint & checkpoint, Accept accept) {
    Result<ModelLayout> layout = match_model(config.root(), checkpoint, accept);
    if (layout.ok() || layout.status().code() != Code::model) return layout;
    return fail(Code::model, layout.status().message(), missing_hint(checkpoint));
}

Result<MatchedCheckpoint> open_matched(std::shared_ptr<const Folder> folder, Accept accept) {
    GNV_ASSIGN(JsonDocument config, read_config(*folder));
    GNV_ASSIGN(Checkpoint checkpoint, Checkpoint::open(std::move(folder)));
    GNV_ASSIGN(ModelLayout layout, match(config, checkpoint, accept));
    bool taken = false;
    for (const MissingPart & part : layout.missing) {
        GNV_ASSIGN(const bool found, take_in_part(checkpoint, part));
        taken = taken || found;
    }
    if (taken) {
        GNV_ASSIGN(layout, match(config, checkpoint, accept));
    }
    return MatchedCheckpoint{std::move(checkpoint), std::move(config), std::move(layout)};
}

} // namespace gnv
