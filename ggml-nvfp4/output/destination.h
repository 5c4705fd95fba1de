// The place of a run's result, and the protection of all other files.
//
//   DST          the result. With `overwrite`, the complete result replaces a checkpoint of this name
//   DST.partial  the folder that becomes DST
//   DST.journal  in the last step, when the folder gets its name: the journal of DST.partial, moved out of it
//   DST.old      the replaced checkpoint for a moment, on file systems that cannot exchange two folders
//
// Of these a run removes only files that a run made or that are part of a checkpoint; never files that it reads, under
// any name.
#pragma once

#include "output/file_id.h"
#include "output/journal.h"
#include "output/tree.h"

#include <set>
#include <string>
#include <vector>

namespace gnv {

struct Destination {
    std::string folder;     // must not exist, or be empty, unless `overwrite`; its parent must exist
    bool overwrite = false; // replace a checkpoint folder, once the new one is complete
    std::string source;     // the folder that the run reads
    // Files that the run reads, inside the source or not: shards, calibration data, statistics, ...
    std::vector<std::string> reads;
    // Other files that it writes and folders that it works in: they must not lie in a folder that it removes.
    std::vector<std::string> writes;
    // Names of files of the result that not every checkpoint may have: "images/a.png".
    std::vector<std::string> files;
    // The run goes on with the unfinished folder of a stopped one, if both have this identity; without one (it is not
    // known yet) every folder that some run can go on with counts as such.
    bool resumes = false;
    RunIdentity identity;
};

// Fails if a run to this destination would, names the obstacle, and changes nothing. True: the run would go on with
// DST.partial.
Result<bool> check_destination(const Destination & destination);

// A destination with its names and the run's inputs resolved.
class GuardedDestination {
  public:
    static Result<GuardedDestination> create(const Destination & destination);

    const std::string & folder() const { return folder_; } // all are absolute, the first without links
    const std::string & partial() const { return partial_; }
    const std::string & record() const { return record_; }
    const std::string & old() const { return old_; }
    bool overwrite() const { return wanted_.overwrite; }
    bool resumes() const { return wanted_.resumes; }
    const RunIdentity & identity() const { return wanted_.identity; }
    const std::vector<std::string> & files() const { return wanted_.files; }

    // No name above is, holds or lies in an input or another output of the run, and the parent can be written.
    Status check_names() const;
    // An empty folder is there, which the result may replace without `overwrite`.
    Result<bool> holds_nothing() const;
    // What is at `folder` may be replaced; Code::already_exists where there is something without `overwrite`.
    Status check_replaced() const;
    // Checks everything in a folder that a run made, or that is replaced: it may be removed. `content`: the records of
    // its journal, see content_records().
    Status check_removable(const std::string & folder, const EntryInfo & info,
                           const std::set<std::string> & content) const;
    // Removes it with the same checks, the journal in it last.
    Status remove(const std::string & folder, const EntryInfo & info, const std::set<std::string> & content) const;

  private:
    explicit GuardedDestination(Destination wanted) : wanted_(std::move(wanted)) {}
    std::string describe(const std::string & name) const;
    Status check_apart(const std::string & name, const FileId & id) const;
    MayRemove may_remove(const std::string & folder, const std::set<std::string> & content) const;

    Destination wanted_;
    std::string folder_, partial_, record_, old_;
    InputFiles inputs_, outputs_;
    std::vector<FileId> source_trail_, parent_trail_;
    EntryInfo parent_;
};

} // namespace gnv
