// The state of a calculation that makes no checkpoint, in a folder of its own: a journal, which identifies the run and names
// the last state that is on disk, and the file of states. Repeating the run goes on with it; the folder is removed when the
// results of the run are where they belong. (A run that writes a checkpoint keeps both in DST.partial.)
#pragma once

#include "formats/file.h"
#include "output/journal.h"

#include <memory>
#include <optional>
#include <set>
#include <string>

namespace gnv {

class StateFolder {
  public:
    // Makes the folder, or goes on with that of a stopped run with the same identity. Code::already_exists: a run with
    // another identity saved a state there, which the message compares with this one; a run uses it; or it is in the way.
    static Result<std::unique_ptr<StateFolder>> open(const std::string & path, const RunIdentity & identity);
    // Fails if open() would, whatever the identity. True: a stopped run left it. Changes nothing.
    static Result<bool> check(const std::string & path);

    const std::string & path() const { return path_; }
    const std::optional<StateRecord> & state() const { return state_; } // the last that is on disk
    bool is_locked() const { return journal_->is_locked(); }            // false: the file system has no locks

    // The file of states, `bytes` long, reserved.
    Result<const File *> file(uint64_t bytes);
    Status record(const StateRecord & record); // once the file is synced
    // A file elsewhere that the run is about to make; is_known(): this run or the stopped one recorded it.
    Status record_file(const std::string & path);
    bool is_known(const std::string & path) const;

    // Everything in it, the journal last; leaves a folder that holds a foreign file. Call it once.
    Status remove();

  private:
    StateFolder(std::string path, Journal journal);
    std::string path_;
    std::unique_ptr<Journal> journal_;
    std::optional<File> file_;
    std::optional<StateRecord> state_;
    std::set<std::string> files_; // records
};

} // namespace gnv
