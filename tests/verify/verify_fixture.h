// Good checkpoints that the tests of verify examine and damage, made once for the whole program.
#pragma once

#include "checkpoint_files.h"
#include "codec/nvfp4.h"
#include "formats/json.h"
#include "quantize/quantize.h"
#include "scratch.h"
#include "verify/verify.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace gnv::test {

using Json = nlohmann::ordered_json;

inline const std::string tiny = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";
inline const std::string golden = GNV_TEST_DATA "/golden";

inline ThreadPool & two_threads() {
    static const std::unique_ptr<ThreadPool> pool = ThreadPool::create(2).take();
    return *pool;
}

// A BF16 checkpoint and an NVFP4 one made from it.
struct CheckpointPair {
    ScratchFolder scratch;
    std::string source, quantized;
};

inline void quantize_source(CheckpointPair & pair, uint64_t shard_bytes = default_shard_bytes,
                            const Quantizer & quantizer = round_to_nearest(), const Format * draft_head = nullptr) {
    PlanOptions options;
    options.recipe.draft_head = draft_head;
    options.recipe.quantizer = &quantizer;
    options.recipe.scheme = &formats::nvfp4a16;
    options.shard_bytes = shard_bytes;
    options.threads = 2;
    pair.quantized = pair.scratch / "quantized";
    QuantizeOptions run;
    run.destination = pair.quantized;
    const Plan plan = make_plan(pair.source, options).take();
    GNV_CHECK(quantize(plan, two_threads(), run).ok());
}

// The small checkpoint as published (fused experts, three shards), quantized into one shard.
inline const CheckpointPair & fused_pair() {
    static CheckpointPair pair;
    if (pair.source.empty()) {
        pair.source = tiny;
        quantize_source(pair);
    }
    return pair;
}

// The same with one tensor per expert in five shards, quantized into several.
inline const CheckpointPair & split_pair() {
    static CheckpointPair pair;
    if (pair.source.empty()) {
        pair.source = pair.scratch / "source";
        GNV_CHECK(make_directory(pair.source).ok());
        save_tensors(pair.source, split_experts(load_tensors(tiny)), 5);
        copy_other_files(tiny, pair.source);
        quantize_source(pair, 4'000'000);
    }
    return pair;
}

// The same with the draft head in NVFP4.
inline const CheckpointPair & draft_pair() {
    static CheckpointPair pair;
    if (pair.source.empty()) {
        pair.source = tiny;
        quantize_source(pair, default_shard_bytes, round_to_nearest(), &formats::nvfp4a16);
    }
    return pair;
}

// Numbers around zero that depend on the name alone; norms near one.
inline std::string random_bf16(const std::string & name, const std::vector<int64_t> & shape) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (const char c : name) state = (state ^ uint8_t(c)) * 0x100000001b3u;
    const auto uniform = [&] {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        return float(int32_t(uint32_t(state >> 32))) * 0x1p-31f;
    };
    const float scale = 1.0f / std::sqrt(float(shape.back()));
    std::string bytes;
    for (int64_t i = 0; i < count; i++) {
        const float value = (uniform() + uniform() + uniform()) * scale;
        const uint16_t bits = nvfp4::bf16_from_float(value);
        bytes.append(reinterpret_cast<const char *>(&bits), sizeof bits);
    }
    return bytes;
}

// Another shape: text only with a flat config, other head ratios, widths that are odd multiples of 16, five experts, no
// draft head, everything in one file.
inline Json odd_config() {
    Json config = Json::parse(read_file(join_path(tiny, "config.json"), 1 << 20).value())["text_config"];
    config["architectures"] = {"Qwen3_5MoeForCausalLM"};
    const Json changes = {
        {"hidden_size", 176},
        {"num_attention_heads", 6},
        {"num_key_value_heads", 3},
        {"head_dim", 32},
        {"linear_num_key_heads", 3},
        {"linear_num_value_heads", 9},
        {"linear_key_head_dim", 24},
        {"linear_value_head_dim", 16},
        {"moe_intermediate_size", 112},
        {"shared_expert_intermediate_size", 48},
        {"num_experts", 5},
        {"num_experts_per_tok", 2},
        {"num_hidden_layers", 2},
        {"vocab_size", 208},
        {"mtp_num_hidden_layers", 0},
        {"layer_types", {"linear_attention", "full_attention"}},
    };
    config.update(changes);
    config["rope_parameters"]["mrope_section"] = {2, 1, 1};
    return config;
}

inline const CheckpointPair & odd_pair() {
    static CheckpointPair pair;
    if (pair.source.empty()) {
        pair.source = pair.scratch / "source";
        GNV_CHECK(make_directory(pair.source).ok());
        const std::string config = odd_config().dump(2);
        const JsonDocument document = JsonDocument::parse(config, "config.json").take();
        LayoutChoice flat;
        flat.nested_prefix = false;
        std::vector<MemoryTensor> tensors;
        for (const TensorSpec & spec : list_tensors(document.root(), flat).take())
            tensors.push_back({spec.name, DType::bf16, spec.shape, random_bf16(spec.name, spec.shape)});
        save_tensors(pair.source, tensors, 1);
        for (const char * name :
             {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"})
            GNV_CHECK(copy_file_synced(join_path(tiny, name), join_path(pair.source, name)).ok());
        GNV_CHECK(write_file_synced(join_path(pair.source, "config.json"), config).ok());
        quantize_source(pair);
    }
    return pair;
}

// w -> bf16(bf16(1 + w) - 1), which llm-compressor does to the norms of the text model.
inline void trip_norm(std::string & bytes) {
    for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
        uint16_t bits;
        memcpy(&bits, &bytes[i], sizeof bits);
        const float one = nvfp4::bf16_to_float(nvfp4::bf16_from_float(1 + nvfp4::bf16_to_float(bits)));
        bits = nvfp4::bf16_from_float(one - 1);
        memcpy(&bytes[i], &bits, sizeof bits);
    }
}

inline bool is_tripped_norm(const std::string & name) {
    const bool text = starts_with(name, "model.language_model.") && name.find("linear_attn") == std::string::npos;
    return text && ends_with(name, "norm.weight");
}

inline void write_reference(CheckpointPair & pair, bool trips_norms) {
    pair.source = tiny;
    pair.quantized = pair.scratch / "reference";
    GNV_CHECK(make_directory(pair.quantized).ok());
    std::vector<MemoryTensor> recorded;
    {
        const ScratchFolder subset; // a folder with the one file, so that it opens as a checkpoint
        GNV_CHECK(copy_file_synced(golden + "/subset.safetensors", subset / "model.safetensors").ok());
        recorded = load_tensors(subset.path());
    }
    std::vector<MemoryTensor> model, draft;
    for (MemoryTensor & tensor : load_tensors(fused_pair().quantized)) {
        if (trips_norms && is_tripped_norm(tensor.name)) trip_norm(tensor.data);
        (starts_with(tensor.name, "mtp.") ? draft : model).push_back(std::move(tensor));
    }
    for (const MemoryTensor & tensor : recorded)
        if (ends_with(tensor.name, ".input_global_scale")) model.push_back(tensor);
    const auto write = [&](const std::vector<MemoryTensor> & tensors, const char * name, Json & map) {
        const ScratchFolder one;
        save_tensors(one.path(), tensors, 1);
        GNV_CHECK(copy_file_synced(one / "model.safetensors", join_path(pair.quantized, name)).ok());
        for (const MemoryTensor & tensor : tensors) map[tensor.name] = name;
    };
    Json index = {{"metadata", Json::object()}, {"weight_map", Json::object()}};
    write(model, "model.safetensors", index["weight_map"]);
    write(draft, "model_mtp.safetensors", index["weight_map"]);
    GNV_CHECK(write_file_synced(join_path(pair.quantized, index_file_name), index.dump()).ok());
    copy_other_files(tiny, pair.quantized);
    GNV_CHECK(remove_file(join_path(pair.quantized, "config.json")).ok());
    for (const char * name : {"config.json", "recipe.yaml"})
        GNV_CHECK(copy_file_synced(join_path(golden, name), join_path(pair.quantized, name)).ok());
}

// What llm-compressor wrote (W4A4): our codes, which are its codes, the recorded input scales, its norms, its files.
inline const CheckpointPair & reference_pair() {
    static CheckpointPair pair;
    if (pair.source.empty()) write_reference(pair, true);
    return pair;
}

// The same with the norms of the source: what the weights and scales alone do.
inline const CheckpointPair & untripped_pair() {
    static CheckpointPair pair;
    if (pair.source.empty()) write_reference(pair, false);
    return pair;
}

// --- Runs -------------------------------------------------------------------------------------------------------------------

inline verify::VerifyReport examine(std::shared_ptr<const Folder> folder, const std::string & source,
                                    ThreadPool & threads = two_threads()) {
    std::shared_ptr<const Folder> source_folder;
    if (!source.empty()) source_folder = open_folder(source).take();
    return verify::verify(std::move(folder), std::move(source_folder), threads, {}).take();
}
inline verify::VerifyReport examine(const std::string & folder, const std::string & source) {
    return examine(open_folder(folder).take(), source);
}

// Ids of the checks with errors or warnings: "L3 L4".
inline std::string failed_checks(const verify::VerifyReport & report) {
    std::string out;
    for (const verify::CheckOutcome & outcome : report.outcomes)
        if (report.findings.count(outcome.check->id, verify::Severity::error) +
                report.findings.count(outcome.check->id, verify::Severity::warning) >
            0)
            out += (out.empty() ? "" : " ") + std::string(outcome.check->id);
    return out;
}

} // namespace gnv::test
