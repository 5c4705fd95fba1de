// A folder that a test may fill, removed when the test ends.
#pragma once

#include "formats/file.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace gnv::test {

class ScratchFolder {
  public:
    ScratchFolder() : ScratchFolder(getenv("TMPDIR")) {}
    explicit ScratchFolder(const char * base) { // null: /tmp
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
    // Writes a file, in place of one that is there, and returns its path.
    std::string save(const std::string & name, const std::string & content) const {
        (void)remove_file(*this / name).ok(); // cheaper than cutting it to nothing, which some file systems sync
        std::ofstream(*this / name, std::ios::binary) << content;
        return *this / name;
    }

  private:
    std::string path_;
};

// To a folder that is not there, with all that is in it.
inline void copy_folder(const std::string & from, const std::string & to) {
    std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

} // namespace gnv::test
