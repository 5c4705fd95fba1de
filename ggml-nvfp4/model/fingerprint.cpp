#include "model/fingerprint.h"

#include "core/sha256.h"
#include "core/strings.h"

#include <algorithm>
#include <vector>

namespace gnv {

static constexpr uint64_t small_tensor_bytes = 64 << 10;

Result<std::string> model_fingerprint(const Checkpoint & checkpoint, const FolderFiles & files) {
    std::vector<const TensorInfo *> order;
    for (const TensorInfo & tensor : checkpoint.tensors()) {
        order.push_back(&tensor);
        if (tensor.bytes <= small_tensor_bytes) files[tensor.shard]->will_peek(tensor.offset, tensor.bytes);
    }
    std::sort(order.begin(), order.end(), [](const TensorInfo * a, const TensorInfo * b) { return a->name < b->name; });
    Sha256 hash;
    std::vector<uint8_t> content;
    for (const TensorInfo * tensor : order) {
        hash.update(concat(tensor->name, " ", dtype_name(tensor->dtype), " ", shape_text(tensor->shape), "\n"));
        if (tensor->bytes > small_tensor_bytes) continue;
        content.resize(size_t(tensor->bytes));
        GNV_TRY(files[tensor->shard]
                    ->peek(content.data(), tensor->bytes, tensor->offset)
                    .add_context(checkpoint.describe(*tensor)));
        hash.update(content.data(), content.size());
    }
    return hash.finish();
}

Result<std::string> shard_fingerprint(const Checkpoint & checkpoint) {
    Sha256 hash;
    for (size_t s = 0; s < checkpoint.shards().size(); s++) {
        const Shard & shard = checkpoint.shards()[s];
        GNV_ASSIGN(const std::string header, checkpoint.header_text(s));
        hash.update(concat(shard.file_name, " ", shard.stamp.size, " ", shard.stamp.modified_ns, " ",
                           sha256_hex(header.data(), header.size()), "\n"));
    }
    return hash.finish();
}

} // namespace gnv
