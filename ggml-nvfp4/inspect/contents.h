// The contents of a checkpoint folder: its tensors with their roles, and the tensors that form a quantized weight. The
// folder need not be loadable: missing and odd tensors become notes.
#pragma once

#include "checkpoint/safetensors.h"
#include "codec/format.h"
#include "core/status.h"
#include "model/model_def.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gnv {

// A producer's names of the tensors of one weight "X" in a format.
struct QuantizedNaming {
    const char * producer;
    const Format * format;                              // with an input scale, of those with one codec
    std::array<const char *, most_components> suffixes; // by component
    bool scales_divide; // whether the F32 scales are those of the format, or their inverse
};

// Components of NVFP4, as positions in its row of the format table.
enum class ModulePart : int8_t { none = -1, codes, block_scales, global_scale, input_scale };
inline const char * module_part_name(ModulePart part) { // "codes"; "" for none
    return part == ModulePart::none ? "" : formats::nvfp4.components[size_t(part)].title;
}

struct QuantizedModule {
    std::string name; // "model.language_model.layers.3.mlp.experts.7.gate_proj", without ".weight"
    const QuantizedNaming * naming = nullptr;
    const Format * format = nullptr;
    int64_t rows = 0, columns = 0;                     // N, K of the weight
    std::array<int64_t, most_components> tensors = {}; // by component, positions in Checkpoint::tensors()

    const char * scheme() const { return format->name; }
    uint32_t codes() const { return uint32_t(tensors[0]); } // gives place and role
    uint32_t tensor(ModulePart part) const { return uint32_t(tensors[size_t(part)]); }
};

class Contents {
  public:
    // Opens the checkpoint and its config.json, if it exists, or one file NAME.safetensors alone. Reads no tensor data.
    static Result<Contents> open(const std::string & path);

    struct Use {                 // of a tensor
        Role role = Role::extra; // of the weight, for a part of a quantized one
        Part part = Part::text;
        int64_t module = -1; // position in modules(), -1: not part of one
        ModulePart module_part = ModulePart::none;
    };

    const Checkpoint & checkpoint() const { return checkpoint_; }
    const TensorInfo & tensor(uint64_t position) const { return checkpoint_.tensors()[position]; }
    const Use & use(uint64_t tensor) const { return uses_[tensor]; }
    // "router", "draft head: attention q", "extra" for a tensor outside the model in config.json; "" without a model.
    std::string role_name(uint64_t tensor) const;

    // In the order of their codes in the files.
    const std::vector<QuantizedModule> & modules() const { return modules_; }
    int64_t find_module(std::string_view name) const; // position, or -1
    // The places of the Linear modules of an unquantized checkpoint; empty for others.
    const std::vector<LinearModule> & linear_modules() const { return linear_modules_; }
    const std::vector<std::string> & notes() const { return notes_; }

    // Bytes [offset, offset + size) of a tensor; any thread.
    Status read(const TensorInfo & tensor, uint64_t offset, void * data, uint64_t size) const;
    // The value of a tensor with one F32 element.
    Result<float> read_scalar(uint32_t tensor) const;
    // Code::changed if a file was changed since the folder was opened.
    Status check_unchanged() const { return checkpoint_.check_unchanged(shards_); }

  private:
    explicit Contents(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {}
    void find_modules();
    void find_roles();
    Status read_model();

    Checkpoint checkpoint_;
    FolderFiles shards_;
    std::vector<Use> uses_;
    std::vector<QuantizedModule> modules_;
    std::unordered_map<std::string, uint32_t> module_by_name_;
    std::vector<LinearModule> linear_modules_;
    std::vector<std::string> notes_;
    bool has_model_ = false;
};

} // namespace gnv
