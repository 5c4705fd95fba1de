// The order in which a run reads the files of its source: what a streamed source fetches ahead by.
#pragma once

#include "formats/fetched_files.h"
#include "quant/plan.h"
#include "run/weight_group.h"

#include <vector>

namespace gnv {

class SourceReads {
  public:
    explicit SourceReads(const Plan & plan) : plan_(plan) {}

    // What packs these units reads. `resident` (may be null): weights that are in memory by then.
    void add_units(const std::vector<uint32_t> & units, const WeightGroup * resident);
    void add_group(const WeightGroup & group); // of a forward pass
    void add_part(Part part);                  // all its tensors
    const std::vector<FileRead> & list() const { return list_; }

  private:
    void add(uint32_t shard, uint64_t bytes);
    void add_module(const PlanModule & module, const WeightGroup * resident);

    const Plan & plan_;
    std::vector<FileRead> list_; // consecutive reads of a file are one
};

// Adds to the plan what these reads fetch, if its source is streamed.
void describe_streaming(Plan & plan, const SourceReads & reads);

} // namespace gnv
