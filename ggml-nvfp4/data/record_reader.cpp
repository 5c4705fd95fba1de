#include "data/record_reader.h"

#include "data/readers.h"
#include "formats/file.h"

#include <algorithm>

namespace gnv {

namespace {

struct Format {
    const char * ending;
    OpenedRecords (*open)(const std::string &, const std::vector<std::string> &);
    bool may_be_compressed;
};

constexpr Format formats[] = {
    {".jsonl", open_json_lines, true}, {".ndjson", open_json_lines, true}, {".json", open_json_array, true},
    {".csv", open_csv_records, true},  {".txt", open_text_document, true}, {".parquet", open_parquet_records, false},
};
constexpr const char * endings_text = ".jsonl, .json, .csv, .txt (each also as .zst) and .parquet";

constexpr int deepest_folder = 16; // a symbolic link may lead back up

const Format * find_format(const std::string & path) {
    std::string_view name = path;
    const bool compressed = ends_with(name, ".zst");
    if (compressed) name.remove_suffix(4);
    for (const Format & format : formats)
        if (ends_with(name, format.ending) && (format.may_be_compressed || !compressed)) return &format;
    return nullptr;
}

Status list_below(const std::string & folder, int depth, std::vector<std::string> & files) {
    if (depth > deepest_folder)
        return fail(Code::invalid_argument, folder, ": folders nested too deeply, or a link in a circle");
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(folder));
    for (const DirectoryEntry & entry : entries) {
        const std::string path = join_path(folder, entry.name);
        if (entry.name[0] == '.') continue;
        if (entry.is_directory) GNV_TRY(list_below(path, depth + 1, files));
        if (!entry.is_directory && find_format(path)) files.push_back(path);
    }
    return {};
}

} // namespace

const char * fault_text(RowFault fault) {
    static const char * const texts[] = {"sound rows",
                                         "rows without the fields of the others",
                                         "rows whose field holds no text",
                                         "empty texts",
                                         "invalid UTF-8",
                                         "lone surrogates in JSON escapes",
                                         "NUL bytes"};
    static_assert(std::size(texts) == size_t(RowFault::count_));
    return texts[size_t(fault)];
}

Result<std::unique_ptr<RecordReader>> open_records(const std::string & path, const std::vector<std::string> & wanted) {
    const Format * const format = find_format(path);
    if (!format) return fail(Code::invalid_argument, path, ": no data file by its name; known are ", endings_text);
    return format->open(path, wanted);
}

Result<std::vector<std::string>> list_data_files(const std::string & path) {
    std::vector<std::string> files;
    if (is_directory(path)) {
        GNV_TRY(list_below(path, 0, files));
        std::sort(files.begin(), files.end());
        if (files.empty())
            return fail(Code::not_found, path, ": no data files in this folder; known are ", endings_text);
    } else if (!path_exists(path)) {
        return fail(Code::not_found, path, ": no such file or folder");
    } else if (!find_format(path)) {
        return fail(Code::invalid_argument, path, ": no data file by its name; known are ", endings_text);
    } else {
        files.push_back(path);
    }
    return files;
}

} // namespace gnv
