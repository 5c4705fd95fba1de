// The files beside the weights: which of them travel into a result, and why others stay behind.
#pragma once

#include "quant/plan.h"

#include <string>
#include <vector>

namespace gnv {

struct OtherFiles {
    std::vector<PlanFile> files;
    std::vector<std::string> notes; // one for each that stays behind and that a user may miss, or not have known of
};

// Subfolders too, in the order of names. A link is followed where it leads to something in the source, or in the blobs of
// the hub's cache that the source is a snapshot of, or has its weights or config from. One that leads elsewhere stays behind, and is a failure where no model
// works without the file. Hidden files and folders stay behind but for those that hubs keep in a repository.
Result<OtherFiles> find_other_files(const std::string & source);

} // namespace gnv
