#include "verify/listed_files.h"

#include "core/sha256.h"
#include "core/strings.h"
#include "formats/file.h"

#include <algorithm>
#include <mutex>

namespace gnv::verify {

static constexpr const char * card_name = "README.md";
static constexpr uint64_t most_card_bytes = 16 << 20;
static constexpr uint64_t piece_bytes = 4 << 20;

namespace {

class HashRun {
  public:
    HashRun(const Subject & subject, const ProgressCallback & progress) : subject_(subject), progress_(progress) {
        if (subject.checkpoint) state_.tensors_total = subject.checkpoint->tensors().size();
        state_.tensors_total = std::max<uint64_t>(state_.tensors_total, 1); // all of them come later
    }

    Result<std::vector<ListedState>> run(std::vector<ListedFile> listed, ThreadPool & threads) {
        std::vector<ListedState> files;
        for (ListedFile & file : listed) {
            files.push_back({std::move(file), false, 0, {}, {}});
            GNV_TRY(find(files.back()));
        }
        std::vector<size_t> order; // the largest first: each is read by one thread
        for (size_t i = 0; i < files.size(); i++)
            if (is_read(files[i])) order.push_back(i), state_.bytes_total += files[i].size;
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return files[a].size > files[b].size; });
        GNV_TRY(threads.parallel_for(int64_t(order.size()), [&](int64_t i) { return hash(files[order[size_t(i)]]); }));
        return files;
    }

  private:
    static bool is_read(const ListedState & file) {
        return file.present && file.problem.empty() && file.size == file.listed.size;
    }
    // A file of the folder itself: the name comes from a text that anything may have written.
    Status find(ListedState & file) {
        file.present = std::any_of(subject_.files.begin(), subject_.files.end(), [&](const DirectoryEntry & entry) {
            return !entry.is_directory && entry.name == file.listed.name;
        });
        if (!file.present) return {};
        return take(file, [&]() -> Status {
            GNV_ASSIGN(const std::unique_ptr<FolderFile> opened, subject_.folder->open(file.listed.name));
            GNV_ASSIGN(const FileStamp stamp, opened->stamp());
            file.size = stamp.size;
            return {};
        });
    }
    Status hash(ListedState & file) {
        return take(file, [&]() -> Status {
            GNV_ASSIGN(const std::unique_ptr<FolderFile> opened, subject_.folder->open(file.listed.name));
            Sha256 hash;
            std::string piece(size_t(std::min(file.size, piece_bytes)), '\0');
            for (uint64_t at = 0; at < file.size; at += piece.size()) {
                const uint64_t count = std::min<uint64_t>(piece.size(), file.size - at);
                GNV_TRY(opened->read(piece.data(), count, at));
                hash.update(piece.data(), count);
                GNV_TRY(advance(count));
            }
            file.sha256 = hash.finish();
            return {};
        });
    }
    // What fails because of the file is a finding; what fails because of the machine or the caller ends the run.
    template <class Work>
    static Status take(ListedState & file, const Work & work) {
        Status status = work();
        if (status.ok() || is_machine_failure(status) || status.code() == Code::cancelled) return status;
        file.problem = status.message();
        return {};
    }
    Status advance(uint64_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        state_.bytes += bytes;
        if (!progress_ || progress_(state_)) return {};
        return Status(Code::cancelled, "stopped on request");
    }

    const Subject & subject_;
    const ProgressCallback & progress_;
    std::mutex mutex_;
    MeasureProgress state_;
};

} // namespace

Result<std::vector<ListedState>> read_listed_files(const Subject & subject, ThreadPool & threads,
                                                   const ProgressCallback & progress) {
    const std::vector<ListedState> none;
    GNV_ASSIGN(const bool has_card, has_file(*subject.folder, card_name));
    if (!has_card) return none;
    Result<std::string> card = read_file(*subject.folder, card_name, most_card_bytes);
    if (!card.ok() && is_machine_failure(card.status())) return card.take_status();
    if (!card.ok()) return none; // no card of quantize
    return HashRun(subject, progress).run(find_file_list(card.value()), threads);
}

} // namespace gnv::verify
