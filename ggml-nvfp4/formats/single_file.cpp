#include "formats/single_file.h"

namespace gnv {

namespace {

class OneFile final : public FolderFile {
  public:
    explicit OneFile(File file) : file_(std::move(file)) {}
    const std::string & path() const override { return file_.path(); }
    Result<FileStamp> stamp() const override { return file_.stamp(); }
    Status read(void * data, uint64_t size, uint64_t offset) const override { return file_.read(data, size, offset); }
    void will_need(uint64_t offset, uint64_t size) const override { file_.will_need(offset, size); }

  private:
    File file_;
};

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
        GNV_ASSIGN(File file, File::open_read(path_));
        return std::unique_ptr<FolderFile>(new OneFile(std::move(file)));
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
