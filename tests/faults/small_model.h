// The smallest checkpoint that takes every path of a run: two source files, three files in the result, routed experts,
// full and linear attention, a draft head, other files in a folder of their own.
#pragma once

#include "checkpoint_files.h"
#include "output/checkpoint_writer.h"
#include "quant/plan.h"
#include "scratch.h"
#include "tools/synthetic_checkpoint.h"

#include <map>
#include <string>

namespace gnv::test {

inline const char * const small_config = R"({
  "architectures": ["Qwen3_5MoeForConditionalGeneration"],
  "model_type": "qwen3_5_moe",
  "text_config": {
    "model_type": "qwen3_5_moe_text", "hidden_size": 64, "vocab_size": 8192, "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "mtp_num_hidden_layers": 1,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.5,
                        "mrope_section": [2, 1, 1]}
  }
}
)";
inline constexpr uint64_t small_shard_bytes = 1'000'000; // the least that is allowed

inline void write_small_model(const std::string & folder) {
    SyntheticOptions options;
    options.shards = 2;
    options.layout.fused_experts = false;
    GNV_CHECK(write_synthetic_checkpoint(small_config, folder, options).ok());
    GNV_CHECK(write_file_synced(join_path(folder, "tokenizer.json"), "{}\n").ok());
    GNV_CHECK(write_file_synced(join_path(folder, "tokenizer_config.json"), "{\"chat_template\": \"\"}\n").ok());
    GNV_CHECK(make_directory(join_path(folder, "images")).ok());
    GNV_CHECK(write_file_synced(join_path(folder, "images/a.png"), std::string(5000, 'a')).ok());
}

// With the tokenizer of the model in `other` in place of its own, which only looks like one.
inline void write_small_model_and_tokenizer(const std::string & folder, const std::string & other) {
    write_small_model(folder);
    for (const char * name : {"tokenizer.json", "tokenizer_config.json"}) {
        GNV_CHECK(remove_file(join_path(folder, name)).ok());
        GNV_CHECK(copy_file_synced(join_path(other, name), join_path(folder, name)).ok());
    }
}

// What runs over it plan, in small files.
inline Plan plan_small_model(const std::string & folder, const Format * scheme) {
    PlanOptions options;
    options.recipe.scheme = scheme;
    options.shard_bytes = small_shard_bytes;
    options.threads = 2;
    return gnv::make_plan(folder, options).take();
}

// Relative path -> content of every file of a folder.
using Files = std::map<std::string, std::string>;

inline Files read_folder(const std::string & folder, const std::string & prefix = "") {
    Files files;
    for (const DirectoryEntry & entry : list_directory(folder).take()) {
        const std::string path = join_path(folder, entry.name);
        if (entry.is_directory) {
            files.merge(read_folder(path, prefix + entry.name + "/"));
        } else {
            files[prefix + entry.name] = read_file(path, 1 << 30).take();
        }
    }
    return files;
}

// What the journal of an unfinished folder claims is true of its files: "" or the claim that is not. `good` is the
// finished result.
inline std::string false_claim(const std::string & partial, const Files & good, const OutputLayout & layout) {
    const Files found = read_folder(partial);
    const auto journal = found.find("journal");
    if (journal == found.end()) { // removed when nothing is missing
        for (const auto & [name, content] : good)
            if (found.count(name) == 0 || found.at(name) != content)
                return "no journal, but " + name + " is incomplete";
        return {};
    }
    const std::string & text = journal->second;
    for (size_t at = 0; at < text.size();) {
        const size_t end = text.find('\n', at);
        if (end == std::string::npos) return {}; // a line that was cut off claims nothing
        const std::string line = text.substr(at, end - at);
        at = end + 1;
        if (!starts_with(line, "done ")) continue;
        const OutputTensor & tensor = layout.tensors.at(std::stoul(line.substr(5)));
        const std::string & name = layout.shards[tensor.shard].file_name;
        if (found.at(name).substr(tensor.offset, tensor.bytes) != good.at(name).substr(tensor.offset, tensor.bytes))
            return line + ": " + tensor.name;
    }
    return {};
}

} // namespace gnv::test
