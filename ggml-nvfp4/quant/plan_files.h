// The files beside the weights: those that are copied into a result, and the reasons to leave others out.
#pragma once

#include "quant/plan.h"

#include <string>
#include <vector>

namespace gnv {

struct OtherFiles {
    std::vector<PlanFile> files;
    std::vector<std::string> notes; // one for each file left out that a user may miss or not know of
};

// Also in subfolders, in the order of names. A link is followed if it leads into the source, or into the blobs of the
// hub's cache that the source is a snapshot of or has its weights or config from. Other links are left out, and are a
// failure if no model works without the file. Hidden files and folders are left out, except those that hubs keep in a
// repository.
Result<OtherFiles> find_other_files(const std::string & source);

} // namespace gnv
