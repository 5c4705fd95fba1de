#include "session/chosen_rows.h"

#include <algorithm>
#include <cstring>

namespace gnv {

Result<std::vector<LargestLogit>> ChosenRows::download(Backend & device, const Tensor & ids, const Tensor & logits) {
    const auto count = size_t(ids.shape.elements());
    const size_t of_ids = count * sizeof(int32_t), bytes = of_ids + count * sizeof(float);
    if (bytes > bytes_) {
        constexpr size_t least = 4096;
        GNV_ASSIGN(memory_, device.allocate_host(std::max(bytes, least)));
        bytes_ = std::max(bytes, least);
    }
    auto * const here = static_cast<uint8_t *>(memory_.get());
    device.download(here, ids.data, of_ids);
    device.download(here + of_ids, logits.data, bytes - of_ids);
    GNV_TRY(device.synchronize());
    std::vector<LargestLogit> chosen(count);
    for (size_t i = 0; i < count; i++) {
        memcpy(&chosen[i].id, here + i * sizeof(int32_t), sizeof(int32_t));
        memcpy(&chosen[i].logit, here + of_ids + i * sizeof(float), sizeof(float));
    }
    return chosen;
}

} // namespace gnv
