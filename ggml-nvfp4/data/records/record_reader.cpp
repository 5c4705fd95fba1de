#include "data/records/record_reader.h"

#include "data/files/decoders.h"
#include "data/records/readers.h"
#include "formats/file.h"
#include "formats/json.h"

#include <algorithm>

namespace gnv {

namespace {

struct Format {
    const char * ending;
    OpenedRecords (*open)(const std::string &, const std::vector<std::string> &, const ReadControl &);
    bool may_be_compressed;
};

constexpr Format formats[] = {
    {".jsonl", open_json_lines, true},         {".ndjson", open_json_lines, true},
    {".json", open_json_array, true},          {".csv", open_csv_records, true},
    {".tsv", open_tsv_records, true},          {".txt", open_text_document, true},
    {".parquet", open_parquet_records, false}, {".arrow", open_arrow_records, false},
    {".feather", open_arrow_records, false},
};
constexpr const char * endings_text =
    ".jsonl, .json, .csv, .tsv, .txt (each also as .gz or .zst), .parquet, .arrow and .feather";

// Files that hubs and libraries put beside the data, and that hold none.
constexpr std::string_view info_files[] = {
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json",   "metadata.json", "config.json",
    "package.json",      "croissant.json",     "LICENSE.txt",       "license.txt",  "README.txt",    "requirements.txt",
    "SHA256SUMS.txt",    "checksums.txt",      "NOTICE.txt",        "CITATION.txt",
};

bool is_info_file(const std::string & name) {
    return std::find(std::begin(info_files), std::end(info_files), name) != std::end(info_files);
}

// What `datasets` keeps of map() and filter() beside the data: "cache-", 16 digits, perhaps parts, ".arrow".
bool is_cached_result(std::string_view name) {
    constexpr std::string_view begin = "cache-";
    constexpr size_t digits = 16;
    return name.starts_with(begin) && has_ending(name, ".arrow") && name.size() > begin.size() + digits &&
           name.substr(begin.size(), digits).find_first_not_of("0123456789abcdef") == name.npos;
}

constexpr int deepest_folder = 16; // a symbolic link may lead back up
constexpr size_t most_folders = 20'000;
constexpr uint64_t max_state_bytes = 16 << 20;

const Format * find_format(const std::string & path) {
    std::string_view name = path;
    const bool compressed = !compressed_ending(name).empty();
    name.remove_suffix(compressed_ending(name).size());
    for (const Format & format : formats)
        if (has_ending(name, format.ending) && (format.may_be_compressed || !compressed)) return &format;
    return nullptr;
}

constexpr const char * name_a_folder = "; name the folder that holds the files";

class FileLister {
  public:
    FileLister(const ReadControl & control, MemoryShare & share) : control_(control), share_(share) {}

    Status list(const std::string & folder, int depth) {
        if (depth > deepest_folder)
            return fail(Code::invalid_argument, folder, ": folders nested too deeply, or a link in a circle",
                        name_a_folder);
        if (++folders_ > most_folders)
            return fail(Code::invalid_argument, folder, ": more than ", most_folders,
                        " folders, or links that lead to the same ones again and again", name_a_folder);
        GNV_TRY(control_.check());
        GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(folder));
        GNV_ASSIGN(const bool saved, list_saved(folder, entries));
        if (saved) return {};
        for (const DirectoryEntry & entry : entries) {
            const std::string path = join_path(folder, entry.name);
            if (is_cached_result(entry.name)) continue;
            if (entry.name[0] == '.' || (!entry.is_directory && is_info_file(entry.name))) continue;
            if (entry.is_directory) GNV_TRY(list(path, depth + 1));
            if (!entry.is_directory && find_format(path)) GNV_TRY(add(path));
        }
        return {};
    }

    // A folder of Arrow files that save_to_disk() wrote: its state names the files of the data set, beside which `datasets`
    // keeps results of map() and filter(). False where the folder is another one.
    Result<bool> list_saved(const std::string & folder, const std::vector<DirectoryEntry> & entries) {
        const std::string state = join_path(folder, "state.json");
        const bool has_arrow = std::any_of(entries.begin(), entries.end(), [](const DirectoryEntry & entry) {
            return has_ending(entry.name, ".arrow");
        });
        if (!has_arrow || !path_exists(state) || is_directory(state)) return false;
        GNV_ASSIGN(const JsonDocument document, JsonDocument::read(state, max_state_bytes, JsonKeys::last_wins));
        JsonValue list, indices;
        if (!document.root().is_object() || !document.root().find("_data_files", list) || !list.is_array())
            return false;
        for (const char * const key : {"_indices_data_files", "_indices_files"})
            if (document.root().find(key, indices) && indices.is_array() && indices.array_size().value() > 0)
                return fail(Code::unsupported, folder,
                            ": a choice of rows that lies in files of its own: write it anew, in "
                            "Python: data.flatten_indices().save_to_disk(...)");
        GNV_TRY(list.for_each_element([&](size_t, const JsonValue & item) -> Status {
            GNV_ASSIGN(const JsonValue value, item.get("filename"));
            GNV_ASSIGN(const std::string_view name, value.as_string());
            const std::string path = join_path(folder, base_name(std::string(name)));
            if (name != base_name(std::string(name)) || name.empty() || name == "." || name == "..")
                return fail(Code::format, value.where(), ": \"", printable(name),
                            "\" is no file of this folder; copy the data set again");
            if (!path_exists(path) || is_directory(path))
                return fail(Code::format, path, ": is missing, state.json names it: complete the copy");
            if (!find_format(path))
                return fail(Code::invalid_argument, path, ": no data file by its name; known are ", endings_text);
            return add(path);
        }));
        return true;
    }

    Status add(const std::string & path) {
        const uint64_t bytes = 4 * (path.size() + sizeof(std::string)); // in this list and in the report
        if (!share_.resize(share_.bytes() + bytes))
            return control_.too_small(
                concat(path, ": a list of ", files.size() + 1, files.empty() ? " file" : " files"), bytes);
        files.push_back(path);
        return {};
    }

    std::vector<std::string> files;

  private:
    const ReadControl & control_;
    MemoryShare & share_;
    size_t folders_ = 0;
};

} // namespace

Result<std::unique_ptr<RecordReader>> open_records(const std::string & path, const std::vector<std::string> & wanted,
                                                   const ReadControl & control) {
    const Format * const format = find_format(path);
    if (!format) return fail(Code::invalid_argument, path, ": no data file by its name; known are ", endings_text);
    return format->open(path, wanted, control);
}

Result<std::vector<std::string>> list_data_files(const std::string & path, const ReadControl & control,
                                                 MemoryShare & share) {
    FileLister lister(control, share);
    if (is_directory(path)) {
        GNV_TRY(lister.list(path, 0));
        std::sort(lister.files.begin(), lister.files.end());
        if (lister.files.empty())
            return fail(Code::not_found, path, ": no data files in this folder; known are ", endings_text);
    } else if (!path_exists(path)) {
        return fail(Code::not_found, path, ": no such file or folder");
    } else if (!find_format(path)) {
        return fail(Code::invalid_argument, path, ": no data file by its name; known are ", endings_text);
    } else {
        GNV_TRY(lister.add(path));
    }
    return std::move(lister.files);
}

} // namespace gnv
