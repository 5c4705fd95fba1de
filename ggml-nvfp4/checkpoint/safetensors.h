// The reader of safetensors checkpoints: a folder is validated completely before any tensor is used.
//
//   byte 0           8          8 + H                              end of file
//        | H (u64 LE)| JSON header, H bytes | tensor data, no holes, no overlaps |
//
// A checkpoint is a folder with one "model.safetensors", or several shards listed by "model.safetensors.index.json", or
// several "*.safetensors" files without an index. Shards may be symbolic links (hub caches). Of several copies of a tensor
// the one counts that the index names; where the index names shards that are gone, and "model.safetensors" holds all that
// it lists, that file is the checkpoint.
#pragma once

#include "core/dtype.h"
#include "core/status.h"
#include "formats/folder.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gnv {

inline constexpr const char * index_file_name = "model.safetensors.index.json";
inline constexpr uint64_t max_header_bytes = 100'000'000; // the limit of the safetensors library itself

struct HeaderTensor {
    std::string name;
    DType dtype = DType::bf16;
    std::vector<int64_t> shape;  // C order, as stored
    uint64_t begin = 0, end = 0; // bytes relative to the start of the data
};

struct Header {
    std::vector<HeaderTensor> tensors; // in order of begin
    std::map<std::string, std::string> metadata;
};

// Checks JSON, names, dtypes, shape x dtype = bytes, that the tensors cover [0, data_bytes) without hole or overlap,
// and the limit of 100,000 entries of metadata.
Result<Header> parse_header(std::string json, uint64_t data_bytes, const std::string & file_name);

// One shard on disk.
struct Shard {
    std::string file_name;   // inside the folder
    uint64_t data_begin = 0; // first byte after the header
    uint64_t data_bytes = 0; // the rest of the file
    FileStamp stamp;         // to notice a change while reading
};

struct TensorInfo {
    std::string name;
    DType dtype = DType::bf16;
    std::vector<int64_t> shape;
    uint32_t shard = 0;
    uint64_t offset = 0; // absolute, in the shard's file
    uint64_t bytes = 0;
    bool is_listed = true; // false: the folder has an index, and it does not name the tensor

    int64_t elements() const; // product of the shape
};

class Checkpoint {
  public:
    // Reads and validates index and headers; opens every shard once. Reads no tensor data.
    static Result<Checkpoint> open(const std::string & folder);
    // The same for any folder. With `index_problems`, contradictions of index and shards go there, one line each, and
    // the shards decide.
    static Result<Checkpoint> open(std::shared_ptr<const Folder> folder,
                                   std::vector<std::string> * index_problems = nullptr);

    Checkpoint(Checkpoint &&) = default; // by_name_ views stay valid: the tensors do not move
    Checkpoint & operator=(Checkpoint &&) = default;

    const std::string & folder() const { return folder_->path(); } // for messages
    const Folder & files() const { return *folder_; }
    const std::vector<Shard> & shards() const { return shards_; }
    const std::vector<TensorInfo> & tensors() const { return tensors_; } // by shard, then by offset
    // Position in tensors(), or -1.
    int64_t find(std::string_view name) const;
    bool has_index() const { return has_index_; }
    std::vector<std::string> notes() const; // oddities that are no errors
    uint64_t tensor_bytes() const;          // sum over all tensors

    // *.safetensors files of the folder that are no part of the checkpoint, and the names of the tensors in one of them.
    const std::vector<std::string> & unlisted() const { return unlisted_; }
    Result<std::vector<std::string>> names_in(const std::string & file_name) const;
    // Makes the tensors of an unlisted file whose names start with `prefix` part of the checkpoint, unless it has others of
    // these names; returns how many.
    Result<size_t> take_in(const std::string & file_name, const std::string & prefix);

    Result<FolderFiles> open_shards() const;
    // The JSON header of a shard, read again; Code::changed as check_unchanged().
    Result<std::string> header_text(size_t shard) const;
    // Code::changed if a shard is no longer the validated file.
    Status check_unchanged(const FolderFiles & shards) const;
    Status check_unchanged(const FolderFile & file, size_t shard) const; // one of them
    // "tensor X (shard Y, byte Z)": for messages
    std::string describe(const TensorInfo & tensor) const;

  private:
    explicit Checkpoint(std::shared_ptr<const Folder> folder) : folder_(std::move(folder)) {}
    void index_names();
    std::shared_ptr<const Folder> folder_;
    std::vector<Shard> shards_;
    std::vector<TensorInfo> tensors_;
    std::unordered_map<std::string_view, uint32_t> by_name_; // views into tensors_, which no longer changes
    std::vector<std::string> notes_, unlisted_;
    bool has_index_ = false;
};

} // namespace gnv
