// The journal of a run that writes a checkpoint: whose an unfinished folder is, what belongs to it, what of it is safely on
// disk. docs/format.md has its records. While a run lasts it holds a lock on its journal, wherever that is moved.
#pragma once

#include "formats/file.h"
#include "formats/file_id.h"

#include <optional>
#include <set>
#include <string>
#include <vector>

namespace gnv {

inline constexpr const char * journal_name = "journal"; // in the unfinished folder

// Records of the files that a run writes beside its shards, and of the folders that they need.
std::vector<std::string> content_records(const std::vector<std::string> & files);

// A folder as the journal names it: the number of its inode and its time of birth, which no later folder shares.
struct FolderMark {
    uint64_t inode = 0;
    int64_t born_ns = 0;
    bool operator==(const FolderMark &) const = default;
};
FolderMark mark_of(const EntryInfo & folder);

// The last step of a run: the folder that it made, and the one that this replaces.
struct PublishRecord {
    FolderMark made;
    std::optional<FolderMark> replaced;
};
std::string publish_record(const PublishRecord & record);

class Journal {
  public:
    // A new file with these lines in it, locked. Code::already_exists where another run came first.
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

// What is found where a journal may be.
struct FoundJournal {
    enum class State : uint8_t {
        absent,
        in_use,  // a run holds its lock
        foreign, // no journal of ours
        ours,    // of a run that ended
    };
    State state = State::absent;
    std::optional<File> file; // of `ours`; with the lock where it was asked for and there are locks
    std::string text;

    std::set<std::string> content() const; // see content_records()
    std::optional<PublishRecord> published() const;
    Status take_back_claims() const; // before what it calls done is removed
};

// `lock`: take its lock, so that no other run takes it for a leftover, too.
Result<FoundJournal> find_journal(const std::string & path, bool lock);

} // namespace gnv
