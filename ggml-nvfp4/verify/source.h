// The source of a checkpoint, and the places of its tensors there: names are compared without their prefixes, experts
// by module, so that fused and per-expert sources work alike.
#pragma once

#include "model/matched_checkpoint.h"
#include "verify/subject.h"

#include <memory>
#include <vector>

namespace gnv::verify {

// A tensor of the subject with the content of `bytes` bytes at `offset` of the source's tensor `source`.
struct PreservedTensor {
    uint32_t tensor = 0; // of the subject
    Role role = Role::extra;
    Part part = Part::text;
    int32_t layer = -1;
    uint32_t source = 0;
    uint64_t offset = 0, bytes = 0;
};

struct Source : MatchedCheckpoint {
    // Filled by relate(); empty while the subject's model is unknown.
    std::vector<int64_t> modules; // per module of the subject: position in layout.modules, -1: not in the source
    std::vector<PreservedTensor> preserved; // in the order of the subject's tensors
    std::vector<uint32_t> unmatched;        // tensors of the source outside the subject's config
    std::vector<uint32_t> added;            // plain tensors of the subject that the source lacks
};

// Opens a BF16 checkpoint and matches it against its own config.
Result<Source> read_source(std::shared_ptr<const Folder> folder);
void relate(const Subject & subject, Source & source);

} // namespace gnv::verify
