// A folder for readers: names, and files that give bytes at any position. It is a directory, or a copy-on-write view of
// one that a test or the self-test has damaged, so that readers treat both alike.
#pragma once

#include "core/status.h"
#include "formats/fetched_files.h"
#include "formats/file.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

// Random access to the bytes of one file; safe to use from several threads.
class FolderFile {
  public:
    virtual ~FolderFile() = default;
    virtual const std::string & path() const = 0;                               // for messages
    virtual Result<FileStamp> stamp() const = 0;                                // size included
    virtual Status read(void * data, uint64_t size, uint64_t offset) const = 0; // exactly `size` bytes
    virtual void will_need(uint64_t, uint64_t) const {} // a hint that [offset, offset + size) is read soon
    // The same for bytes that tell what the file is: its header, small tensors of a fingerprint. A file that is fetched need not be
    // here for them; they are compared with it when it comes.
    virtual Status peek(void * data, uint64_t size, uint64_t offset) const { return read(data, size, offset); }
    virtual void will_peek(uint64_t, uint64_t) const {} // a hint, as will_need()
};
using FolderFiles = std::vector<std::unique_ptr<FolderFile>>;

class Folder {
  public:
    virtual ~Folder() = default;
    virtual const std::string & path() const = 0;                 // for messages
    virtual Result<std::vector<DirectoryEntry>> list() const = 0; // sorted by name
    virtual Result<std::unique_ptr<FolderFile>> open(const std::string & name) const = 0;
    virtual const FetchedFiles * fetched() const { return nullptr; } // null: all files are here
};

// A file of the file system as one of a folder.
Result<std::unique_ptr<FolderFile>> open_folder_file(const std::string & path);
// A directory; Code::not_found without one at `path`.
Result<std::shared_ptr<const Folder>> open_folder(const std::string & path);
Result<bool> has_file(const Folder & folder, const std::string & name);
// A whole small file; a larger one than `limit` is refused.
Result<std::string> read_file(const Folder & folder, const std::string & name, uint64_t limit);

// A view of `base` in which files are replaced, changed, cut or missing. Only differences are held in memory. All
// changes come before the first read.
class OverlayFolder final : public Folder {
  public:
    // Bytes [offset, offset + size) of a file of the base, or bytes of its own.
    struct Segment {
        std::string bytes;     // used when `file` is empty
        std::string file = {}; // of the base
        uint64_t offset = 0, size = 0;
        uint64_t length() const { return file.empty() ? bytes.size() : size; }
    };

    explicit OverlayFolder(std::shared_ptr<const Folder> base) : base_(std::move(base)) {}

    void put(const std::string & name, std::string content);
    void compose(const std::string & name, std::vector<Segment> segments);
    void remove(const std::string & name);
    // Overwrites bytes of a file that is long enough; patches accumulate.
    Status patch(const std::string & name, uint64_t offset, std::string bytes);
    Status truncate(const std::string & name, uint64_t size);

    const std::string & path() const override { return base_->path(); }
    Result<std::vector<DirectoryEntry>> list() const override;
    Result<std::unique_ptr<FolderFile>> open(const std::string & name) const override;

  private:
    struct Entry {
        bool removed = false;
        std::vector<Segment> segments;
    };
    // The segments of a file that exists in the view.
    Result<std::vector<Segment> *> editable(const std::string & name);

    std::shared_ptr<const Folder> base_;
    std::map<std::string, Entry> changed_;
};

} // namespace gnv
