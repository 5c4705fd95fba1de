#include "hub/dataset_files.h"

#include "formats/file.h"
#include "hub/download.h"
#include "hub/hub_cache.h"
#include "hub/model_files.h"

#include <cerrno>
#include <unistd.h>

namespace gnv {

namespace {

constexpr uint64_t most_readme_bytes = 16 << 20;

// Beside the folders of huggingface_hub, which does not look at others in a repository's folder.
std::string view_folder(const HubCache & cache, const std::string & commit) {
    return cache.folder() + "/selections/" + commit;
}

// The name that reports give the data: "org--name", "org--name,config,split".
std::string view_name(const DatasetName & dataset) {
    std::string out = dataset.repository.organization + "--" + dataset.repository.name;
    if (!dataset.config.empty() || !dataset.split.empty()) out += "," + escape_word(dataset.config);
    if (!dataset.split.empty()) out += "," + escape_word(dataset.split);
    return out;
}

// A folder of links, all of which lead to files.
bool is_complete(const std::string & folder) {
    const Result<std::vector<DirectoryEntry>> entries = list_directory(folder);
    if (!entries.ok() || entries.value().empty()) return false;
    for (const DirectoryEntry & entry : entries.value())
        if (entry.is_broken_link) return false;
    return true;
}

// Made under another name and then renamed: a folder of that name is complete.
Status make_view(const std::string & folder, const std::string & commit, const std::vector<RemoteFile> & files) {
    const std::string fresh = concat(folder, ".", getpid(), ".new");
    for (const std::string & old : {fresh, folder})
        if (path_exists(old)) GNV_TRY(remove_tree(old));
    GNV_TRY(make_folders(fresh));
    for (size_t i = 0; i < files.size(); i++) {
        std::string number = std::to_string(i);
        number.insert(0, number.size() < 6 ? 6 - number.size() : 0, '0');
        const std::string link = concat(fresh, "/", number, "-", base_name(files[i].name));
        const std::string target = concat("../../../snapshots/", commit, "/", files[i].name);
        if (symlink(target.c_str(), link.c_str()) != 0) return system_failure(errno, "cannot make the link ", link);
    }
    if (rename(fresh.c_str(), folder.c_str()) == 0) return {};
    return system_failure(errno, "cannot rename ", fresh);
}

Result<YamlNode> read_metadata(const HubOptions & hub, const DatasetName & dataset, const RemoteListing & listing,
                               const HubCache & cache) {
    const RemoteFile * const readme = listing.find("README.md");
    YamlNode none;
    none.type = YamlNode::Type::map;
    if (!readme || readme->size > most_readme_bytes) return none;
    GNV_TRY(download_files(hub, dataset.repository, listing.commit, {*readme}));
    GNV_ASSIGN(const std::string text, read_file(cache.snapshot(listing.commit) + "/README.md", most_readme_bytes));
    Result<YamlNode> metadata = parse_front_matter(text, dataset.repository.text() + ": README.md");
    if (metadata.ok()) return metadata;
    hub.tell(metadata.status().message() + "; files are chosen by their names");
    return none;
}

} // namespace

Result<std::string> fetch_dataset(const HubOptions & hub, const DatasetName & dataset, bool offline) {
    const std::string subject = dataset.repository.text();
    const HubCache cache(hub.cache, dataset.repository);
    if (const std::string commit = cache.find_commit(dataset.repository.revision); !commit.empty()) {
        const std::string folder = view_folder(cache, commit) + "/" + view_name(dataset);
        if (is_complete(folder)) return folder;
    }
    if (offline)
        return fail(Code::not_found, subject, ": is not in the hub's cache ", hub.cache,
                    " in this configuration, and HF_HUB_OFFLINE forbids to download it");
    GNV_ASSIGN(const RemoteListing listing, list_repository(hub, dataset.repository));
    GNV_TRY(cache.prepare());
    HubOptions quiet = hub;
    quiet.progress = [&hub](const HubProgress &) { return !hub.progress || hub.progress({}); };
    GNV_ASSIGN(const YamlNode metadata, read_metadata(quiet, dataset, listing, cache));
    GNV_ASSIGN(const DatasetChoice choice, choose_dataset_files(listing, metadata, dataset));
    hub.tell(concat(
        subject, "@", printable(dataset.repository.revision), " is commit ", listing.commit,
        choice.config.empty() ? "" : ": configuration " + printable(choice.config),
        choice.split.empty() ? "" : concat(choice.config.empty() ? ": split " : ", split ", printable(choice.split)),
        ": ", describe_files(choice.files)));
    if (!choice.note.empty()) hub.tell(concat(subject, ": ", choice.note, " (hub:", subject, ":CONFIGURATION:SPLIT)"));
    if (choice.left_out > 0)
        hub.tell(concat(subject, ": the first ", choice.files.size(), " of ", choice.files.size() + choice.left_out,
                        " files are taken, which are enough to calibrate"));
    GNV_TRY(check_room(cache, choice.files));
    GNV_TRY(download_files(hub, dataset.repository, listing.commit, choice.files));
    const std::string folder = view_folder(cache, listing.commit) + "/" + view_name(dataset);
    GNV_TRY(make_folders(parent_path(folder)));
    GNV_TRY(make_view(folder, listing.commit, choice.files));
    GNV_TRY(cache.set_reference(dataset.repository.revision, listing.commit));
    return folder;
}

} // namespace gnv
