#include "hub/model_files.h"

#include "checkpoint/checkpoint_names.h"
#include "formats/file.h"
#include "formats/json.h"
#include "hub/download.h"
#include "hub/hub_cache.h"

#include <algorithm>
#include <set>

namespace gnv {

namespace {

constexpr uint64_t most_index_bytes = 64 << 20;
constexpr uint64_t most_small_bytes = 512 << 20; // of a file that is no weight
constexpr size_t most_described = 4;

bool is_weight(const std::string & name) { return ends_with(name, ".safetensors"); }
bool is_index(const std::string & name) { return ends_with(name, ".safetensors.index.json"); }

// Parts of a model that repositories add beside the index: draft heads, vision towers (model/matched_checkpoint.h takes
// them in).
constexpr std::string_view part_words[] = {"mtp", "draft", "nextn", "vision", "visual"};

bool may_be_part(const std::string & name) {
    return std::any_of(std::begin(part_words), std::end(part_words),
                       [&](std::string_view word) { return name.find(word) != name.npos; });
}

// The shards that an index names.
Status read_index(const std::string & path, std::set<std::string> & shards) {
    GNV_ASSIGN(const JsonDocument document, JsonDocument::read(path, most_index_bytes, JsonKeys::last_wins));
    GNV_ASSIGN(const JsonValue map, document.root().get("weight_map"));
    return map.for_each_member([&](std::string_view, const JsonValue & value) -> Status {
        GNV_ASSIGN(const std::string_view shard, value.as_string());
        shards.emplace(shard);
        return {};
    });
}

} // namespace

std::string describe_files(const std::vector<RemoteFile> & files) {
    std::string out = concat(files.size(), files.size() == 1 ? " file, " : " files, ", bytes_text(bytes_of(files)));
    std::vector<const RemoteFile *> largest;
    for (const RemoteFile & file : files) largest.push_back(&file);
    std::stable_sort(largest.begin(), largest.end(),
                     [](const RemoteFile * a, const RemoteFile * b) { return a->size > b->size; });
    for (size_t i = 0; i < largest.size() && i < most_described; i++)
        out += (i == 0 ? ": " : ", ") + printable(largest[i]->name);
    return largest.size() > most_described ? out + ", ..." : out;
}

FileChoice choose_model_files(const RemoteListing & listing) {
    FileChoice out;
    for (const RemoteFile & file : listing.files) {
        const bool wanted = is_checkpoint_file(file.name);
        if (wanted && is_weight(file.name)) {
            out.weights.push_back(file);
        } else if (wanted && file.size <= most_small_bytes) {
            out.small.push_back(file);
        } else {
            out.left_out.push_back(file);
        }
    }
    return out;
}

Status follow_index(const std::string & folder, const std::string & subject, FileChoice & choice) {
    std::set<std::string> named;
    bool has_index = false;
    for (const RemoteFile & file : choice.small) {
        if (!is_index(file.name)) continue;
        has_index = true;
        GNV_TRY(read_index(join_path(folder, file.name), named));
    }
    if (!has_index) return {};
    const auto unnamed =
        std::stable_partition(choice.weights.begin(), choice.weights.end(), [&](const RemoteFile & file) {
            return named.count(file.name) > 0 || may_be_part(file.name);
        });
    choice.left_out.insert(choice.left_out.end(), unnamed, choice.weights.end());
    choice.weights.erase(unnamed, choice.weights.end());
    for (const RemoteFile & file : choice.weights) named.erase(file.name);
    if (named.empty()) return {};
    return fail(Code::format, subject, ": its index names ", printable(*named.begin()),
                ", which the repository lacks: report it to the authors");
}

std::string find_model_folder(const std::string & cache_folder, const RepositoryName & model) {
    const HubCache cache(cache_folder, model);
    const std::string commit = cache.find_commit(model.revision);
    if (commit.empty() || !is_directory(cache.snapshot(commit))) return "";
    const std::string folder = cache.snapshot(commit);
    const Result<std::vector<DirectoryEntry>> entries = list_directory(folder);
    if (!entries.ok()) return "";
    std::set<std::string> sound, shards;
    for (const DirectoryEntry & entry : entries.value())
        if (!entry.is_broken_link && !entry.is_directory) sound.insert(entry.name);
    bool has_weights = false;
    for (const std::string & name : sound) {
        if (is_index(name) && !read_index(join_path(folder, name), shards).ok()) return "";
        has_weights |= is_weight(name);
    }
    const bool has_shards = std::includes(sound.begin(), sound.end(), shards.begin(), shards.end());
    return sound.count("config.json") && has_weights && has_shards ? folder : "";
}

Result<ModelListing> list_model(const HubOptions & hub, const RepositoryName & model) {
    GNV_ASSIGN(const RemoteListing listing, list_repository(hub, model));
    ModelListing out{listing.commit, choose_model_files(listing)};
    if (!out.files.weights.empty() && listing.find("config.json")) return out;
    return fail(Code::model, model.text(),
                out.files.weights.empty() ? ": holds no *.safetensors" : ": holds no config.json",
                ", and so no checkpoint that this program reads (", describe_files(listing.files),
                "): name the repository of the safetensors");
}

Status fetch_small_files(const HubOptions & hub, const RepositoryName & model, ModelListing & listing) {
    HubOptions quiet = hub;
    quiet.progress = [&hub](const HubProgress &) { return !hub.progress || hub.progress({}); };
    GNV_TRY(download_files(quiet, model, listing.commit, listing.files.small));
    return follow_index(HubCache(hub.cache, model).snapshot(listing.commit), model.text(), listing.files);
}

Result<std::string> fetch_model(const HubOptions & hub, const RepositoryName & model, bool list_only) {
    if (std::string folder = find_model_folder(hub.cache, model); !folder.empty()) return folder;
    GNV_ASSIGN(ModelListing listing, list_model(hub, model));
    const FileChoice & choice = listing.files;
    const HubCache cache(hub.cache, model);
    hub.tell(concat(model.text(), "@", printable(model.revision), " is commit ", listing.commit, ": ",
                    choice.small.size() + choice.weights.size(), " files, ",
                    bytes_text(bytes_of(choice.small) + bytes_of(choice.weights)), ", to ", cache.folder()));
    if (list_only) {
        if (!choice.left_out.empty()) hub.tell("not needed: " + describe_files(choice.left_out));
        return std::string();
    }
    GNV_TRY(cache.prepare());
    std::vector<RemoteFile> all = choice.small;
    all.insert(all.end(), choice.weights.begin(), choice.weights.end());
    Status room = check_room(cache, all); // at most: an index may need fewer weights
    if (room.code() == Code::no_space)
        return fail(Code::no_space, room.message(), "; quantize --stream needs only room for a few of the files");
    GNV_TRY(std::move(room));
    GNV_TRY(fetch_small_files(hub, model, listing));
    if (!choice.left_out.empty()) hub.tell("not needed, and not downloaded: " + describe_files(choice.left_out));
    GNV_TRY(download_files(hub, model, listing.commit, choice.weights));
    GNV_TRY(cache.set_reference(model.revision, listing.commit));
    return cache.snapshot(listing.commit);
}

} // namespace gnv
