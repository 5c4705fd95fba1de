// Files that become visible only when they are complete.
#pragma once

#include "formats/file.h"

#include <string>

namespace gnv {

// A new file that gets its name when all of it is on disk. Before that it has no name, so that a killed run leaves no
// file; on file systems that cannot do this it is PATH.partial.
class NewFile {
  public:
    static Result<NewFile> create(const std::string & path);
    static std::string unfinished_name(const std::string & path) { return path + ".partial"; }
    NewFile(NewFile && other) noexcept;
    ~NewFile(); // removes an unpublished file

    const File & file() const { return file_; }
    Status publish(); // syncs; refuses to replace a file

  private:
    NewFile(File file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
    File file_;
    std::string path_, partial_; // partial_: empty if the file has no name, or its final one
};
Status write_new_file(const std::string & path, const std::string & content);

} // namespace gnv
