#include "quant/quantizers/moment_file.h"

#include "checkpoint/header_reader.h"
#include "core/sha256.h"
#include "formats/file.h"

#include <algorithm>
#include <cmath>

namespace gnv {

const char * moments_key(const Statistic & statistic) {
    for (const SavedMoments & saved : saved_moments)
        if (saved.statistic == &statistic) return saved.key;
    return nullptr;
}

std::string MomentTotal::name(const ModelNames & names) const {
    return concat(key.layer, ".", names.inputs[size_t(key.input)].name, ".", moments_key(*key.statistic));
}

uint64_t MomentTotal::group_bytes() const { return tensor_bytes(key.statistic->dtype, shape) / uint64_t(shape[0]); }

std::string moment_file_name(const std::string & statistics_file) { return statistics_file + ".moments.safetensors"; }

// --- Writing ------------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<MomentFileWriter>> MomentFileWriter::create(const std::string & path, const StatisticSet & set) {
    std::unique_ptr<MomentFileWriter> writer(new MomentFileWriter);
    std::vector<TensorFileEntry> tensors;
    for (const auto & [key, total] : set.totals()) {
        if (key.statistic->is_kept || !moments_key(*key.statistic)) continue;
        writer->totals_.push_back({key, total.shape, {}});
        const std::vector<int64_t> shape(total.shape.dims, total.shape.dims + total.shape.rank);
        tensors.push_back({writer->totals_.back().name(*set.names()), key.statistic->dtype, shape});
    }
    GNV_ASSIGN(writer->file_, TensorFileWriter::create(path, tensors));
    return writer;
}

size_t MomentFileWriter::find(const StatisticKey & key) const {
    return size_t(
        std::find_if(totals_.begin(), totals_.end(), [&](const MomentTotal & total) { return total.key == key; }) -
        totals_.begin());
}

Status MomentFileWriter::append(const StatisticKey & key, int64_t groups, const void * data) {
    const size_t t = find(key);
    GNV_CHECK(t < totals_.size());
    MomentTotal & total = totals_[t];
    const uint64_t bytes = total.group_bytes();
    for (int64_t g = 0; g < groups; g++)
        total.sha256.push_back(sha256_hex(static_cast<const uint8_t *>(data) + uint64_t(g) * bytes, bytes));
    return file_->append(t, data, uint64_t(groups) * bytes);
}

Status MomentFileWriter::finish() { return file_->finish(); }

// --- Reading ------------------------------------------------------------------------------------------------------------------

Status MomentFiles::open(const std::string & path, const std::string & method, std::vector<MomentTotal> totals,
                         const ModelNames & names) {
    const auto damaged = [&](const std::string & what) {
        return fail(Code::format, path, ": ", what,
                    ": it is not the file that --save-stats wrote with these statistics; use another copy of both, or "
                    "measure anew");
    };
    GNV_ASSIGN(File opened, File::open_read(path));
    GNV_ASSIGN(const FileStamp stamp, opened.stamp());
    const ReadBytes read = [&](void * data, uint64_t bytes, uint64_t offset) {
        return opened.read(data, bytes, offset);
    };
    uint64_t begin = 0;
    GNV_ASSIGN(const Header header, read_header(path, stamp.size, read, begin));
    if (header.tensors.size() != totals.size()) return damaged("another number of tensors");
    OpenFile file = {std::make_shared<const File>(std::move(opened)), std::move(totals), {}};
    for (const MomentTotal & total : file.totals) {
        const std::string name = total.name(names);
        const auto found = std::find_if(header.tensors.begin(), header.tensors.end(),
                                        [&](const HeaderTensor & tensor) { return tensor.name == name; });
        const std::vector<int64_t> shape(total.shape.dims, total.shape.dims + total.shape.rank);
        if (found == header.tensors.end() || found->dtype != total.key.statistic->dtype || found->shape != shape)
            return damaged(name + " is missing or of another shape");
        file.offsets.push_back(begin + found->begin);
    }
    method_ = method;
    files_.push_back(std::move(file));
    return {};
}

Status MomentFiles::merge(const MomentFiles & other) {
    if (empty() && other.empty()) return {};
    if (empty() != other.empty())
        return Status(Code::invalid_argument,
                      "one of these statistics has second moments and another has none; merge files of one method");
    if (method_ != other.method_)
        return fail(Code::invalid_argument, "second moments for the method ", method_,
                    " cannot be merged with those for ", other.method_);
    const auto same = [](const MomentTotal & a, const MomentTotal & b) { return a.key == b.key && a.shape == b.shape; };
    const std::vector<MomentTotal> &a = files_.front().totals, &b = other.files_.front().totals;
    if (!std::equal(a.begin(), a.end(), b.begin(), b.end(), same))
        return Status(Code::format, "second moments of one model have different shapes: one of the files is damaged");
    files_.insert(files_.end(), other.files_.begin(), other.files_.end());
    return {};
}

namespace {

// False if a sum is not finite while both summands are.
template <class Number>
bool add_numbers(Number * into, const Number * from, uint64_t bytes) {
    bool finite = true;
    for (uint64_t i = 0; i < bytes / sizeof(Number); i++) {
        const Number sum = into[i] + from[i];
        finite = finite && (std::isfinite(sum) || !std::isfinite(into[i]) || !std::isfinite(from[i]));
        into[i] = sum;
    }
    return finite;
}

bool add_total(DType dtype, std::vector<double> & into, const std::vector<double> & from, uint64_t bytes) {
    if (dtype == DType::f64) return add_numbers(into.data(), from.data(), bytes);
    return add_numbers(reinterpret_cast<float *>(into.data()), reinterpret_cast<const float *>(from.data()), bytes);
}

} // namespace

Status MomentFiles::read(int32_t layer, int32_t input, int32_t group, int64_t width, Totals & into) const {
    const std::vector<MomentTotal> & totals = files_.front().totals;
    for (size_t t = 0; t < totals.size(); t++) {
        const MomentTotal & total = totals[t];
        if (total.key.layer != layer || total.key.input != input) continue;
        if (group >= total.shape[0] || !(total.key.statistic->total_shape(total.shape[0], width) == total.shape))
            return fail(Code::format, files_.front().file->path(), ": layer ", layer, ", ", total.key.statistic->name,
                        " are not of the shape that the model's weights need: the file is damaged");
        const uint64_t bytes = total.group_bytes();
        std::vector<double> sum, part(size_t((bytes + 7) / 8));
        for (const OpenFile & file : files_) {
            const MomentTotal & here = file.totals[t];
            GNV_TRY(file.file->read(part.data(), bytes, file.offsets[t] + uint64_t(group) * bytes));
            if (sha256_hex(part.data(), bytes) != here.sha256[size_t(group)])
                return fail(Code::format, file.file->path(), ": bytes of layer ", layer, ", ",
                            total.key.statistic->name, ", group ", group,
                            " do not match their checksum: the file is damaged; use another copy, or measure anew");
            if (sum.empty())
                sum = part;
            else if (!add_total(total.key.statistic->dtype, sum, part, bytes))
                return fail(Code::format, file.file->path(), ": second moments of layer ", layer, ", group ", group,
                            " are too large to be added to those of the other files");
        }
        into.list.push_back({total.key.statistic, nullptr});
        into.memory.push_back(std::move(sum));
    }
    for (size_t i = 0; i < into.list.size(); i++) into.list[i].total = into.memory[i].data();
    return {};
}

uint64_t MomentFiles::largest_group_bytes() const {
    uint64_t largest = 0;
    for (const OpenFile & file : files_)
        for (const MomentTotal & total : file.totals) largest = std::max(largest, total.group_bytes());
    return largest;
}

} // namespace gnv
