// Files that appear complete or not at all.
#pragma once

#include "formats/file.h"

#include <string>

namespace gnv {

// A new file that gets its name when all of it is on disk. Where the file system can, it has no name before that, so that
// a run that is killed leaves nothing; elsewhere it is PATH.partial until then.
class NewFile {
  public:
    static Result<NewFile> create(const std::string & path);
    NewFile(NewFile && other) noexcept;
    ~NewFile(); // removes what did not get its name

    const File & file() const { return file_; }
    Status publish(); // syncs; refuses to replace a file

  private:
    NewFile(File file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
    File file_;
    std::string path_, partial_; // partial_: empty when it has no name, or its own
};
Status write_new_file(const std::string & path, const std::string & content);

} // namespace gnv
