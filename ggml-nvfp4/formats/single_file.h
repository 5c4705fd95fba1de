// One file as a folder that holds nothing else: for files of tensors that belong to no checkpoint.
#pragma once

#include "formats/folder.h"

#include <memory>
#include <string>

namespace gnv {

// Its path() is the file's.
Result<std::shared_ptr<const Folder>> open_single_file(const std::string & path);

} // namespace gnv
