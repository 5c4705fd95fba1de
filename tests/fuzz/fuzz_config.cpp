// Any bytes as a config.json: refused with a message, or a list of tensors of sane shapes, in every layout.
#include "formats/json.h"
#include "fuzz/fuzz_input.h"
#include "model/model_def.h"

using namespace gnv;
using namespace gnv::fuzz;

static void list(const JsonValue & config, const LayoutChoice & choice) {
    const Result<std::vector<TensorSpec>> specs = list_tensors(config, choice);
    require_message(specs.status());
    if (!specs.ok()) return;
    require(!specs.value().empty());
    for (const TensorSpec & spec : specs.value()) {
        uint64_t elements = 1;
        for (const int64_t extent : spec.shape)
            require(extent > 0 && !__builtin_mul_overflow(elements, uint64_t(extent), &elements));
        require(elements < uint64_t(1) << 58); // bytes of any dtype fit
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const std::string text(reinterpret_cast<const char *>(data), size);
    const Result<JsonDocument> document = JsonDocument::parse(text, "config.json");
    require_message(document.status());
    if (!document.ok()) return 0;
    list(document.value().root(), {});
    list(document.value().root(),
         {.fused_experts = false, .fused_mtp_experts = false, .with_vision = false, .nested_prefix = false});
    // A checkpoint that has next to nothing of it.
    const auto folder = memory_folder(
        {{"model.safetensors 2", R"({"lm_head.weight":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})"}});
    const Result<Checkpoint> checkpoint = Checkpoint::open(folder);
    require(checkpoint.ok());
    require_message(match_model(document.value().root(), checkpoint.value()).status());
    return 0;
}
