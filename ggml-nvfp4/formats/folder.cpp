#include "formats/folder.h"

#include <algorithm>
#include <cstring>

namespace gnv {

namespace {

// --- A directory ----------------------------------------------------------------------------------------------------------

class RealFile final : public FolderFile {
  public:
    explicit RealFile(File file) : file_(std::move(file)) {}
    const std::string & path() const override { return file_.path(); }
    Result<FileStamp> stamp() const override { return file_.stamp(); }
    Status read(void * data, uint64_t size, uint64_t offset) const override { return file_.read(data, size, offset); }
    void will_need(uint64_t offset, uint64_t size) const override { file_.will_need(offset, size); }

  private:
    File file_;
};

class RealFolder final : public Folder {
  public:
    explicit RealFolder(std::string path) : path_(std::move(path)) {}
    const std::string & path() const override { return path_; }
    Result<std::vector<DirectoryEntry>> list() const override { return list_directory(path_); }
    Result<std::unique_ptr<FolderFile>> open(const std::string & name) const override {
        return open_folder_file(join_path(path_, name));
    }

  private:
    std::string path_;
};

// --- A view -----------------------------------------------------------------------------------------------------------------

// Consecutive segments; `start[i]` is the offset of segment i, the last entry the size.
class SegmentedFile final : public FolderFile {
  public:
    static Result<std::unique_ptr<FolderFile>> open(const Folder & base, const std::string & name,
                                                    const std::vector<OverlayFolder::Segment> & segments) {
        std::unique_ptr<SegmentedFile> file(new SegmentedFile(join_path(base.path(), name), segments));
        for (const OverlayFolder::Segment & segment : segments) {
            file->start_.push_back(file->start_.back() + segment.length());
            if (segment.file.empty() || file->files_.count(segment.file)) continue;
            GNV_ASSIGN(file->files_[segment.file], base.open(segment.file));
        }
        return std::unique_ptr<FolderFile>(std::move(file));
    }

    const std::string & path() const override { return path_; }
    Result<FileStamp> stamp() const override {
        FileStamp stamp;
        stamp.size = start_.back();
        return stamp;
    }
    Status read(void * data, uint64_t size, uint64_t offset) const override {
        auto * out = static_cast<char *>(data);
        size_t i = size_t(std::upper_bound(start_.begin(), start_.end(), offset) - start_.begin());
        for (; size > 0; i++) {
            if (i >= start_.size())
                return fail(Code::format, path_, " ends at byte ", start_.back(), ", ", size,
                            " bytes before the data it promises");
            const OverlayFolder::Segment & segment = segments_[i - 1];
            const uint64_t inside = offset - start_[i - 1], step = std::min(size, segment.length() - inside);
            if (segment.file.empty()) {
                memcpy(out, segment.bytes.data() + inside, step);
            } else {
                GNV_TRY(files_.at(segment.file)->read(out, step, segment.offset + inside));
            }
            out += step, offset += step, size -= step;
        }
        return {};
    }

  private:
    SegmentedFile(std::string path, std::vector<OverlayFolder::Segment> segments)
        : path_(std::move(path)), segments_(std::move(segments)) {}
    std::string path_;
    std::vector<OverlayFolder::Segment> segments_;
    std::vector<uint64_t> start_ = {0};
    std::map<std::string, std::unique_ptr<FolderFile>> files_;
};

} // namespace

Result<std::unique_ptr<FolderFile>> open_folder_file(const std::string & path) {
    GNV_ASSIGN(File file, File::open_read(path));
    return std::unique_ptr<FolderFile>(new RealFile(std::move(file)));
}

Result<std::shared_ptr<const Folder>> open_folder(const std::string & path) {
    if (!is_directory(path))
        return fail(Code::not_found, path, " is not a folder; expected one with safetensors files");
    return std::shared_ptr<const Folder>(new RealFolder(path));
}

Result<bool> has_file(const Folder & folder, const std::string & name) {
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, folder.list());
    return std::any_of(entries.begin(), entries.end(),
                       [&](const DirectoryEntry & entry) { return entry.name == name && !entry.is_directory; });
}

Result<std::string> read_file(const Folder & folder, const std::string & name, uint64_t limit) {
    GNV_ASSIGN(const std::unique_ptr<FolderFile> file, folder.open(name));
    GNV_ASSIGN(const FileStamp stamp, file->stamp());
    if (stamp.size > limit)
        return fail(Code::format, file->path(), " has ", stamp.size, " bytes, more than the ", limit,
                    " that such a file may have");
    std::string content(stamp.size, '\0');
    GNV_TRY(file->read(content.data(), content.size(), 0));
    return content;
}

// --- OverlayFolder ------------------------------------------------------------------------------------------------------------

void OverlayFolder::put(const std::string & name, std::string content) { compose(name, {Segment{std::move(content)}}); }

void OverlayFolder::compose(const std::string & name, std::vector<Segment> segments) {
    changed_[name] = Entry{false, std::move(segments)};
}

void OverlayFolder::remove(const std::string & name) { changed_[name] = Entry{true, {}}; }

Result<std::vector<OverlayFolder::Segment> *> OverlayFolder::editable(const std::string & name) {
    const auto known = changed_.find(name);
    if (known != changed_.end()) {
        if (known->second.removed) return fail(Code::not_found, name, " was removed");
        return &known->second.segments;
    }
    GNV_ASSIGN(const std::unique_ptr<FolderFile> file, base_->open(name));
    GNV_ASSIGN(const FileStamp stamp, file->stamp());
    compose(name, {Segment{"", name, 0, stamp.size}});
    return &changed_[name].segments;
}

// Splits the segment at `offset`; returns the position of the second part, segments.size() at the end of the file.
static size_t split(std::vector<OverlayFolder::Segment> & segments, uint64_t offset) {
    for (size_t i = 0; i < segments.size(); i++) {
        OverlayFolder::Segment & first = segments[i];
        if (offset == 0) return i;
        if (offset >= first.length()) {
            offset -= first.length();
            continue;
        }
        OverlayFolder::Segment second = first;
        if (first.file.empty()) {
            second.bytes = first.bytes.substr(offset);
            first.bytes.resize(offset);
        } else {
            second.offset += offset, second.size -= offset;
            first.size = offset;
        }
        segments.insert(segments.begin() + ptrdiff_t(i) + 1, std::move(second));
        return i + 1;
    }
    return segments.size();
}

static uint64_t total_length(const std::vector<OverlayFolder::Segment> & segments) {
    uint64_t sum = 0;
    for (const OverlayFolder::Segment & segment : segments) sum += segment.length();
    return sum;
}

Status OverlayFolder::patch(const std::string & name, uint64_t offset, std::string bytes) {
    GNV_ASSIGN(std::vector<Segment> * const segments, editable(name));
    if (offset + bytes.size() > total_length(*segments))
        return fail(Code::invalid_argument, name, " has no ", bytes.size(), " bytes at byte ", offset);
    const uint64_t end = offset + bytes.size();
    const size_t first = split(*segments, offset), last = split(*segments, end);
    segments->erase(segments->begin() + ptrdiff_t(first), segments->begin() + ptrdiff_t(last));
    segments->insert(segments->begin() + ptrdiff_t(first), Segment{std::move(bytes)});
    return {};
}

Status OverlayFolder::truncate(const std::string & name, uint64_t size) {
    GNV_ASSIGN(std::vector<Segment> * const segments, editable(name));
    segments->resize(split(*segments, size));
    return {};
}

Result<std::vector<DirectoryEntry>> OverlayFolder::list() const {
    GNV_ASSIGN(std::vector<DirectoryEntry> entries, base_->list());
    entries.erase(std::remove_if(entries.begin(), entries.end(),
                                 [&](const DirectoryEntry & entry) { return changed_.count(entry.name) != 0; }),
                  entries.end());
    for (const auto & [name, entry] : changed_)
        if (!entry.removed) entries.push_back({name, false, false});
    std::sort(entries.begin(), entries.end(),
              [](const DirectoryEntry & a, const DirectoryEntry & b) { return a.name < b.name; });
    return entries;
}

Result<std::unique_ptr<FolderFile>> OverlayFolder::open(const std::string & name) const {
    const auto known = changed_.find(name);
    if (known == changed_.end()) return base_->open(name);
    if (known->second.removed) return fail(Code::not_found, "cannot open ", join_path(path(), name), ": no such file");
    return SegmentedFile::open(*base_, name, known->second.segments);
}

} // namespace gnv
