#include "checkpoint/tensor_file.h"

#include "checkpoint/safetensors_header.h"

#include <set>

namespace gnv {

// Places the tensors one after another; all dtypes must be of whole bytes.
static Result<std::vector<HeaderTensor>> place(const std::vector<TensorFileEntry> & entries) {
    std::vector<HeaderTensor> tensors;
    std::set<std::string> names;
    uint64_t at = 0;
    for (const TensorFileEntry & entry : entries) {
        if (!names.insert(entry.name).second)
            return fail(Code::invalid_argument, "two tensors are called ", printable(entry.name));
        uint64_t bytes = uint64_t(dtype_traits(entry.dtype).bits) / 8;
        GNV_CHECK(bytes > 0);
        for (const int64_t extent : entry.shape) {
            if (extent < 0 || __builtin_mul_overflow(bytes, uint64_t(extent), &bytes))
                return fail(Code::invalid_argument, "tensor ", printable(entry.name), " has the shape ",
                            shape_text(entry.shape), ", which no file can hold");
        }
        uint64_t end = 0;
        if (__builtin_add_overflow(at, bytes, &end) || end > uint64_t(INT64_MAX))
            return fail(Code::invalid_argument, "the tensors are larger than any file");
        tensors.push_back({entry.name, entry.dtype, entry.shape, at, end});
        at = end;
    }
    return tensors;
}

Result<std::unique_ptr<TensorFileWriter>> TensorFileWriter::create(const std::string & path,
                                                                   const std::vector<TensorFileEntry> & entries) {
    GNV_ASSIGN(std::vector<HeaderTensor> tensors, place(entries));
    const std::string header = make_header(tensors, {});
    if (header.size() - 8 > max_header_bytes)
        return fail(Code::invalid_argument, path, ": the header of ", tensors.size(), " tensors would have ",
                    header.size(), " bytes, readers accept ", max_header_bytes, "; write fewer tensors");
    if (path_exists(path)) return fail(Code::already_exists, path, " exists; remove it or choose another name");
    const std::string partial = path + ".partial";
    if (path_exists(partial))
        return fail(Code::already_exists, partial, " is left from a run that did not finish; remove it");
    GNV_ASSIGN(File file, File::create(partial));
    std::unique_ptr<TensorFileWriter> writer(new TensorFileWriter(path, partial, std::move(file)));
    writer->tensors_ = std::move(tensors);
    writer->written_.assign(writer->tensors_.size(), 0);
    writer->data_begin_ = header.size();
    const uint64_t data_bytes = writer->tensors_.empty() ? 0 : writer->tensors_.back().end;
    GNV_TRY(writer->file_.reserve(header.size() + data_bytes));
    GNV_TRY(writer->file_.write(header.data(), header.size(), 0));
    return writer;
}

TensorFileWriter::~TensorFileWriter() {
    if (!finished_) (void)guard_exceptions([&] { return remove_file(partial_); }).ok(); // memory may be exhausted
}

Status TensorFileWriter::append(size_t tensor, const void * data, uint64_t bytes) {
    if (finished_) return fail(Code::invalid_argument, path_, " is finished already");
    const HeaderTensor & target = tensors_[tensor];
    const uint64_t size = target.end - target.begin, left = size - written_[tensor];
    if (bytes > left)
        return fail(Code::invalid_argument, "tensor ", printable(target.name), " has ", size, " bytes, ",
                    written_[tensor] + bytes, " were given");
    GNV_TRY(file_.write(data, bytes, data_begin_ + target.begin + written_[tensor]));
    written_[tensor] += bytes;
    return {};
}

Status TensorFileWriter::finish() {
    if (finished_) return fail(Code::invalid_argument, path_, " is finished already");
    for (size_t i = 0; i < tensors_.size(); i++)
        if (written_[i] != tensors_[i].end - tensors_[i].begin)
            return fail(Code::invalid_argument, "tensor ", printable(tensors_[i].name), " has ",
                        tensors_[i].end - tensors_[i].begin, " bytes, only ", written_[i], " were written");
    GNV_TRY(file_.sync());
    GNV_TRY(file_.close());
    GNV_TRY(rename_path(partial_, path_));
    finished_ = true;
    return sync_directory(parent_path(path_));
}

} // namespace gnv
