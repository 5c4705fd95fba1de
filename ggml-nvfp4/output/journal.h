// The journal of a run that writes a checkpoint. It identifies the run of an unfinished folder, the files that belong
// to it and the tensors that are safely on disk; docs/format.md lists the records. A run holds a lock on its journal
// until it ends.
#pragma once

#include "formats/file.h"
#include "output/file_id.h"

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace gnv {

inline constexpr const char * journal_name = "journal"; // in the unfinished folder
// Beside it: the state of a calculation. Runs copy no file of this name from a source.
inline constexpr const char * state_file_name = "resume-state.bin";

// Records of the files that a run writes beside its shards, and of their folders.
std::vector<std::string> content_records(const std::vector<std::string> & files);

// Everything that a result depends on, by name ("precision" -> "f32"). A run goes on with the folder of a stopped one
// only if all values are equal.
using RunIdentity = std::vector<std::pair<std::string, std::string>>;
std::string identity_records(const RunIdentity & identity);

// The state of a calculation that spans many tensors, in one of the places of a file beside them.
struct StateRecord {
    int32_t place = 0;       // in the file
    int32_t layers = 0;      // that are done
    uint64_t checksum = 0;   // of the place's content
    uint64_t tail_bytes = 0; // of its last part, whose size varies
};
std::string state_record(const StateRecord & record);

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
    // The journal of a stopped run (State::ours), to go on with: a last line without its end is cut off.
    static Result<Journal> adopt(struct FoundJournal found);

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
    bool is_locked = false;
    std::string text;

    // A run may go on from here: the journal holds a whole identity.
    bool has_identity() const;
    // "precision (was f32, now bf16), data (...)"; empty if all values are equal.
    std::string differences(const RunIdentity & identity) const;
    std::vector<uint32_t> done() const;             // tensors that are on disk
    std::optional<StateRecord> saved_state() const; // the last
    bool has_work() const { return text.find("\ndone ") != std::string::npos || saved_state() || published(); }

    std::set<std::string> content() const; // see content_records()
    std::optional<PublishRecord> published() const;
    Status take_back_claims() const; // before the tensors that it calls done are removed
};

// `lock`: take its lock, so that no other run treats it as a leftover too.
Result<FoundJournal> find_journal(const std::string & path, bool lock);

} // namespace gnv
