// The catalog of a checkpoint's weights: the bytes that make up a graph's weight. Code asks for weights by role and
// place, never by name; experts of a layer come as one stack of consecutive experts, in checkpoints with fused and with
// single experts.
#pragma once

#include "checkpoint/safetensors.h"
#include "core/status.h"
#include "core/tensor.h"
#include "model/model_def.h"

#include <array>
#include <cstdint>
#include <map>
#include <vector>

namespace gnv {

// Layer 0 of the draft head is not layer 0 of the text.
struct WeightKey {
    Part part = Part::text;
    Role role = Role::extra;
    int32_t layer = -1;
    friend auto operator<=>(const WeightKey &, const WeightKey &) = default;
};

struct WeightRef {
    Role role = Role::extra;
    int32_t layer = -1;
    int32_t first_expert = -1, expert_count = 0; // a stack: expert_gate, expert_up, expert_down
    bool flat = false;                           // a stack [E, N, K] seen as [E * N, K]
    Part part = Part::text;
    WeightKey key() const { return {part, role, layer}; }
};

// What a graph sees: Linears as BF16, F32 or NVFP4 (F16 and FP8 are widened to F32), everything else as F32; the embedding as it is. A
// patch embedding [N, channels, frames, rows, columns], a convolution that never overlaps itself, is a Linear's matrix [N, K].
struct WeightSpec {
    DType dtype = DType::f32;
    Shape shape;
    const Format * format = nullptr; // null: not quantized
    // Calibrated input scales: F32 [1], of a stack [E]
    bool has_input_scale() const { return format && format->takes_input_scale(); }
};

// A piece of a file and its conversion.
struct WeightPiece {
    uint32_t tensor = 0;     // position in Checkpoint::tensors()
    uint64_t offset = 0;     // in that tensor
    uint64_t bytes = 0;      // in the file
    bool widen = false;      // BF16, F16 or FP8 elements become F32; such a piece is read as a whole
    int64_t fp8_scales = -1; // of a weight in FP8: the position of its scales
    uint64_t memory_bytes() const { return fp8_scales >= 0 ? bytes * 4 : widen ? bytes * 2 : bytes; }
};

// A weight in memory: a section for each component of its format, in their order (in the source's precision: one), each
// aligned to 64 bytes. A section is made of pieces, one after another.
struct WeightSection {
    std::vector<WeightPiece> pieces;
    uint64_t bytes = 0; // in memory
};
struct WeightParts {
    std::array<WeightSection, most_components> sections;
    uint64_t memory_bytes() const;
};

class WeightCatalog {
  public:
    // `layout` and `checkpoint` must outlive the catalog.
    static Result<WeightCatalog> create(const ModelLayout & layout, const Checkpoint & checkpoint);

    // Code::model without such a weight; Code::unsupported if several tensors of a block have one role, or if experts
    // of a layer are stored in different ways.
    Result<WeightSpec> spec(const WeightRef & ref) const;
    Result<WeightParts> parts(const WeightRef & ref) const;
    const Checkpoint & checkpoint() const { return *checkpoint_; }
    const ModelLayout & layout() const { return *layout_; }

  private:
    struct Entry {
        DType dtype = DType::bf16;       // in the checkpoint; of a quantized Linear as graphs read it
        std::vector<int64_t> shape;      // of one expert or of the whole
        std::vector<uint32_t> modules;   // positions in ModelLayout::modules, by expert; empty: `tensor` is no Linear
        uint32_t tensor = 0;             // position in Checkpoint::tensors()
        const Format * format = nullptr; // of a quantized Linear
        std::string refusal;             // the reason why stages cannot use it; empty: they can
    };
    Result<const Entry *> find(const WeightRef & ref) const;

    const ModelLayout * layout_ = nullptr;
    const Checkpoint * checkpoint_ = nullptr;
    std::map<WeightKey, Entry> entries_;
};

// Input scales of W4A4 Linears: one each, also for each expert of a stack.
class InputScales {
  public:
    // All scales of one part of a checkpoint. Fails on a scale that is not a positive number, and on incomplete
    // experts.
    static Result<InputScales> read(const WeightCatalog & catalog, const FolderFiles & files, Part part = Part::text);

    bool empty() const { return values_.empty(); }
    bool has(const WeightKey & key) const { return values_.count(key) > 0; }
    Tensor find(const WeightRef & ref) const; // f32 [1], for a stack [E]; a view
    const std::map<WeightKey, std::vector<float>> & values() const { return values_; }
    // Gives every expert of a layer the smallest scale of all, gate and up together, like kernels with one scale for a
    // layer's experts.
    void share_between_experts();

    // All scales, consecutive; and the same InputScales with the values at a copy, such as on a device.
    std::vector<float> packed() const;
    InputScales copy_at(const float * memory) const;

  private:
    std::map<WeightKey, std::vector<float>> values_;
    std::map<WeightKey, const float *> places_; // of a copy
};

} // namespace gnv
