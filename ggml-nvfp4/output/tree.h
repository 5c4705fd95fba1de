// A folder with everything in it, checked and removed by descriptors: the removed files are the checked ones, even if
// names change meanwhile. Links are ordinary entries and are not followed.
#pragma once

#include "output/file_id.h"

#include <functional>
#include <string>

namespace gnv {

struct TreeEntry {
    std::string name; // relative to the top folder: "images/a.png"
    EntryInfo info;
};

// Whether an entry may be removed; called for a folder before its content.
using MayRemove = std::function<Status(const TreeEntry &)>;

// Fails if remove_tree() would, as far as this is known before: an entry that must stay, a mount point, a folder that
// this process may not write. Checks in the order of names.
Status check_tree(const std::string & folder, const FileId & id, const MayRemove & may_remove);

// Removes everything below `folder` and then the folder. Stops at the first entry that must stay. The entry `last` of
// the top folder (may be empty) is removed after all others: it identifies the rest. Large files of a folder go side by side:
// the system takes seconds to give back their pages.
Status remove_tree(const std::string & folder, const FileId & id, const MayRemove & may_remove,
                   const std::string & last);

} // namespace gnv
