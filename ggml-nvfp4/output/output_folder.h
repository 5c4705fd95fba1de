// The folder that a run writes under another name until all of it is on disk. It belongs to this run alone: a lock on
// its journal shows this to other runs, and the folder gets its name only if every file in it is still the one that
// this run made.
#pragma once

#include "formats/file.h"
#include "output/destination.h"
#include "output/journal.h"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace gnv {

class OutputFolder {
  public:
    // Removes leftovers of a stopped run, makes DST.partial and its journal, which begins with `records` (whole lines).
    // Or goes on with the folder of a stopped run: see Destination::resumes.
    static Result<std::unique_ptr<OutputFolder>> create(const Destination & destination, const std::string & records);

    const std::string & path() const { return destination_.partial(); }
    const std::vector<std::string> & notes() const { return notes_; } // for the user

    // The claims of the run that this one goes on with; none in a new folder.
    struct Earlier {
        std::vector<uint32_t> done; // tensors that are on disk
        std::optional<StateRecord> state;
        bool is_complete = false; // everything is on disk, publish() alone is left
    };
    bool goes_on() const { return goes_on_; }
    const Earlier & earlier() const { return earlier_; }
    // A file of that run, to read and write; none if it has no file of this name.
    Result<std::optional<File>> find(const std::string & name);
    // Removes all its files but these.
    Status remove_others(const std::set<std::string> & kept);
    // Keeps all its files as they are.
    Status keep_all();

    // A new file, and the folders in its name ("images/a.png").
    Result<File> add(const std::string & name);
    // From now on the file must not change, and has this size.
    Status keep(const std::string & name, const File & file);
    // A file of the top folder that is no part of the result: publish() removes it.
    void set_temporary(const std::string & name) { temporary_ = name; }
    Status append_journal(const std::string & lines) { return journal_->append(lines); }
    // Gives the folder its name, once everything is written, synced and closed. After a failure it is complete under
    // the old name or under DST; the message says which.
    Status publish();
    double removal_seconds() const { return removal_seconds_; } // of publish(): for the folder that was replaced

  private:
    explicit OutputFolder(GuardedDestination destination) : destination_(std::move(destination)) {}
    Status make();
    Status go_on();
    Status keep_all(const std::string & folder);
    Status check_made() const;
    Status sync_folders() const;
    Status give_name(const std::optional<EntryInfo> & replaced);
    Status replace(const EntryInfo & replaced);
    Status remove_replaced(const std::string & path, const EntryInfo & replaced);

    struct Made {
        FileId id;
        uint64_t size = 0;
    };

    GuardedDestination destination_;
    EntryInfo folder_;
    std::unique_ptr<Journal> journal_;
    bool goes_on_ = false;
    Earlier earlier_;
    std::optional<FoundJournal> found_; // until its journal is this run's
    std::string temporary_;             // empty: none
    std::map<std::string, Made> files_;
    std::set<std::string> folders_; // names of those in the folder
    std::vector<std::string> notes_;
    double removal_seconds_ = 0;
};

} // namespace gnv
