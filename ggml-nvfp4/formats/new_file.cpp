#include "formats/new_file.h"

#include <unistd.h>
#include <utility>

namespace gnv {

Result<NewFile> NewFile::create(const std::string & path) {
    if (path_exists(path)) return fail(Code::already_exists, path, " exists; it will not be overwritten");
    Result<File> unnamed = File::create_linkable(path);
    if (unnamed.ok()) return NewFile(unnamed.take(), path);
    const std::string partial = unfinished_name(path);
    if (path_exists(partial))
        return fail(Code::already_exists, partial, " is left from a run that did not finish; remove it");
    GNV_ASSIGN(File named, File::create(partial));
    NewFile made(std::move(named), path);
    made.partial_ = partial;
    return made;
}

NewFile::NewFile(NewFile && other) noexcept
    : file_(std::move(other.file_)), path_(std::move(other.path_)), partial_(std::exchange(other.partial_, {})) {}

NewFile::~NewFile() {
    if (!partial_.empty()) unlink(partial_.c_str());
}

Status NewFile::publish() {
    GNV_TRY(file_.sync());
    if (partial_.empty()) {
        GNV_TRY(file_.link_to(path_));
    } else {
        GNV_TRY(rename_path(partial_, path_));
        partial_.clear();
    }
    GNV_TRY(file_.close());
    return sync_directory(parent_path(path_));
}

Status write_new_file(const std::string & path, const std::string & content) {
    GNV_ASSIGN(NewFile made, NewFile::create(path));
    GNV_TRY(made.file().write(content.data(), content.size(), 0));
    return made.publish();
}

} // namespace gnv
