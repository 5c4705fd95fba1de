// The checkpoint under examination, from config and headers: the tensors that config.json requires, those that exist,
// and the storage and declaration of each Linear. Reading does not stop at a fault: missing parts are marked, and the
// checks judge them.
#pragma once

#include "checkpoint/safetensors.h"
#include "codec/format.h"
#include "codec/fp8_scales.h"
#include "core/status.h"
#include "formats/folder.h"
#include "formats/json.h"
#include "model/matched_checkpoint.h"
#include "verify/finding.h"
#include "verify/quantization_config.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gnv::verify {

// The suffixes of the tensors that may belong to a Linear X: the weight in the source's precision or FP8, the
// components of every format of the table, the input scale of FP8.
inline constexpr std::string_view weight_suffix = ".weight", fp8_input_suffix = ".input_scale";
inline constexpr size_t most_suffixes = 8;
std::span<const std::string_view> tensor_suffixes();
size_t suffix_number(std::string_view suffix); // its position there

// Components of NVFP4, as positions in its row of the table, for the checks of values.
enum class Component : uint8_t { codes, block_scales, weight_global_scale, input_global_scale };
inline const FormatComponent & nvfp4_component(Component component) {
    return formats::nvfp4.components[size_t(component)];
}

enum class Stored : uint8_t {
    absent, // no tensor at all
    plain,  // X.weight in a floating-point dtype of 16 bits or more
    nvfp4,  // codes, or scales without a weight
    fp8,    // X.weight of 8 bits
};

// A Linear that config.json requires. Tensor numbers are positions in Checkpoint::tensors(), -1: absent.
struct Module {
    std::string name; // "model.language_model.layers.3.mlp.experts.7.gate_proj"
    Role role = Role::extra;
    Part part = Part::text;
    int32_t layer = -1, expert = -1;
    int64_t rows = 0, columns = 0;              // N = out_features, K = in_features
    std::array<int64_t, most_suffixes> tensors; // by tensor_suffixes()
    bool in_fused_tensor = false;               // weight is a slice of a 3-D tensor
    Stored stored = Stored::absent;
    std::vector<int> declared; // per name space: position in QuantizationConfig::groups, or `undeclared`
    int32_t fused = -1;        // position in Subject::fused_groups

    const Format * format = nullptr; // that it is stored in; of two with one codec the one with an input scale
    int64_t tensor(std::string_view suffix) const { return tensors[suffix_number(suffix)]; }
    int64_t tensor(Component component) const { return tensor(nvfp4_component(component).suffix); }
    int64_t weight() const { return tensors[0]; }
    bool is_nvfp4() const { return stored == Stored::nvfp4; }
    // All tensors of a quantized weight are there in the right dtype and shape: its values can be read.
    bool complete = false;
};

// Modules that loaders put into one parameter.
struct FusedGroup {
    int parameter = -1; // position in fused_parameters()
    std::vector<uint32_t> modules;
};

// A tensor whose name is right except for its prefix.
struct Misnamed {
    uint32_t tensor = 0;
    std::string expected;
};

struct Subject {
    std::shared_ptr<const Folder> folder;
    std::vector<DirectoryEntry> files;
    std::string config_text;
    std::optional<JsonDocument> config;   // absent: missing or no JSON
    std::optional<Checkpoint> checkpoint; // absent: some header cannot be used
    std::vector<std::string> index_problems;
    std::vector<QuantizationConfig> quantization; // per name space; empty without config

    // The rest is empty when config or checkpoint are absent, or the config describes no model we know.
    bool known_model = false;
    std::vector<TensorSpec> specs;     // required by config.json, experts in the form that is there
    std::vector<int64_t> spec_tensors; // per spec: its tensor, -1: none of that name
    std::vector<Module> modules;
    std::vector<FusedGroup> fused_groups;
    std::vector<Misnamed> misnamed;
    std::vector<uint32_t> unknown_tensors;          // neither called for nor part of a module
    bool mixed_draft_experts = false;               // both in one tensor per projection and one by one
    bool has_part[3] = {false, false, false};       // per Part: at least one of its tensors exists
    bool announces_part[3] = {false, false, false}; // config.json requires it

    const TensorInfo & info(int64_t tensor) const { return checkpoint->tensors()[size_t(tensor)]; }
    const QuantizationConfig & config_groups() const { return quantization.front(); }
    // The declaration of a module in the checkpoint's own name space; null without one.
    const DeclaredFormat * declared_format(const Module & module) const;
};

// Fails only for problems outside the checkpoint: no such folder, an unreadable disk, a folder with neither config.json
// nor safetensors files. Findings of L1 and L10 from reading go to `findings`.
Result<Subject> read_subject(std::shared_ptr<const Folder> folder, Findings & findings);

// True for failures of the machine rather than of the files.
bool is_machine_failure(const Status & status);

// A failure's message without the leading "subject: ", for findings that name their subject.
std::string message_about(const Status & status, const std::string & subject);

} // namespace gnv::verify
