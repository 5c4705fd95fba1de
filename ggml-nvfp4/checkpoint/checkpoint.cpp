// A checkpoint folder: which files belong to it, and how index and shards agree.
#include "checkpoint/safetensors.h"

#include "checkpoint/header_reader.h"
#include "formats/folder_hints.h"
#include "formats/json.h"

#include <algorithm>

namespace gnv {

static constexpr const char * whole_file_name = "model.safetensors";

int64_t TensorInfo::elements() const {
    int64_t count = 1; // cannot overflow: shape x dtype = bytes was checked
    for (const int64_t extent : shape) count *= extent;
    return count;
}

static Result<Header> read_header(const FolderFile & file, Shard & shard) {
    GNV_ASSIGN(shard.stamp, file.stamp());
    const ReadBytes read = [&](void * data, uint64_t bytes, uint64_t offset) { return file.peek(data, bytes, offset); };
    Result<Header> header = read_header(file.path(), shard.stamp.size, read, shard.data_begin);
    shard.data_bytes = shard.stamp.size - shard.data_begin;
    return header;
}

// --- Which files ------------------------------------------------------------------------------------------------------------

namespace {

// Tensor name -> shard file, from the index.
using WeightMap = std::map<std::string, std::string, std::less<>>;

struct FileList {
    std::vector<std::string> shards;   // sorted
    std::vector<std::string> unlisted; // *.safetensors beside them
    std::string first_missing;         // of the shards
};

} // namespace

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

// The files that the index names, or without one every *.safetensors of the folder that holds weights of a model.
static Result<FileList> list_files(const Folder & folder, const WeightMap & index) {
    FileList files;
    for (const auto & [name, file] : index) files.shards.push_back(file);
    std::sort(files.shards.begin(), files.shards.end());
    files.shards.erase(std::unique(files.shards.begin(), files.shards.end()), files.shards.end());
    std::vector<std::string> present;
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, folder.list());
    for (const DirectoryEntry & entry : entries) {
        if (!ends_with(entry.name, ".safetensors") || entry.is_directory) continue;
        if (!index.empty() && entry.is_broken_link) continue; // missing: what is needed of them is named
        const bool listed = index.empty() ? !is_side_weights(entry.name)
                                          : std::binary_search(files.shards.begin(), files.shards.end(), entry.name);
        (listed ? present : files.unlisted).push_back(entry.name);
    }
    if (index.empty()) {
        if (present.empty())
            return fail(Code::not_found, folder.path(), " holds no *.safetensors file of a model", folder_hint(folder));
        files.shards = std::move(present);
        return files;
    }
    for (const std::string & shard : files.shards)
        if (files.first_missing.empty() && std::find(present.begin(), present.end(), shard) == present.end())
            files.first_missing = shard;
    return files;
}

// --- Opening ----------------------------------------------------------------------------------------------------------------

namespace {

// Puts a checkpoint together from its files.
class Opener {
  public:
    Opener(const Folder & folder, std::vector<std::string> & notes, std::vector<std::string> * problems)
        : folder_(folder), notes_(notes), problems_(problems) {}

    Status run(FileList files, const WeightMap & index) {
        if (!files.first_missing.empty()) return use_whole_file(files, index);
        for (const std::string & name : files.shards) GNV_TRY(read(name));
        return index.empty() ? refuse_duplicates() : follow(index);
    }

    // Shards, and for each of the tensors whether it counts.
    std::vector<Shard> shards;
    std::vector<TensorInfo> tensors;
    bool has_index = false;

  private:
    Status read(const std::string & name) {
        GNV_ASSIGN(const std::unique_ptr<FolderFile> file, folder_.open(name));
        Shard shard;
        shard.file_name = name;
        GNV_ASSIGN(Header header, read_header(*file, shard));
        for (HeaderTensor & tensor : header.tensors)
            tensors.push_back(TensorInfo{std::move(tensor.name), tensor.dtype, std::move(tensor.shape),
                                         uint32_t(shards.size()), shard.data_begin + tensor.begin,
                                         tensor.end - tensor.begin});
        shards.push_back(std::move(shard));
        return {};
    }

    // An index that a save of the whole model in one file left behind names shards that are gone.
    Status use_whole_file(const FileList & files, const WeightMap & index) {
        const Status missing =
            fail(Code::format, join_path(folder_.path(), index_file_name),
                 " names a shard that is missing; download it again: ", printable(files.first_missing));
        if (problems_ ||
            std::find(files.unlisted.begin(), files.unlisted.end(), whole_file_name) == files.unlisted.end())
            return fail(missing.code(), missing.message());
        GNV_TRY(read(whole_file_name));
        std::vector<std::string_view> held;
        for (const TensorInfo & tensor : tensors) held.push_back(tensor.name);
        std::sort(held.begin(), held.end());
        for (const auto & [name, file] : index)
            if (!std::binary_search(held.begin(), held.end(), std::string_view(name)))
                return fail(missing.code(), missing.message(), "; ", whole_file_name,
                            " beside it is no substitute: it lacks tensor ", printable(name));
        notes_.push_back(concat(index_file_name, " names shards that are missing, such as ",
                                printable(files.first_missing), "; ", whole_file_name,
                                " holds all tensors that it lists and is used instead"));
        has_index = false;
        return refuse_duplicates();
    }

    std::string describe(const TensorInfo & tensor) const {
        return concat("tensor ", printable(tensor.name), " (", printable(shards[tensor.shard].file_name), ", byte ",
                      tensor.offset, ")");
    }

    // Positions of all tensors, in the order of names and then of files.
    std::vector<uint32_t> order_by_name() const {
        std::vector<uint32_t> order(tensors.size());
        for (uint32_t i = 0; i < order.size(); i++) order[i] = i;
        std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
            const int compared = tensors[a].name.compare(tensors[b].name);
            return compared != 0 ? compared < 0 : a < b;
        });
        return order;
    }

    Status occurs_again(uint32_t first, uint32_t second) const {
        return fail(Code::format, folder_.path(), ": ", describe(tensors[second]), " occurs again in ",
                    printable(shards[tensors[first].shard].file_name));
    }

    Status refuse_duplicates() const {
        const std::vector<uint32_t> order = order_by_name();
        for (size_t i = 1; i < order.size(); i++)
            if (tensors[order[i]].name == tensors[order[i - 1]].name) return occurs_again(order[i - 1], order[i]);
        return {};
    }

    // What index and shards say differently of one tensor. It is a failure where the index expects it in another shard
    // and that has none.
    Status disagree(const TensorInfo & tensor, const std::string * placed_in, bool is_copy) const {
        if (!problems_ && (!placed_in || is_copy)) return {}; // a note says it, for all tensors of a shard
        const std::string problem =
            concat(printable_line(join_path(folder_.path(), shards[tensor.shard].file_name)), ": tensor ",
                   printable(tensor.name), " is here, but ", index_file_name,
                   placed_in ? concat(" places it in ", printable(*placed_in)) : " does not list it");
        if (!problems_) return Status(Code::format, problem);
        problems_->push_back(problem);
        return {};
    }

    // The index decides among copies of a tensor. One that it does not list counts if there is no other.
    Status follow(const WeightMap & index) {
        has_index = true;
        std::vector<bool> dropped(tensors.size(), false);
        std::vector<size_t> stale(shards.size(), 0), unlisted(shards.size(), 0);
        std::vector<std::string> example(shards.size());
        const std::vector<uint32_t> order = order_by_name();
        for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
            const std::string & name = tensors[order[begin]].name;
            while (end < order.size() && tensors[order[end]].name == name) end++;
            const auto listed = index.find(name);
            const bool is_listed = listed != index.end();
            const auto is_placed = [&](uint32_t t) { return listed->second == shards[tensors[t].shard].file_name; };
            const bool has_place =
                is_listed && std::any_of(order.begin() + ptrdiff_t(begin), order.begin() + ptrdiff_t(end), is_placed);
            if (!has_place && end - begin > 1) return occurs_again(order[begin], order[begin + 1]);
            for (size_t i = begin; i < end; i++) {
                const TensorInfo & tensor = tensors[order[i]];
                if (has_place && is_placed(order[i])) continue;
                dropped[order[i]] = has_place;
                GNV_TRY(disagree(tensor, is_listed ? &listed->second : nullptr, has_place));
                tensors[order[i]].is_listed = is_listed;
                (is_listed ? stale : unlisted)[tensor.shard]++;
                if (example[tensor.shard].empty()) example[tensor.shard] = printable(name);
            }
        }
        GNV_TRY(find_missing(index, dropped));
        for (size_t s = 0; s < shards.size() && !problems_; s++) {
            const std::string file = printable(shards[s].file_name);
            if (stale[s] > 0)
                notes_.push_back(concat(file, " holds ", stale[s], " tensors that ", index_file_name,
                                        " places elsewhere, such as ", example[s], "; these copies are not used"));
            if (unlisted[s] > 0)
                notes_.push_back(concat(file, " holds ", unlisted[s], " tensors that ", index_file_name,
                                        " does not list, such as ", example[s],
                                        "; config.json decides whether they are part of the checkpoint"));
        }
        size_t kept = 0;
        for (size_t i = 0; i < tensors.size(); i++) {
            if (dropped[i]) continue;
            if (kept != i) tensors[kept] = std::move(tensors[i]);
            kept++;
        }
        tensors.resize(kept);
        return {};
    }

    Status find_missing(const WeightMap & index, const std::vector<bool> & dropped) const {
        std::vector<std::string_view> held;
        for (size_t i = 0; i < tensors.size(); i++)
            if (!dropped[i]) held.push_back(tensors[i].name);
        std::sort(held.begin(), held.end());
        for (const auto & [name, file] : index) {
            if (std::binary_search(held.begin(), held.end(), std::string_view(name))) continue;
            const std::string problem =
                concat(printable_line(join_path(folder_.path(), index_file_name)), ": tensor ", printable(name),
                       " is listed for ", printable(file), ", which does not hold it");
            if (!problems_) return Status(Code::format, problem);
            problems_->push_back(problem);
        }
        return {};
    }

    const Folder & folder_;
    std::vector<std::string> & notes_;
    std::vector<std::string> * problems_;
};

} // namespace

Result<Checkpoint> Checkpoint::open(const std::string & folder) {
    GNV_ASSIGN(std::shared_ptr<const Folder> opened, open_folder(folder));
    return open(std::move(opened));
}

Result<Checkpoint> Checkpoint::open(std::shared_ptr<const Folder> folder, std::vector<std::string> * index_problems) {
    Checkpoint checkpoint(std::move(folder));
    const Folder & files = *checkpoint.folder_;
    WeightMap index;
    GNV_ASSIGN(const bool has_index, has_file(files, index_file_name));
    if (has_index) {
        GNV_ASSIGN(index, read_index(files));
    }
    GNV_ASSIGN(FileList list, list_files(files, index));
    checkpoint.unlisted_ = list.unlisted;
    Opener opener(files, checkpoint.notes_, index_problems);
    GNV_TRY(opener.run(std::move(list), index));
    checkpoint.has_index_ = opener.has_index;
    checkpoint.shards_ = std::move(opener.shards);
    checkpoint.tensors_ = std::move(opener.tensors);
    if (checkpoint.shards_.size() == 1)
        std::erase(checkpoint.unlisted_, checkpoint.shards_[0].file_name); // the whole file in place of missing shards
    checkpoint.index_names();
    return checkpoint;
}

void Checkpoint::index_names() {
    by_name_.clear();
    by_name_.reserve(tensors_.size());
    for (uint32_t i = 0; i < tensors_.size(); i++) by_name_.emplace(tensors_[i].name, i);
}

Result<std::vector<std::string>> Checkpoint::names_in(const std::string & file_name) const {
    GNV_ASSIGN(const std::unique_ptr<FolderFile> file, folder_->open(file_name));
    Shard shard;
    GNV_ASSIGN(const Header header, read_header(*file, shard));
    std::vector<std::string> names;
    for (const HeaderTensor & tensor : header.tensors) names.push_back(tensor.name);
    return names;
}

Result<size_t> Checkpoint::take_in(const std::string & file_name, const std::string & prefix) {
    GNV_ASSIGN(const std::unique_ptr<FolderFile> file, folder_->open(file_name));
    Shard shard;
    shard.file_name = file_name;
    GNV_ASSIGN(Header header, read_header(*file, shard));
    const size_t before = tensors_.size();
    for (HeaderTensor & tensor : header.tensors)
        if (starts_with(tensor.name, prefix) && find(tensor.name) < 0)
            tensors_.push_back(TensorInfo{std::move(tensor.name), tensor.dtype, std::move(tensor.shape),
                                          uint32_t(shards_.size()), shard.data_begin + tensor.begin,
                                          tensor.end - tensor.begin});
    const size_t taken = tensors_.size() - before;
    if (taken == 0) return taken;
    shards_.push_back(std::move(shard));
    std::erase(unlisted_, file_name);
    notes_.push_back(concat(printable(file_name), has_index_ ? concat(" is not listed in ", index_file_name) : "",
                            "; its ", taken, " tensors ", prefix, "* are taken in: no other file holds them"));
    index_names();
    return taken;
}

std::vector<std::string> Checkpoint::notes() const {
    std::vector<std::string> notes = notes_;
    for (const std::string & name : unlisted_)
        notes.push_back(concat(printable(name),
                               is_side_weights(name) ? " holds no weights of a model's own"
                                                     : concat(" is not listed in ", index_file_name),
                               "; it is not part of the checkpoint"));
    return notes;
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
    GNV_TRY(file->peek(json.data(), json.size(), prefix_bytes));
    GNV_TRY(check_unchanged(*file, shard));
    return json;
}

std::string Checkpoint::describe(const TensorInfo & tensor) const {
    return concat("tensor ", printable(tensor.name), " (", printable(shards_[tensor.shard].file_name), ", byte ",
                  tensor.offset, ")");
}

} // namespace gnv
