// A folder with all it holds, looked at and removed by descriptors: what is removed is what was looked at, whatever names
// lead to in the meantime. Links are entries like others and are not followed.
#pragma once

#include "formats/file_id.h"

#include <functional>
#include <string>

namespace gnv {

struct TreeEntry {
    std::string name; // relative to the top folder: "images/a.png"
    EntryInfo info;
};

// Says whether an entry may go; a folder is asked about before what it holds.
using MayRemove = std::function<Status(const TreeEntry &)>;

// Fails where remove_tree() would for what can be known before: an entry that may not go, a mount point, a folder that this
// process may not write. Asks in the order of names.
Status check_tree(const std::string & folder, const FileId & id, const MayRemove & may_remove);

// Removes all below `folder` and then itself. Stops at the first entry that may not go. The entry `last` of the top folder
// (may be empty) goes after all others: it says whose the rest is.
Status remove_tree(const std::string & folder, const FileId & id, const MayRemove & may_remove,
                   const std::string & last);

} // namespace gnv
