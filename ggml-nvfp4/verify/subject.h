// A checkpoint under examination, as far as config and headers tell: what config.json calls for, which tensors are there,
// how each Linear is stored and how it is declared. Reading it never stops at a fault: what is missing is marked so, and
// the checks say what it means.
#pragma once

#include "core/status.h"
#include "formats/folder.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "model/model_def.h"
#include "verify/finding.h"
#include "verify/quantization_config.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gnv::verify {

// The tensors that may belong to a Linear X.
enum class Component : uint8_t {
    weight,       // X.weight, source precision or FP8
    codes,        // X.weight_packed
    block_scales, // X.weight_scale
    weight_global_scale,
    input_global_scale,
    input_scale, // of FP8
    count_
};
struct ComponentTraits {
    const char * suffix; // ".weight_packed"
    DType nvfp4_dtype;   // what an NVFP4 module needs; meaningless for weight and input_scale
};
const ComponentTraits & component_traits(Component component);

enum class Stored : uint8_t {
    absent, // no tensor at all
    plain,  // X.weight in a floating-point dtype of 16 bits or more
    nvfp4,  // X.weight_packed, or scales without any weight
    fp8,    // X.weight of 8 bits
};

// A Linear that config.json calls for. Tensor numbers are positions in Checkpoint::tensors(), -1 when absent.
struct Module {
    std::string name; // "model.language_model.layers.3.mlp.experts.7.gate_proj"
    Role role = Role::extra;
    Part part = Part::text;
    int32_t layer = -1, expert = -1;
    int64_t rows = 0, columns = 0; // N = out_features, K = in_features
    std::array<int64_t, size_t(Component::count_)> tensors;
    bool in_fused_tensor = false; // weight is a slice of a 3-D tensor (draft head only)
    Stored stored = Stored::absent;
    std::vector<int> declared; // per name space: position in QuantizationConfig::groups, or `undeclared`
    int32_t fused = -1;        // position in Subject::fused_groups

    int64_t tensor(Component component) const { return tensors[size_t(component)]; }
    bool is_nvfp4() const { return stored == Stored::nvfp4; }
    // All tensors of an NVFP4 weight are there in the right dtype and shape: its values can be read.
    bool complete = false;
};

// Modules that loaders put into one parameter.
struct FusedGroup {
    int parameter = -1; // position in fused_parameters()
    std::vector<uint32_t> modules;
};

// A tensor whose name is right but for its prefix.
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
    std::vector<TensorSpec> specs;     // what config.json calls for, one tensor per expert outside the draft head
    std::vector<int64_t> spec_tensors; // per spec: its tensor, -1 when there is none of that name
    std::vector<Module> modules;
    std::vector<FusedGroup> fused_groups;
    std::vector<Misnamed> misnamed;
    std::vector<uint32_t> unknown_tensors;          // neither called for nor part of a module
    bool mixed_draft_experts = false;               // both in one tensor per projection and one by one
    bool has_part[3] = {false, false, false};       // per Part: at least one of its tensors is there
    bool announces_part[3] = {false, false, false}; // config.json calls for it

    const TensorInfo & info(int64_t tensor) const { return checkpoint->tensors()[size_t(tensor)]; }
    const QuantizationConfig & config_groups() const { return quantization.front(); }
    // The scheme that the checkpoint's own name space declares for a module; null when none.
    const Scheme * declared_scheme(const Module & module) const;
};

// Fails only for what is no property of the checkpoint: no such folder, an unreadable disk, a folder that holds neither
// config.json nor safetensors files. Findings of L1 and L10 that show while reading go to `findings`.
Result<Subject> read_subject(std::shared_ptr<const Folder> folder, Findings & findings);

// True for failures of the machine rather than of the files.
bool is_machine_failure(const Status & status);

// A failure's message without "subject: " in front, for findings that name their subject.
std::string message_about(const Status & status, const std::string & subject);

} // namespace gnv::verify
