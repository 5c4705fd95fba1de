// Which files of a data set belong to a configuration and a split.
#include "hub/dataset_files.h"

#include <algorithm>
#include <map>

namespace gnv {

namespace {

constexpr uint64_t most_bytes = uint64_t(4) << 30; // a calibration reads a few hundred rows
constexpr size_t most_named = 12;                  // in a message

// The formats that data/ reads, the best for rows first. `datasets` reads one format of a repository, too.
constexpr std::string_view endings[] = {".parquet", ".arrow",    ".feather", ".jsonl", ".jsonl.zst", ".jsonl.gz",
                                        ".ndjson",  ".json.zst", ".json.gz", ".json",  ".csv",       ".csv.gz",
                                        ".tsv",     ".txt.zst",  ".txt.gz",  ".txt"};
constexpr std::string_view info_files[] = {
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json",       "croissant.json", "config.json",
    "README.txt",        "LICENSE.txt",        "license.txt",       "requirements.txt", "metadata.json"};

struct SplitWord {
    std::string_view word, split;
};
constexpr SplitWord split_words[] = {{"train", "train"},           {"training", "train"},   {"test", "test"},
                                     {"testing", "test"},          {"eval", "test"},        {"evaluation", "test"},
                                     {"validation", "validation"}, {"valid", "validation"}, {"val", "validation"},
                                     {"dev", "validation"}};

size_t ending_of(const std::string & name) { // its place in the list, or the list's size
    const std::string base = name.substr(name.rfind('/') + 1);
    if (base[0] == '.' || std::find(std::begin(info_files), std::end(info_files), base) != std::end(info_files))
        return std::size(endings);
    for (size_t i = 0; i < std::size(endings); i++)
        if (ends_with(name, endings[i])) return i;
    return std::size(endings);
}

// The split that a word of the path names, "data/train-00000-of-00002.parquet"; "" for none. The last word counts.
std::string split_of(std::string_view path) {
    std::string split, word;
    for (size_t i = 0; i <= path.size(); i++) {
        const char c = i < path.size() ? path[i] : '/';
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
            word += c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
            continue;
        }
        for (const SplitWord & row : split_words)
            if (word == row.word) split = row.split;
        word.clear();
    }
    return split;
}

// The first folder, unless it is called after a split or "data".
std::string config_of(const std::string & path) {
    const size_t slash = path.find('/');
    const std::string folder = slash == path.npos ? "" : path.substr(0, slash);
    return folder == "data" || !split_of(folder).empty() ? "" : folder;
}

// "*" stands for any text without "/", "**" for any text, "?" for a character. After a mismatch the last star takes one more
// character or, where it may not, the last "**" does.
bool matches(std::string_view pattern, std::string_view name) {
    struct Star {
        size_t pattern = std::string_view::npos, name = 0; // where both go on behind it
    };
    Star part, path;
    size_t p = 0, n = 0;
    while (n < name.size()) {
        if (p + 1 < pattern.size() && pattern[p] == '*' && pattern[p + 1] == '*') {
            p += 2;
            if (p < pattern.size() && pattern[p] == '/') p++; // "**/" also stands for nothing
            path = {p, n}, part = {};
        } else if (p < pattern.size() && pattern[p] == '*') {
            part = {++p, n};
        } else if (p < pattern.size() && (pattern[p] == name[n] || (pattern[p] == '?' && name[n] != '/'))) {
            p++, n++;
        } else if (part.pattern != pattern.npos && name[part.name] != '/') {
            p = part.pattern, n = ++part.name;
        } else if (path.pattern != pattern.npos) {
            p = path.pattern, n = ++path.name, part = {};
        } else {
            return false;
        }
    }
    while (p < pattern.size() && pattern[p] == '*') p++;
    return p == pattern.size();
}

using Splits = std::vector<std::pair<std::string, std::vector<RemoteFile>>>; // in the order of the metadata

void add_matching(const RemoteListing & listing, const std::string & folder, const std::string & pattern,
                  std::vector<RemoteFile> & out) {
    const std::string whole = folder.empty() ? pattern : folder + "/" + pattern;
    for (const RemoteFile & file : listing.files)
        if (matches(whole, file.name) && ending_of(file.name) < std::size(endings)) out.push_back(file);
}

// Files by the split that their names tell, of one format. Without any such word all are "train".
Splits splits_by_name(std::vector<RemoteFile> files) {
    size_t best = std::size(endings);
    for (const RemoteFile & file : files) best = std::min(best, ending_of(file.name));
    std::map<std::string, std::vector<RemoteFile>> found;
    for (const RemoteFile & file : files)
        if (ending_of(file.name) == best && best < std::size(endings)) found[split_of(file.name)].push_back(file);
    if (found.size() == 1 && found.begin()->first.empty()) return {{"train", std::move(found.begin()->second)}};
    Splits out;
    for (auto & [split, list] : found) out.emplace_back(split, std::move(list));
    return out;
}

// The splits of a configuration of the metadata.
Splits splits_of_config(const RemoteListing & listing, const YamlNode & config) {
    std::string folder = text_at(config, "data_dir");
    while (!folder.empty() && folder.back() == '/') folder.pop_back();
    if (folder == ".") folder.clear();
    const YamlNode * const data = config.find("data_files");
    if (!data) {
        std::vector<RemoteFile> files;
        add_matching(listing, folder, "**", files);
        return splits_by_name(std::move(files));
    }
    Splits out;
    const auto add = [&](const std::string & split, const YamlNode & paths) {
        auto found = std::find_if(out.begin(), out.end(), [&](const auto & entry) { return entry.first == split; });
        if (found == out.end()) found = out.insert(out.end(), {split, {}});
        for (const std::string & pattern : texts_of(&paths)) add_matching(listing, folder, pattern, found->second);
    };
    if (!texts_of(data).empty()) add("train", *data);
    for (const YamlNode & item : data->items)
        if (const YamlNode * const path = item.find("path"))
            add(text_at(item, "split").empty() ? "train" : text_at(item, "split"), *path);
    return out;
}

std::string join_names(const std::vector<std::string> & names) {
    std::string out;
    for (size_t i = 0; i < names.size() && i < most_named; i++) out += (i == 0 ? "" : ", ") + printable(names[i]);
    return names.size() > most_named ? out + ", ..." : out;
}

// The wanted name, or the first of `usual` that there is, or the first of all. npos: the wanted one is not there.
size_t pick(const std::vector<std::string> & names, const std::string & wanted,
            std::initializer_list<const char *> usual) {
    const auto place = [&](const std::string & name) {
        return size_t(std::find(names.begin(), names.end(), name) - names.begin());
    };
    if (!wanted.empty()) return place(wanted) < names.size() ? place(wanted) : std::string::npos;
    for (const char * name : usual)
        if (place(name) < names.size()) return place(name);
    return 0;
}

Status unknown(const DatasetName & wanted, const char * kind, const std::string & name,
               const std::vector<std::string> & names) {
    return fail(Code::not_found, wanted.repository.text(), ": has no ", kind, " \"", printable(name), "\"; it has ",
                join_names(names));
}

} // namespace

Result<DatasetChoice> choose_dataset_files(const RemoteListing & listing, const YamlNode & metadata,
                                           const DatasetName & wanted) {
    DatasetChoice out;
    std::vector<std::string> configs;
    std::vector<Splits> splits;
    if (const YamlNode * const list = metadata.find("configs")) {
        for (const YamlNode & config : list->items) {
            if (!config.is_map()) continue;
            const std::string name = text_at(config, "config_name");
            const bool is_default = text_at(config, "default") == "true";
            configs.insert(is_default ? configs.begin() : configs.end(), name.empty() ? "default" : name);
            splits.insert(is_default ? splits.begin() : splits.end(), splits_of_config(listing, config));
            if (is_default && wanted.config.empty()) out.config = configs.front();
        }
    }
    if (configs.empty()) {
        std::map<std::string, std::vector<RemoteFile>> folders;
        for (const RemoteFile & file : listing.files)
            if (ending_of(file.name) < std::size(endings)) folders[config_of(file.name)].push_back(file);
        for (auto & [name, files] : folders) {
            configs.push_back(name);
            splits.push_back(splits_by_name(std::move(files)));
        }
    }
    if (configs.empty())
        return fail(Code::not_found, wanted.repository.text(),
                    ": holds no data files that this program reads; try its copy "
                    "as Parquet: hub:",
                    wanted.repository.text(), "@refs/convert/parquet");
    const std::string & wish = wanted.config.empty() ? out.config : wanted.config;
    const size_t config = pick(configs, wish, {"default", "", "main"});
    if (config == std::string::npos) return unknown(wanted, "configuration", wanted.config, configs);
    std::vector<std::string> names;
    for (const auto & [name, files] : splits[config]) names.push_back(name);
    const size_t split = pick(names, wanted.split, {"train", ""});
    if (split == std::string::npos) return unknown(wanted, "split", wanted.split, names);
    out.config = configs[config];
    if (!names.empty()) {
        out.split = names[split];
        out.files = splits[config][split].second;
    }
    const auto by_name = [](const RemoteFile & a, const RemoteFile & b) { return a.name < b.name; };
    std::sort(out.files.begin(), out.files.end(), by_name);
    out.files.erase(std::unique(out.files.begin(), out.files.end(),
                                [](const RemoteFile & a, const RemoteFile & b) { return a.name == b.name; }),
                    out.files.end());
    if (out.files.empty())
        return fail(Code::not_found, wanted.repository.text(), ": its configuration \"", printable(out.config),
                    "\" names no data files of a known format");
    uint64_t bytes = 0;
    size_t kept = 0;
    for (; kept < out.files.size() && (kept == 0 || bytes + out.files[kept].size <= most_bytes); kept++)
        bytes += out.files[kept].size;
    out.left_out = out.files.size() - kept;
    out.files.resize(kept);
    configs.erase(configs.begin() + std::ptrdiff_t(config));
    if (!configs.empty() && wanted.config.empty()) out.note = "other configurations: " + join_names(configs);
    return out;
}

Result<DatasetName> parse_dataset_name(const std::string & text) {
    DatasetName out;
    const size_t colon = text.find(':');
    GNV_ASSIGN(out.repository, parse_repository_name(RepositoryKind::dataset, text.substr(0, colon)));
    if (colon == text.npos) return out;
    const size_t second = text.find(':', colon + 1);
    out.config = text.substr(colon + 1, second == text.npos ? text.npos : second - colon - 1);
    if (second != text.npos) out.split = text.substr(second + 1);
    if (out.split.find(':') != text.npos || out.config.find('/') != text.npos || out.split.find('/') != text.npos)
        return fail(Code::invalid_argument, "\"", printable(text),
                    "\": ORG/NAME[@REVISION][:CONFIG[:SPLIT]] is wanted");
    return out;
}

} // namespace gnv
