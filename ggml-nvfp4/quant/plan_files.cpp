#include "quant/plan_files.h"

#include "checkpoint/checkpoint_names.h"
#include "formats/folder_hints.h"
#include "formats/json.h"
#include "output/file_id.h"
#include "output/journal.h"

#include <algorithm>

namespace gnv {

namespace {

// Weights in other formats: the result does not need another copy of the model.
const char * const skipped_suffixes[] = {".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".ckpt"};
// Folders that training leaves beside a model, or that hold the model once more.
struct SideFolder {
    std::string_view begin;
    bool is_whole_name;
    const char * what;
};
constexpr SideFolder side_folders[] = {
    {"checkpoint-", false, "a checkpoint of training"},
    {"global_step", false, "a state of training"},
    {"original", true, "the weights in their original form"},
};
constexpr uint64_t longest_pointer = 1024;      // of Git LFS
constexpr uint64_t most_json_bytes = 256 << 20; // of a file that is read before it is copied
constexpr size_t most_files = 100'000;          // links among folders can make any number of names from few files

bool is_inside(const std::string & path, const std::string & folder) {
    return path == folder || starts_with(path, folder == "/" ? folder : folder + "/");
}

// The run's own files. The source's README.md describes the source: the result has a card of its own (hub/card/model_card.h).
bool is_replaced(const std::string & name) {
    return name == "config.json" || name == "README.md" || name == index_file_name || name == recipe_file_name ||
           name == quantization_report_name || (ends_with(name, ".safetensors") && name.find('/') == std::string::npos);
}

bool is_weights(const std::string & file_name) {
    return ends_with(file_name, ".safetensors") || ends_with(file_name, ".safetensors.index.json");
}

class FileSearch {
  public:
    static Result<OtherFiles> run(const std::string & source) {
        FileSearch search;
        GNV_ASSIGN(const std::string root, canonical_path(source));
        search.roots_.push_back(root);
        GNV_TRY(search.add_hub_cache(root));
        GNV_TRY(search.visit(source, ""));
        return std::move(search.found_);
    }

  private:
    // models--ORG--NAME/snapshots/REVISION holds links to models--ORG--NAME/blobs. A folder that a hub's client made
    // elsewhere may also hold them: then the weights or the config are such links.
    Status add_hub_cache(const std::string & root) {
        const std::string snapshots = parent_path(root);
        if (base_name(snapshots) == "snapshots") {
            const Result<std::string> blobs = canonical_path(join_path(parent_path(snapshots), "blobs"));
            if (blobs.ok()) roots_.push_back(blobs.value());
        }
        GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(root));
        for (const DirectoryEntry & entry : entries) {
            if (!entry.is_link || entry.is_broken_link || !is_replaced(entry.name)) continue;
            GNV_ASSIGN(const std::string target, canonical_path(join_path(root, entry.name)));
            const std::string blobs = parent_path(target);
            if (base_name(blobs) == "blobs" && starts_with(base_name(parent_path(blobs)), "models--"))
                roots_.push_back(blobs);
        }
        return {};
    }

    void leave(const std::string & name, const std::string & why) {
        found_.notes.push_back(printable_line(concat(name, " is not copied: ", why)));
    }

    Status visit(const std::string & folder, const std::string & prefix) {
        GNV_ASSIGN(const std::vector<FileId> trail, lookup_trail(folder));
        if (std::find(open_.begin(), open_.end(), trail.back()) != open_.end()) {
            leave(prefix.substr(0, prefix.size() - 1), "a link to a folder that holds it");
            return {};
        }
        open_.push_back(trail.back());
        GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(folder));
        for (const DirectoryEntry & entry : entries)
            GNV_TRY(visit_entry(entry, join_path(folder, entry.name), prefix + entry.name));
        open_.pop_back();
        return {};
    }

    Status visit_entry(const DirectoryEntry & entry, const std::string & path, const std::string & name) {
        if (!entry.is_directory && is_replaced(name)) return {};
        if (is_hidden(entry.name) && (entry.is_directory || !is_hidden_checkpoint_file(entry.name))) {
            leave(name, entry.is_directory ? "a hidden folder" : "a hidden file");
            return {};
        }
        const bool skipped = std::any_of(std::begin(skipped_suffixes), std::end(skipped_suffixes),
                                         [&](const char * suffix) { return ends_with(entry.name, suffix); });
        if (!entry.is_directory && skipped) {
            leave(name, "weights in another format");
            return {};
        }
        if (entry.is_directory) {
            for (const SideFolder & side : side_folders) {
                if (side.is_whole_name ? entry.name != side.begin : !starts_with(entry.name, side.begin)) continue;
                leave(name, side.what);
                return {};
            }
        } else if (name != entry.name && is_weights(entry.name)) {
            leave(name, "weights in a subfolder are not the model's");
            return {};
        } else if (name == "adapter_config.json") {
            leave(name, "the config of an adapter, which is not part of the model");
            return {};
        }
        if (name == journal_name) {
            leave(name, "a run has its journal under this name");
            return {};
        }
        if (entry.is_broken_link)
            return fail(Code::format, path, " is a link to a file that is missing; complete the download");
        bool follows = true;
        if (entry.is_link) GNV_TRY(check_link(path, name, follows));
        if (!follows) return {};
        if (entry.is_directory && entry.is_link) GNV_TRY(check_folder_link(path, name, follows));
        if (!follows) return {};
        if (entry.is_directory) return visit(path, name + "/");
        GNV_ASSIGN(const File file, File::open_read(path));
        GNV_ASSIGN(const FileStamp stamp, file.stamp());
        GNV_ASSIGN(const bool is_pointer, begins_as_pointer(file, stamp.size));
        if (is_pointer && is_needed_file(name)) return fail(Code::format, path, " ", lfs_pointer_text);
        if (is_pointer) {
            leave(name, concat("it ", lfs_pointer_text));
            return {};
        }
        // No engine starts with a config or tokenizer that was cut, and the result would have the same bytes.
        if (is_needed_file(name) && ends_with(name, ".json")) GNV_TRY(check_json(path));
        found_.files.push_back({name, stamp.size, stamp});
        if (found_.files.size() <= most_files) return {};
        return fail(Code::unsupported, path, ": more than ", most_files, " files lie beside the weights");
    }

    static Result<bool> begins_as_pointer(const File & file, uint64_t size) {
        if (size < lfs_pointer_begin.size() || size > longest_pointer) return false;
        std::string begin(lfs_pointer_begin.size(), '\0');
        GNV_TRY(file.read(begin.data(), begin.size(), 0));
        return is_lfs_pointer(begin);
    }

    static Status check_json(const std::string & path) {
        constexpr const char * remedy = "; copy or download the file again";
        const Result<JsonDocument> parsed = JsonDocument::read(path, most_json_bytes, JsonKeys::last_wins);
        if (parsed.ok() && parsed.value().root().is_object()) return {};
        if (parsed.ok()) return fail(Code::format, path, ": expected an object", remedy);
        const Status & status = parsed.status();
        return status.code() == Code::format ? fail(status.code(), status.message(), remedy) : copy_of(status);
    }

    // A folder of the source is copied once, under its own name.
    Status check_folder_link(const std::string & path, const std::string & name, bool & follows) {
        GNV_ASSIGN(const std::string target, canonical_path(path));
        if (!is_inside(target, roots_[0])) return {};
        const std::string inner = target.substr(std::min(target.size(), roots_[0].size()));
        if (inner.find("/.") != std::string::npos) return {}; // hidden: nothing is copied from there
        follows = false;
        const std::string place = canonical_parent(path);
        leave(name, is_inside(place, target)
                        ? std::string("a link to a folder that holds it")
                        : concat("a link to the folder ", inner.substr(1), ", which has its own name"));
        return {};
    }

    static std::string canonical_parent(const std::string & path) {
        const Result<std::string> parent = canonical_path(parent_path(path));
        return parent.ok() ? parent.value() : parent_path(path);
    }

    // Whoever makes the source could else have any file of this machine published with the result.
    Status check_link(const std::string & path, const std::string & name, bool & follows) {
        GNV_ASSIGN(const std::string target, canonical_path(path));
        follows = std::any_of(roots_.begin(), roots_.end(),
                              [&](const std::string & root) { return is_inside(target, root); });
        if (follows) return {};
        if (is_needed_file(name))
            return fail(Code::invalid_argument, path, " is a link to ", target,
                        ", outside the source and the hub's cache, and is not followed; put the file in its place");
        leave(name, "a link to " + target + ", outside the source");
        return {};
    }

    std::vector<std::string> roots_; // where links may lead
    std::vector<FileId> open_;       // the folders on the way to the present entry
    OtherFiles found_;
};

} // namespace

Result<OtherFiles> find_other_files(const std::string & source) { return FileSearch::run(source); }

} // namespace gnv
