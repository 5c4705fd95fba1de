#include "hub/stream/streamed_folder.h"

#include "hub/download.h"
#include "hub/hub_cache.h"
#include "hub/model_files.h"
#include "hub/stream/stream.h"

#include <algorithm>

namespace gnv {

namespace {

class StreamedFile final : public FolderFile {
  public:
    StreamedFile(std::shared_ptr<Stream> stream, uint32_t shard, std::string path)
        : stream_(std::move(stream)), shard_(shard), path_(std::move(path)) {}
    const std::string & path() const override { return path_; }
    Result<FileStamp> stamp() const override { return stream_->stamp(shard_); }
    Status read(void * data, uint64_t size, uint64_t offset) const override {
        return stream_->read(shard_, data, size, offset);
    }
    Status peek(void * data, uint64_t size, uint64_t offset) const override {
        return stream_->peek(shard_, data, size, offset);
    }
    void will_peek(uint64_t offset, uint64_t size) const override { stream_->will_peek(shard_, offset, size); }

  private:
    const std::shared_ptr<Stream> stream_;
    const uint32_t shard_;
    const std::string path_;
};

class StreamedFolder final : public Folder, public FetchedFiles {
  public:
    StreamedFolder(std::shared_ptr<const Folder> small, std::shared_ptr<Stream> stream)
        : small_(std::move(small)), stream_(std::move(stream)) {}

    const std::string & path() const override { return small_->path(); }
    const FetchedFiles * fetched() const override { return this; }

    Result<std::vector<DirectoryEntry>> list() const override {
        GNV_ASSIGN(std::vector<DirectoryEntry> entries, small_->list());
        std::erase_if(entries, [&](const DirectoryEntry & entry) { return stream_->find(entry.name) >= 0; });
        for (uint32_t s = 0; s < stream_->count(); s++) entries.push_back({stream_->file(s).name, false, false});
        std::sort(entries.begin(), entries.end(), [](const auto & a, const auto & b) { return a.name < b.name; });
        return entries;
    }
    Result<std::unique_ptr<FolderFile>> open(const std::string & name) const override {
        const int64_t shard = stream_->find(name);
        if (shard < 0) return small_->open(name);
        return std::unique_ptr<FolderFile>(
            std::make_unique<StreamedFile>(stream_, uint32_t(shard), stream_->subject(uint32_t(shard))));
    }

    void expect(const std::vector<FileRead> & reads) const override { stream_->expect(shards_of(reads)); }
    FetchPlan plan(const std::vector<FileRead> & reads) const override { return stream_->plan(shards_of(reads)); }
    FetchUse use() const override { return stream_->use(); }
    uint64_t smallest_bytes_at(const std::string & folder) const override {
        return on_same_file_system(folder, stream_->window_folder()) ? stream_->plan({}).smallest_bytes : 0;
    }

  private:
    std::vector<ShardRead> shards_of(const std::vector<FileRead> & reads) const {
        std::vector<ShardRead> out;
        for (const FileRead & read : reads)
            if (const int64_t shard = stream_->find(read.file); shard >= 0)
                out.push_back({uint32_t(shard), read.bytes});
        return out;
    }

    const std::shared_ptr<const Folder> small_;
    const std::shared_ptr<Stream> stream_;
};

// The limit of disk space for files of these sizes.
Result<uint64_t> choose_limit(const HubCache & cache, const std::string & subject, std::vector<uint64_t> sizes,
                              uint64_t wanted) {
    constexpr size_t usual_files = 4;
    std::sort(sizes.rbegin(), sizes.rend());
    const uint64_t smallest = sizes.empty() ? 0 : sizes.front();
    if (wanted > 0 && wanted < smallest)
        return fail(Code::invalid_argument, subject, ": ", bytes_text(wanted), " (", wanted,
                    " bytes) of disk space are too little to stream it: files are fetched whole, and the largest has ",
                    bytes_text(smallest), " (", smallest, " bytes)");
    GNV_ASSIGN(const uint64_t free, free_disk_bytes(cache.folder()));
    if (free < smallest || free - smallest < spare_disk_bytes)
        return fail(Code::no_space, cache.folder(), ": streaming needs room for the largest file, ",
                    bytes_text(smallest), ", and the disk has ", bytes_text(free), " free, of which ",
                    bytes_text(spare_disk_bytes), " stay free: make room for ",
                    bytes_text(smallest + spare_disk_bytes - free),
                    " more, or set HF_HUB_CACHE to a folder on another disk");
    if (wanted > 0) return std::min(wanted, free - spare_disk_bytes);
    uint64_t usual = 0;
    for (size_t i = 0; i < sizes.size() && i < usual_files; i++) usual += sizes[i];
    return std::max(smallest, std::min(usual, free / 2));
}

} // namespace

Result<std::shared_ptr<const Folder>> stream_model(const HubOptions & hub, const RepositoryName & model,
                                                   uint64_t disk_bytes) {
    if (const std::string complete = find_model_folder(hub.cache, model); !complete.empty()) {
        hub.tell(concat(model.text(), " is complete in the cache, ", complete, ": nothing is streamed"));
        return open_folder(complete);
    }
    GNV_ASSIGN(ModelListing listing, list_model(hub, model));
    const HubCache cache(hub.cache, model);
    GNV_TRY(cache.prepare());
    GNV_TRY(check_room(cache, listing.files.small));
    GNV_TRY(fetch_small_files(hub, model, listing));
    std::vector<RemoteFile> & weights = listing.files.weights;
    std::erase_if(weights, [](const RemoteFile & file) { return file.name.find('/') != file.name.npos; });
    std::vector<uint64_t> missing;
    for (const RemoteFile & file : weights)
        if (!cache.has_blob(file)) missing.push_back(file.size);
    GNV_ASSIGN(const uint64_t limit, choose_limit(cache, model.text(), missing, disk_bytes));
    hub.tell(concat(model.text(), "@", printable(model.revision), " is commit ", listing.commit,
                    "; its weights are streamed: ", describe_files(weights),
                    missing.size() < weights.size()
                        ? concat("; ", weights.size() - missing.size(), " of them are in the cache")
                        : "",
                    "; at most ", bytes_text(limit), " of them are on the disk, at ", cache.folder()));
    GNV_TRY(cache.set_reference(model.revision, listing.commit));
    GNV_ASSIGN(std::shared_ptr<const Folder> small, open_folder(cache.snapshot(listing.commit)));
    GNV_ASSIGN(std::shared_ptr<Stream> stream, Stream::open(hub, model, listing.commit, std::move(weights), limit));
    return std::shared_ptr<const Folder>(std::make_shared<StreamedFolder>(std::move(small), std::move(stream)));
}

} // namespace gnv
