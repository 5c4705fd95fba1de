// The writer of one safetensors file whose tensors are made piece by piece: names, dtypes and shapes come first, as the
// header does, then bytes in any order of tensors. It holds no tensor. The file is called PATH.partial until it is
// complete and on disk.
#pragma once

#include "checkpoint/safetensors.h"
#include "formats/file.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gnv {

struct TensorFileEntry {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
};

class TensorFileWriter {
  public:
    // Reserves the disk space. Fails on names that occur twice, on negative extents, and if `path` exists.
    static Result<std::unique_ptr<TensorFileWriter>> create(const std::string & path,
                                                            const std::vector<TensorFileEntry> & tensors);
    ~TensorFileWriter(); // removes PATH.partial of an unfinished file
    TensorFileWriter(const TensorFileWriter &) = delete;
    TensorFileWriter & operator=(const TensorFileWriter &) = delete;

    size_t size() const { return tensors_.size(); }
    // The next `bytes` bytes of a tensor, in C order.
    Status append(size_t tensor, const void * data, uint64_t bytes);
    // Gives the file its name; fails with the first tensor that lacks bytes.
    Status finish();

  private:
    TensorFileWriter(std::string path, std::string partial, File file)
        : path_(std::move(path)), partial_(std::move(partial)), file_(std::move(file)) {}

    std::string path_, partial_;
    File file_;
    std::vector<HeaderTensor> tensors_; // offsets from the start of the data
    std::vector<uint64_t> written_;     // bytes of each
    uint64_t data_begin_ = 0;
    bool finished_ = false;
};

} // namespace gnv
