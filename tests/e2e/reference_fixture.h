// What llm-compressor wrote for the small checkpoint and 32 samples of 256 tokens.
#pragma once

#include "e2e/calibrated_fixture.h"
#include "golden_file.h"

#include <set>

namespace gnv::test {

struct Fingerprint {
    std::string dtype_and_shape, sha256;
};

inline std::map<std::string, Fingerprint> recorded_tensors() {
    const JsonDocument document = JsonDocument::read(golden_folder + "/tensors.json", 100'000'000).take();
    std::map<std::string, Fingerprint> out;
    REQUIRE(document.root()
                .for_each_member([&](std::string_view name, const JsonValue & value) -> Status {
                    std::vector<int64_t> shape;
                    for (const int32_t extent : read_id_list(value.get("shape").value())) shape.push_back(extent);
                    Fingerprint & print = out[std::string(name)];
                    print.dtype_and_shape =
                        concat(value.get("dtype").value().as_string().value(), " ", shape_text(shape));
                    print.sha256 = value.get("sha256").value().as_string().value();
                    return {};
                })
                .ok());
    return out;
}

// The norms that llm-compressor rewrites while it loads a model: w becomes (w + 1) - 1 in BF16. We keep the source's bytes.
inline std::set<std::string> rewritten_norms() {
    std::set<std::string> names = {"model.language_model.norm.weight"};
    for (int layer = 0; layer < 8; layer++) {
        const std::string prefix = concat("model.language_model.layers.", layer, ".");
        names.insert(prefix + "input_layernorm.weight");
        if (layer >= 2)
            names.insert(prefix + "post_attention_layernorm.weight"); // the first two come back as they were
        if (layer != 3 && layer != 7) continue;                       // full attention
        names.insert(prefix + "self_attn.q_norm.weight");
        names.insert(prefix + "self_attn.k_norm.weight");
    }
    return names;
}

// Names, dtypes and shapes of all tensors, and the bytes of all that were not measured.
inline void check_reference_tensors(const std::vector<MemoryTensor> & tensors) {
    const auto recorded = recorded_tensors();
    const std::set<std::string> rewritten = rewritten_norms();
    std::map<std::string, std::string> source;
    for (const MemoryTensor & tensor : load_tensors(tiny_folder))
        source[tensor.name] = sha256_hex(tensor.data.data(), tensor.data.size());
    CHECK(tensors.size() == recorded.size());
    CHECK(recorded.size() == 3357);
    CHECK(rewritten.size() == 19);
    size_t equal = 0, input_scales = 0;
    for (const MemoryTensor & tensor : tensors) {
        CAPTURE(tensor.name);
        const auto found = recorded.find(tensor.name);
        REQUIRE(found != recorded.end());
        CHECK(concat(dtype_name(tensor.dtype), " ", shape_text(tensor.shape)) == found->second.dtype_and_shape);
        const std::string hash = sha256_hex(tensor.data.data(), tensor.data.size());
        if (ends_with(tensor.name, ".input_global_scale")) { // measured: compared as numbers below
            input_scales++;
            continue;
        }
        if (rewritten.count(tensor.name)) {
            CHECK(hash == source.at(tensor.name));
            CHECK(hash != found->second.sha256);
            continue;
        }
        CHECK(hash == found->second.sha256);
        equal++;
    }
    CHECK(input_scales == 800);
    CHECK(equal == 3357 - 800 - 19);
}

inline std::map<std::string, float> reference_input_scales() {
    const GoldenFile subset("subset.safetensors");
    std::map<std::string, float> scales;
    for (const HeaderTensor & tensor : subset.tensors())
        if (ends_with(tensor.name, ".input_global_scale")) scales[tensor.name] = subset.floats(tensor.name).at(0);
    return scales;
}

} // namespace gnv::test
