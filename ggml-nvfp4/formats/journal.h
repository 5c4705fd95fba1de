// The journal of a run that writes a checkpoint. It identifies the run of an unfinished folder, the files that belong
// to it and the tensors that are safely on disk; docs/format.md lists the records. A run holds a lock on its journal
// until it ends.
#pragma once

#include "formats/file.h"
#include "formats/file_id.h"

#include <optional>
#include <set>
#include <string>
#include <vector>

namespace gnv {

inline constexpr const char * journal_name = "journal"; // in the unfinished folder

// Records of the files that a run writes beside its shards, and of their folders.
std::vector<std::string> content_records(const std::vector<std::string> & files);

// A folder in the journal: the number of its inode and its time of birth, which no later folder shares.
struct FolderMark {
    uint64_t inode = 0;
    int64_t born_ns = 0;
    bool operator==(const FolderMark &) const = default;
};
FolderMark mark_of(const EntryInfo & folder);

// The last step of a run: the new folder, and the folder that it replaces.
struct PublishRecord {
    FolderMark made;
    std::optional<FolderMark> replaced;
};
std::string publish_record(const PublishRecord & record);

class Journal {
  public:
    // A new file with these lines, locked. Code::already_exists if another run came first.
    static Result<Journal> create(const std::string & path, const std::string & lines);

    Status append(const std::string & lines);  // synced
    bool is_locked() const { return locked_; } // false: the file system has no locks
    const FileId & id() const { return id_; }

  private:
    Journal(File file, bool locked, FileId id) : file_(std::move(file)), locked_(locked), id_(id) {}
    File file_;
    bool locked_;
    FileId id_;
    uint64_t size_ = 0;
};

// The state of a place for a journal.
struct FoundJournal {
    enum class State : uint8_t {
        absent,
        in_use,  // a run holds its lock
        foreign, // no journal
        ours,    // the journal of a run that ended
    };
    State state = State::absent;
    std::optional<File> file; // of `ours`; locked on request, if the file system has locks
    std::string text;

    std::set<std::string> content() const; // see content_records()
    std::optional<PublishRecord> published() const;
    Status take_back_claims() const; // before the tensors that it calls done are removed
};

// `lock`: take its lock, so that no other run treats it as a leftover too.
Result<FoundJournal> find_journal(const std::string & path, bool lock);

} // namespace gnv
