// Where a run puts its result, and what must not be harmed by that.
//
//   DST          the result. With `overwrite` a checkpoint may be there, which the complete result replaces
//   DST.partial  the folder that becomes DST
//   DST.journal  for the last step, when the folder gets its name: the journal of DST.partial, moved out of it
//   DST.old      where two folders cannot be exchanged: what is replaced, for that moment
//
// Of these a run removes only what a run made, and what is part of a checkpoint; never what it reads, by whatever name.
#pragma once

#include "formats/file_id.h"
#include "formats/tree.h"

#include <set>
#include <string>
#include <vector>

namespace gnv {

struct Destination {
    std::string folder;     // must not exist, or be empty, unless `overwrite`; its parent must exist
    bool overwrite = false; // replace a checkpoint folder, once the new one is complete
    std::string source;     // the folder that is read
    // Files that the run reads, inside the source or not: shards, calibration data, statistics, ...
    std::vector<std::string> reads;
    // Files that it writes besides, and folders that it works in: they must not lie in what it removes.
    std::vector<std::string> writes;
    // Names of files that the result has beside those that every checkpoint may have: "images/a.png".
    std::vector<std::string> files;
};

// Fails where a run to this destination would, and changes nothing: see the top. Names what is in the way.
Status check_destination(const Destination & destination);

// A destination with its names resolved and what the run reads looked up.
class GuardedDestination {
  public:
    static Result<GuardedDestination> create(const Destination & destination);

    const std::string & folder() const { return folder_; } // all are absolute, the first without links
    const std::string & partial() const { return partial_; }
    const std::string & record() const { return record_; }
    const std::string & old() const { return old_; }
    bool overwrite() const { return wanted_.overwrite; }
    const std::vector<std::string> & files() const { return wanted_.files; }

    // None of the names is, holds or lies in what the run reads or writes besides, and the parent can be written.
    Status check_names() const;
    // An empty folder is there, which the result may replace without `overwrite`.
    Result<bool> holds_nothing() const;
    // What is at `folder` may be replaced; Code::already_exists where there is something without `overwrite`.
    Status check_replaced() const;
    // A folder that a run made, or that is replaced, may be removed: looks at everything in it. `content` is of the journal
    // that vouches for it: see content_records().
    Status check_removable(const std::string & folder, const EntryInfo & info,
                           const std::set<std::string> & content) const;
    // The same while it is removed, with the journal in it last.
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
