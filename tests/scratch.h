// A folder that a test may fill, removed when the test ends.
#pragma once

#include "formats/file.h"

#include <cstdlib>
#include <string>

namespace gnv::test {

class ScratchFolder {
  public:
    ScratchFolder() {
        const char * base = getenv("TMPDIR");
        std::string pattern = std::string(base ? base : "/tmp") + "/gnv-test-XXXXXX";
        path_ = mkdtemp(pattern.data()) ? pattern : std::string();
    }
    ~ScratchFolder() {
        if (!path_.empty()) (void)remove_tree(path_).ok();
    }
    ScratchFolder(const ScratchFolder &) = delete;
    ScratchFolder & operator=(const ScratchFolder &) = delete;

    const std::string & path() const { return path_; }
    std::string operator/(const std::string & name) const { return join_path(path_, name); }

  private:
    std::string path_;
};

} // namespace gnv::test
