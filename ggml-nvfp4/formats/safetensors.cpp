#include "formats/safetensors.h"

#include "formats/json.h"

#include <algorithm>
#include <cstring>
#include <tuple>

namespace gnv {

// --- Header ---------------------------------------------------------------------------------------------------------------

// Bytes that a tensor of this dtype and shape occupies; false when that is no whole number or does not fit.
static bool tensor_bytes_of(DType dtype, const std::vector<int64_t> & shape, uint64_t & bytes) {
    uint64_t bits = uint64_t(dtype_traits(dtype).bits);
    for (const int64_t extent : shape)
        if (__builtin_mul_overflow(bits, uint64_t(extent), &bits)) return false;
    bytes = bits / 8;
    return bits % 8 == 0;
}

static constexpr size_t most_dimensions = 64;    // as many as any framework knows
static constexpr size_t most_metadata = 100'000; // frameworks write a handful, tools that train a few hundred
static constexpr std::string_view metadata_key = "__metadata__";

static Result<HeaderTensor> parse_tensor(std::string_view name, const JsonValue & value, uint64_t data_bytes) {
    HeaderTensor tensor;
    tensor.name = std::string(name);

    GNV_ASSIGN(const JsonValue dtype, value.get("dtype"));
    GNV_ASSIGN(const std::string_view dtype_text, dtype.as_string());
    if (!dtype_from_name(dtype_text, tensor.dtype))
        return fail(Code::format, dtype.where(), ": \"", printable(dtype_text), "\" is no dtype of the format");

    GNV_ASSIGN(const JsonValue shape, value.get("shape"));
    GNV_TRY(shape.for_each_element([&](size_t, const JsonValue & item) -> Status {
        GNV_ASSIGN(const int64_t extent, item.as_int());
        if (extent < 0) return fail(Code::format, item.where(), ": ", extent, " is negative");
        if (tensor.shape.size() == most_dimensions)
            return fail(Code::format, shape.where(), ": more than ", most_dimensions, " dimensions");
        tensor.shape.push_back(extent);
        return {};
    }));

    GNV_ASSIGN(const JsonValue offsets, value.get("data_offsets"));
    uint64_t ends[2] = {0, 0};
    size_t count = 0;
    GNV_TRY(offsets.for_each_element([&](size_t index, const JsonValue & item) -> Status {
        GNV_ASSIGN(const int64_t offset, item.as_int());
        if (offset < 0) return fail(Code::format, item.where(), ": ", offset, " is negative");
        if (index < 2) ends[index] = uint64_t(offset);
        count++;
        return {};
    }));
    if (count != 2) return fail(Code::format, offsets.where(), ": expected two offsets, found ", count);
    tensor.begin = ends[0], tensor.end = ends[1];
    if (tensor.begin > tensor.end || tensor.end > data_bytes)
        return fail(Code::format, offsets.where(), ": bytes ", tensor.begin, " to ", tensor.end, " do not lie in the ",
                    data_bytes, " bytes of data that the file holds");
    uint64_t bytes = 0;
    if (!tensor_bytes_of(tensor.dtype, tensor.shape, bytes) || bytes != tensor.end - tensor.begin)
        return fail(Code::format, value.where(), ": ", shape_text(tensor.shape), " of ", dtype_name(tensor.dtype),
                    " does not fill the ", tensor.end - tensor.begin, " bytes at ", tensor.begin, " to ", tensor.end);
    return tensor;
}

// How many members the object "__metadata__" of a header seems to have. Looked at before the JSON is parsed, since entries
// take many times their size; a text that is no JSON gives any number.
static size_t count_metadata(std::string_view json) {
    size_t count = 0, string_begin = 0;
    int depth = 0;
    bool is_metadata = false;
    std::string_view last_string;
    for (size_t at = 0; at < json.size(); at++) {
        const char c = json[at];
        if (c == '"') {
            string_begin = at + 1;
            do at = json.find_first_of("\"\\", at + 1);
            while (at != json.npos && json[at] == '\\' && ++at);
            if (at == json.npos) break;
            last_string = json.substr(string_begin, at - string_begin);
        } else if (c == '{' || c == '[') {
            is_metadata = is_metadata || (depth == 1 && last_string == metadata_key);
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
            is_metadata = is_metadata && depth > 1;
        } else if (c == ':') {
            count += is_metadata;
        }
    }
    return count;
}

Result<Header> parse_header(std::string json, uint64_t data_bytes, const std::string & file_name) {
    const auto too_much_metadata = [&](size_t entries) {
        return fail(Code::format, file_name, ": ", metadata_key, " has ", entries, " entries; at most ", most_metadata,
                    " are accepted: write the file again without them");
    };
    if (const size_t entries = count_metadata(json); entries > most_metadata) return too_much_metadata(entries);
    if (json.empty() || json[0] != '{')
        return fail(Code::format, file_name, ": the header at byte 8 does not start with \"{\"");
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::move(json), file_name));
    Header header;
    GNV_TRY(document.root().for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
        if (key == metadata_key) {
            return value.for_each_member([&](std::string_view name, const JsonValue & text) -> Status {
                if (header.metadata.size() == most_metadata) return too_much_metadata(most_metadata + 1);
                GNV_ASSIGN(const std::string_view content, text.as_string());
                header.metadata[std::string(name)] = std::string(content);
                return {};
            });
        }
        if (key.empty()) return fail(Code::format, file_name, ": a tensor has an empty name");
        GNV_ASSIGN(HeaderTensor tensor, parse_tensor(key, value, data_bytes));
        header.tensors.push_back(std::move(tensor));
        return {};
    }));

    std::sort(header.tensors.begin(), header.tensors.end(), [](const HeaderTensor & a, const HeaderTensor & b) {
        return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    uint64_t covered = 0;
    for (const HeaderTensor & tensor : header.tensors) {
        if (tensor.begin != covered)
            return fail(Code::format, file_name, ": tensor ", printable(tensor.name), " starts at byte ", tensor.begin,
                        " of the data, ",
                        tensor.begin > covered ? "leaving a hole after byte " : "inside what ends at byte ", covered);
        covered = tensor.end;
    }
    if (covered != data_bytes)
        return fail(Code::format, file_name, ": the tensors end at byte ", covered, " of the data, the file at byte ",
                    data_bytes);
    return header;
}

// --- Checkpoint -------------------------------------------------------------------------------------------------------------

int64_t TensorInfo::elements() const {
    int64_t count = 1; // cannot overflow: shape x dtype = bytes was checked
    for (const int64_t extent : shape) count *= extent;
    return count;
}

static Result<Header> read_header(const FolderFile & file, Shard & shard) {
    GNV_ASSIGN(shard.stamp, file.stamp());
    const std::string & path = file.path();
    uint8_t prefix[8];
    if (shard.stamp.size < sizeof prefix)
        return fail(Code::format, path, " has only ", shard.stamp.size, " bytes: not a safetensors file, or cut off");
    GNV_TRY(file.read(prefix, sizeof prefix, 0));
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
    if (length > max_header_bytes)
        return fail(Code::format, path, ": the header length at byte 0 is ", length, ", more than the ",
                    max_header_bytes, " that the format allows");
    if (length > shard.stamp.size - sizeof prefix)
        return fail(Code::format, path, ": the header needs ", length, " bytes after byte 8, the file has ",
                    shard.stamp.size - sizeof prefix);
    std::string json(length, '\0');
    GNV_TRY(file.read(json.data(), length, sizeof prefix));
    shard.data_begin = sizeof prefix + length;
    shard.data_bytes = shard.stamp.size - shard.data_begin;
    return parse_header(std::move(json), shard.data_bytes, path);
}

// Tensor name -> shard file, from the index.
using WeightMap = std::map<std::string, std::string, std::less<>>;

static Result<WeightMap> read_index(const Folder & folder) {
    const std::string path = join_path(folder.path(), index_file_name);
    GNV_ASSIGN(std::string text, read_file(folder, index_file_name, max_header_bytes));
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::move(text), path));
    GNV_ASSIGN(const JsonValue map, document.root().get("weight_map"));
    WeightMap files;
    GNV_TRY(map.for_each_member([&](std::string_view name, const JsonValue & value) -> Status {
        GNV_ASSIGN(const std::string_view file, value.as_string());
        if (file.empty() || file.find('/') != std::string_view::npos || file.find('\0') != std::string_view::npos)
            return fail(Code::format, value.where(), ": \"", printable(file), "\" is not a file name in this folder");
        files.emplace(name, file);
        return {};
    }));
    if (files.empty()) return fail(Code::format, map.where(), ": lists no tensor");
    return files;
}

// Shard file names, sorted: those of the index, or every *.safetensors of the folder.
static Result<std::vector<std::string>> shard_names(const Folder & folder, const WeightMap & index,
                                                    std::vector<std::string> & notes) {
    std::vector<std::string> present, listed;
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, folder.list());
    for (const DirectoryEntry & entry : entries)
        if (ends_with(entry.name, ".safetensors") && !entry.is_directory) present.push_back(entry.name);
    for (const auto & [name, file] : index) listed.push_back(file);
    std::sort(listed.begin(), listed.end());
    listed.erase(std::unique(listed.begin(), listed.end()), listed.end());
    if (index.empty()) {
        if (present.empty()) return fail(Code::not_found, folder.path(), " holds no *.safetensors file");
        return present;
    }
    for (const std::string & name : present)
        if (!std::binary_search(listed.begin(), listed.end(), name))
            notes.push_back(printable(name) + " is not listed in " + index_file_name +
                            "; it is not part of the checkpoint");
    return listed;
}

// One line for everything that index and shards do not agree about.
static std::vector<std::string> compare_with_index(const Checkpoint & checkpoint, const WeightMap & index) {
    std::vector<std::string> problems;
    for (const TensorInfo & tensor : checkpoint.tensors()) {
        const std::string & shard = checkpoint.shards()[tensor.shard].file_name;
        const auto listed = index.find(tensor.name);
        if (listed != index.end() && listed->second == shard) continue;
        problems.push_back(concat(printable_line(join_path(checkpoint.folder(), shard)), ": tensor ",
                                  printable(tensor.name), " is here, but ", index_file_name,
                                  listed == index.end() ? " does not list it" : " places it in ",
                                  listed == index.end() ? "" : printable(listed->second)));
    }
    for (const auto & [name, file] : index)
        if (checkpoint.find(name) < 0)
            problems.push_back(concat(printable_line(join_path(checkpoint.folder(), index_file_name)), ": tensor ",
                                      printable(name), " is listed for ", printable(file), ", which does not hold it"));
    return problems;
}

Result<Checkpoint> Checkpoint::open(const std::string & folder) {
    GNV_ASSIGN(std::shared_ptr<const Folder> opened, open_folder(folder));
    return open(std::move(opened));
}

Result<Checkpoint> Checkpoint::open(std::shared_ptr<const Folder> folder, std::vector<std::string> * index_problems) {
    Checkpoint checkpoint(std::move(folder));
    const Folder & files = *checkpoint.folder_;
    WeightMap index;
    GNV_ASSIGN(checkpoint.has_index_, has_file(files, index_file_name));
    if (checkpoint.has_index_) {
        GNV_ASSIGN(index, read_index(files));
    }
    GNV_ASSIGN(const std::vector<std::string> names, shard_names(files, index, checkpoint.notes_));

    std::vector<TensorInfo> & tensors = checkpoint.tensors_;
    for (const std::string & name : names) {
        Result<std::unique_ptr<FolderFile>> file = files.open(name);
        if (!file.ok() && file.status().code() == Code::not_found && checkpoint.has_index_)
            return file.take_status().add_context(join_path(files.path(), index_file_name) +
                                                  " names a shard that is missing; download it again");
        if (!file.ok()) return file.take_status();
        Shard shard;
        shard.file_name = name;
        GNV_ASSIGN(Header header, read_header(*file.value(), shard));
        for (HeaderTensor & tensor : header.tensors)
            tensors.push_back(TensorInfo{std::move(tensor.name), tensor.dtype, std::move(tensor.shape),
                                         uint32_t(checkpoint.shards_.size()), shard.data_begin + tensor.begin,
                                         tensor.end - tensor.begin});
        checkpoint.shards_.push_back(std::move(shard));
    }

    checkpoint.by_name_.reserve(tensors.size());
    for (uint32_t i = 0; i < tensors.size(); i++) {
        const auto [other, inserted] = checkpoint.by_name_.emplace(tensors[i].name, i);
        if (!inserted)
            return fail(Code::format, files.path(), ": ", checkpoint.describe(tensors[i]), " occurs again in ",
                        checkpoint.shards_[tensors[other->second].shard].file_name);
    }
    if (checkpoint.has_index_) {
        std::vector<std::string> problems = compare_with_index(checkpoint, index);
        if (index_problems) {
            *index_problems = std::move(problems);
        } else if (!problems.empty()) {
            return Status(Code::format, problems.front());
        }
    }
    return checkpoint;
}

int64_t Checkpoint::find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? -1 : int64_t(found->second);
}

uint64_t Checkpoint::tensor_bytes() const {
    uint64_t sum = 0;
    for (const TensorInfo & tensor : tensors_) sum += tensor.bytes;
    return sum;
}

Result<FolderFiles> Checkpoint::open_shards() const {
    FolderFiles files;
    for (const Shard & shard : shards_) {
        GNV_ASSIGN(std::unique_ptr<FolderFile> file, folder_->open(shard.file_name));
        files.push_back(std::move(file));
    }
    GNV_TRY(check_unchanged(files));
    return files;
}

Status Checkpoint::check_unchanged(const FolderFiles & shards) const {
    for (size_t i = 0; i < shards.size(); i++) GNV_TRY(check_unchanged(*shards[i], i));
    return {};
}

Status Checkpoint::check_unchanged(const FolderFile & file, size_t shard) const {
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    if (stamp == shards_[shard].stamp) return {};
    return fail(Code::changed, file.path(), " was changed while it was read; run again when nothing writes to it");
}

Result<std::string> Checkpoint::header_text(size_t shard) const {
    constexpr uint64_t prefix_bytes = 8;
    GNV_ASSIGN(const std::unique_ptr<FolderFile> file, folder_->open(shards_[shard].file_name));
    std::string json(shards_[shard].data_begin - prefix_bytes, '\0');
    GNV_TRY(file->read(json.data(), json.size(), prefix_bytes));
    GNV_TRY(check_unchanged(*file, shard));
    return json;
}

std::string Checkpoint::describe(const TensorInfo & tensor) const {
    return concat("tensor ", printable(tensor.name), " (", printable(shards_[tensor.shard].file_name), ", byte ",
                  tensor.offset, ")");
}

} // namespace gnv
