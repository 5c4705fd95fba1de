#include "formats/single_file.h"

namespace gnv {

namespace {

class SingleFile final : public Folder {
  public:
    explicit SingleFile(std::string path) : path_(std::move(path)) {}
    const std::string & path() const override { return path_; }
    Result<std::vector<DirectoryEntry>> list() const override {
        DirectoryEntry entry;
        entry.name = base_name(path_);
        return std::vector<DirectoryEntry>{std::move(entry)};
    }
    Result<std::unique_ptr<FolderFile>> open(const std::string & name) const override {
        if (name != base_name(path_)) return fail(Code::not_found, path_, " stands alone, without ", name);
        return open_folder_file(path_);
    }

  private:
    std::string path_;
};

} // namespace

Result<std::shared_ptr<const Folder>> open_single_file(const std::string & path) {
    GNV_ASSIGN(const File file, File::open_read(path)); // now, not at the first read
    return std::shared_ptr<const Folder>(new SingleFile(path));
}

} // namespace gnv
