// What a checkpoint folder holds: its tensors with their roles, and which of them together are one quantized weight.
// Nothing has to be as a loader needs it: what is missing or odd becomes a note.
#pragma once

#include "core/status.h"
#include "formats/safetensors.h"
#include "model/model_def.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gnv {

// How the producers of NVFP4 checkpoints name the tensors of one weight "X".
struct QuantizedNaming {
    const char * producer;
    const char * codes;        // X + this: U8 [N, K / 2]
    const char * block_scales; // F8_E4M3 [N, K / 16]
    const char * global_scale; // F32, one element
    const char * input_scale;  // F32, one element; W4A4 only
    bool scales_divide;        // whether the F32 scales are divisors, as in codec/nvfp4.h, or factors
};

enum class ModulePart : uint8_t { none, codes, block_scales, global_scale, input_scale };
const char * module_part_name(ModulePart part); // "codes"; "" for none

struct QuantizedModule {
    std::string name; // "model.language_model.layers.3.mlp.experts.7.gate_proj", without ".weight"
    const QuantizedNaming * naming = nullptr;
    int64_t rows = 0, columns = 0;                          // N, K of the weight
    uint32_t codes = 0, block_scales = 0, global_scale = 0; // positions in Checkpoint::tensors()
    int64_t input_scale = -1;                               // the same, -1 when there is none

    const char * scheme() const { return input_scale >= 0 ? "nvfp4" : "nvfp4a16"; }
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
