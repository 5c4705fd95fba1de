// What a checkpoint folder holds: its tensors with their roles, and which of them together are one quantized weight.
// Nothing has to be as a loader needs it: what is missing or odd becomes a note.
#pragma once

#include "codec/format.h"
#include "core/status.h"
#include "formats/safetensors.h"
#include "model/model_def.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gnv {

// How a producer names the tensors of one weight "X" in a format.
struct QuantizedNaming {
    const char * producer;
    const Format * format;                              // that with an input scale, of those with the same codec
    std::array<const char *, most_components> suffixes; // by component
    bool scales_divide; // whether the F32 scales are what the format says, or their inverse
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
    uint32_t codes() const { return uint32_t(tensors[0]); } // for its place and role
    uint32_t tensor(ModulePart part) const { return uint32_t(tensors[size_t(part)]); }
};

class Contents {
  public:
    // Opens the checkpoint and its config.json, where there is one. Reads no tensor data.
    static Result<Contents> open(const std::string & folder);

    struct Use {                 // of a tensor
        Role role = Role::extra; // of the weight, for a part of a quantized one
        Part part = Part::text;
        int64_t module = -1; // position in modules(), -1 for tensors that are no part of one
        ModulePart module_part = ModulePart::none;
    };

    const Checkpoint & checkpoint() const { return checkpoint_; }
    const TensorInfo & tensor(uint64_t position) const { return checkpoint_.tensors()[position]; }
    const Use & use(uint64_t tensor) const { return uses_[tensor]; }
    // "router", "draft head: attention q", "extra" for a tensor that the model in config.json does not have; "" when
    // there is no such model.
    std::string role_name(uint64_t tensor) const;

    // In the order of their codes in the files.
    const std::vector<QuantizedModule> & modules() const { return modules_; }
    int64_t find_module(std::string_view name) const; // position, or -1
    // Where the Linear modules of a checkpoint that is not quantized lie; empty for others.
    const std::vector<LinearModule> & linear_modules() const { return linear_modules_; }
    const std::vector<std::string> & notes() const { return notes_; }

    // Bytes [offset, offset + size) of a tensor; any thread.
    Status read(const TensorInfo & tensor, uint64_t offset, void * data, uint64_t size) const;
    // The value of a tensor of one F32 element.
    Result<float> read_scalar(uint32_t tensor) const;
    // Code::changed when a file is no longer what it was when the folder was opened.
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
