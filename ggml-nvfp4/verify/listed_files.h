// The files that the checkpoint's README.md lists with sizes and hashes, as quantize writes it, and their state now.
#pragma once

#include "core/thread_pool.h"
#include "formats/file_list.h"
#include "verify/measure.h"
#include "verify/subject.h"

#include <string>
#include <vector>

namespace gnv::verify {

struct ListedState {
    ListedFile listed;
    bool present = false;
    uint64_t size = 0;
    std::string sha256;  // empty: not read, as its size tells enough
    std::string problem; // the reason why it cannot be read
};

// All sizes, and the hashes of files whose size is as listed; empty if there is no README.md with such a table.
// `progress` counts bytes alone.
Result<std::vector<ListedState>> read_listed_files(const Subject & subject, ThreadPool & threads,
                                                   const ProgressCallback & progress);

} // namespace gnv::verify
