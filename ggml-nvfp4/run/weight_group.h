// The weights of consecutive stages that are in memory together. A group is read from the checkpoint at once and is the
// unit of streaming: no larger part of a model is ever held.
#pragma once

#include "exec/backend.h"
#include "model/weights.h"

#include <cstdint>
#include <vector>

namespace gnv {

class WeightGroup {
  public:
    // Lays out `refs` (duplicates are allowed) and gives their size in memory; reads nothing.
    static Result<WeightGroup> plan(const WeightCatalog & catalog, const std::vector<WeightRef> & refs);
    uint64_t bytes() const { return bytes_; }

    // The pieces to read, in any order and by any threads, into the memory given to at() (at least bytes(), aligned to
    // 64), which must outlive the group. The message of a failure names tensor, file and offset.
    struct Read {
        WeightPiece piece;
        uint64_t to = 0; // offset in memory
    };
    std::vector<Read> reads() const;
    Status read(const Read & read, const WeightCatalog & catalog, const FolderFiles & files, Trace * trace) const;
    Status read_all(const WeightCatalog & catalog, const FolderFiles & files, ThreadPool & threads,
                    Trace * trace) const;
    // The same weights at another place of the whole group.
    WeightGroup at(void * memory) const;
    // Lets the device rearrange those of these weights that are here (Backend::arrange). source_bytes() has them no more.
    Status arrange(Backend & device, const std::vector<WeightRef> & refs);
    // By how many bytes that made smaller what a token reads, of whose stacks only some experts are chosen.
    double saved_bytes(int64_t chosen_experts) const;
    void will_need(const WeightCatalog & catalog, const FolderFiles & files) const; // asks the system to read ahead

    bool has(const WeightRef & ref) const;
    // A weight, or a part of a stack. The weight must be in the group.
    Tensor find(const WeightRef & ref) const;
    Tensor input_scale(const WeightRef & ref) const; // F32 [1], of a stack [E]
    // Bytes of the checkpoint, unchanged, if the group holds them; else null.
    const uint8_t * source_bytes(uint32_t tensor, uint64_t offset, uint64_t bytes) const;
    bool holds(uint32_t tensor, uint64_t offset, uint64_t bytes) const; // also of a group without memory

    // Groups of the same layout at the same place have their weights at the same places.
    struct Place {
        uint64_t layout = 0;
        const void * memory = nullptr;
        friend bool operator==(const Place &, const Place &) = default;
    };
    Place place() const { return {layout_, memory_}; }

  private:
    struct Entry {
        WeightRef ref;
        WeightSpec spec;
        WeightParts parts;
        std::array<uint64_t, most_components> sections = {}; // offsets in memory
        CompactRows compact = {};                            // as the device arranged it
    };
    Tensor whole(const Entry & entry) const;
    const Entry & entry(const WeightRef & ref) const;
    // Where these bytes of the checkpoint stand in memory; -1: nowhere.
    int64_t place_of(uint32_t tensor, uint64_t offset, uint64_t bytes) const;

    std::vector<Entry> entries_;
    uint64_t bytes_ = 0, layout_ = 0;
    uint8_t * memory_ = nullptr;
};

} // namespace gnv
