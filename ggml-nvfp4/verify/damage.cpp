#include "verify/damage.h"

#include "checkpoint/safetensors_header.h"

#include <algorithm>

namespace gnv::verify {

Damage::Damage(const Subject & subject, InstructionSet instructions)
    : subject_(subject), instructions_(instructions), overlay_(std::make_shared<OverlayFolder>(subject.folder)),
      shards_(subject.checkpoint->shards().size()), changed_(shards_.size(), false) {
    for (const TensorInfo & info : subject.checkpoint->tensors()) {
        const std::string & file = subject.checkpoint->shards()[info.shard].file_name;
        shards_[info.shard].push_back(
            {{info.name, info.dtype, info.shape, 0, 0}, {"", file, info.offset, info.bytes}, false});
    }
}

const Module * Damage::find(const std::function<bool(const Module &)> & wanted) const {
    const auto found = std::find_if(subject_.modules.begin(), subject_.modules.end(), wanted);
    return found == subject_.modules.end() ? nullptr : &*found;
}

Damage::Entry & Damage::entry(int64_t tensor) {
    const std::vector<TensorInfo> & tensors = subject_.checkpoint->tensors();
    const uint32_t shard = tensors[size_t(tensor)].shard;
    size_t first = size_t(tensor); // tensors are listed shard by shard
    while (first > 0 && tensors[first - 1].shard == shard) first--;
    changed_[shard] = true;
    return shards_[shard][size_t(tensor) - first];
}

Result<std::string> Damage::read(int64_t tensor) const {
    const TensorInfo & info = subject_.info(tensor);
    GNV_ASSIGN(const std::unique_ptr<FolderFile> file,
               subject_.folder->open(subject_.checkpoint->shards()[info.shard].file_name));
    std::string bytes(info.bytes, '\0');
    GNV_TRY(file->read(bytes.data(), bytes.size(), info.offset));
    return bytes;
}

void Damage::write(int64_t tensor, std::string bytes) { entry(tensor).data = {std::move(bytes)}; }

void Damage::rename(int64_t tensor, std::string name) {
    entry(tensor).header.name = std::move(name);
    renamed_ = true;
}

void Damage::remove(int64_t tensor) {
    entry(tensor).removed = true;
    renamed_ = true;
}

void Damage::set_dtype(int64_t tensor, DType dtype) { entry(tensor).header.dtype = dtype; }
void Damage::set_shape(int64_t tensor, std::vector<int64_t> shape) { entry(tensor).header.shape = std::move(shape); }

void Damage::add(int64_t beside, std::string name, DType dtype, std::vector<int64_t> shape, std::string bytes) {
    const uint32_t shard = subject_.info(beside).shard;
    shards_[shard].push_back({{std::move(name), dtype, std::move(shape), 0, 0}, {std::move(bytes)}, false});
    changed_[shard] = renamed_ = true;
}

JsonTree & Damage::config() {
    if (!config_) config_ = JsonTree::copy(subject_.config->root());
    return *config_;
}

void Damage::write_shard(size_t shard) {
    std::vector<HeaderTensor> headers;
    std::vector<OverlayFolder::Segment> segments = {{""}};
    uint64_t end = 0;
    for (const Entry & tensor : shards_[shard]) {
        if (tensor.removed) continue;
        headers.push_back(tensor.header);
        headers.back().begin = end;
        end += tensor.data.length();
        headers.back().end = end;
        segments.push_back(tensor.data);
    }
    segments[0].bytes = make_header(headers, {{"format", "pt"}});
    overlay_->compose(subject_.checkpoint->shards()[shard].file_name, std::move(segments));
}

void Damage::write_index() {
    JsonWriter json;
    json.begin_object().key("metadata").begin_object().end_object().key("weight_map").begin_object();
    for (size_t shard = 0; shard < shards_.size(); shard++)
        for (const Entry & tensor : shards_[shard])
            if (!tensor.removed) json.member(tensor.header.name, subject_.checkpoint->shards()[shard].file_name);
    json.end_object().end_object();
    overlay_->put(index_file_name, json.take());
}

Result<std::shared_ptr<const Folder>> Damage::finish() {
    for (size_t shard = 0; shard < shards_.size(); shard++)
        if (changed_[shard]) write_shard(shard);
    if (renamed_ && subject_.checkpoint->has_index()) write_index();
    if (config_) overlay_->put("config.json", config_->dump());
    return std::shared_ptr<const Folder>(overlay_);
}

} // namespace gnv::verify
