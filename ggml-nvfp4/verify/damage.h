// Damage to a view of a checkpoint: edits of tensors, names, config and files are collected and shown through an
// overlay whose headers and index agree with the edits. The files do not change.
#pragma once

#include "core/instruction_set.h"
#include "formats/folder.h"
#include "formats/json_tree.h"
#include "verify/measure.h"
#include "verify/subject.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gnv::verify {

class Damage {
  public:
    // `subject` must be a checkpoint with a known model; it must outlive the damage. `instructions`: for faults that
    // pack a weight.
    Damage(const Subject & subject, InstructionSet instructions);
    InstructionSet instructions() const { return instructions_; }
    Damage(const Damage &) = delete;
    Damage & operator=(const Damage &) = delete;

    const Subject & subject() const { return subject_; }
    // The first module that satisfies `wanted`; null without one.
    const Module * find(const std::function<bool(const Module &)> & wanted) const;
    // The layer with the damage, so that only this layer must be read again.
    void touch(const Module & module) { touched_ = LayerChoice{module.part, module.layer}; }
    const std::optional<LayerChoice> & touched() const { return touched_; }

    // Tensors, by position in the subject's checkpoint.
    Result<std::string> read(int64_t tensor) const;
    void write(int64_t tensor, std::string bytes); // of the same size
    void rename(int64_t tensor, std::string name);
    void remove(int64_t tensor);
    void set_dtype(int64_t tensor, DType dtype);
    void set_shape(int64_t tensor, std::vector<int64_t> shape);
    // A new tensor, beside an existing one.
    void add(int64_t beside, std::string name, DType dtype, std::vector<int64_t> shape, std::string bytes);

    JsonTree & config();                          // of config.json; written back by finish()
    OverlayFolder & files() { return *overlay_; } // for files that finish() does not write

    // The damaged view.
    Result<std::shared_ptr<const Folder>> finish();

  private:
    struct Entry {
        HeaderTensor header;
        OverlayFolder::Segment data;
        bool removed = false;
    };
    Entry & entry(int64_t tensor);
    void write_shard(size_t shard);
    void write_index();

    const Subject & subject_;
    const InstructionSet instructions_;
    std::shared_ptr<OverlayFolder> overlay_;
    std::vector<std::vector<Entry>> shards_; // by shard: its tensors, then added ones
    std::vector<bool> changed_;              // per shard
    bool renamed_ = false;                   // names differ from the index
    std::optional<JsonTree> config_;
    std::optional<LayerChoice> touched_;
};

} // namespace gnv::verify
