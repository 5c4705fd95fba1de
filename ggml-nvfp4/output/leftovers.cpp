#include "output/leftovers.h"

#include "formats/file.h"
#include "output/journal.h"

#include <algorithm>

namespace gnv {

namespace {

// A folder that a journal records, at its present path.
struct Known {
    std::string path;
    EntryInfo info;
};

Result<std::optional<Known>> find_known(const std::string & path, const std::optional<FolderMark> & mark) {
    GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(path));
    if (!info || !mark || info->kind != FileKind::folder || mark_of(*info) != *mark) return std::optional<Known>();
    return std::optional<Known>(Known{path, *info});
}

class Clearing {
  public:
    Clearing(const GuardedDestination & destination, bool remove) : to_(destination), remove_(remove) {}

    Result<std::optional<FoundJournal>> run() {
        // A run in its last step moves the journal from one place to the other: one look at each may miss it.
        for (int attempt = 0; attempt < 3; attempt++) {
            GNV_TRY(clear_record());
            bool has_moved = false;
            GNV_TRY(clear_partial(has_moved));
            if (!has_moved) return std::move(goes_on_);
        }
        return in_use();
    }

  private:
    Status in_use() const {
        return fail(Code::already_exists, "another run writes ", to_.folder(),
                    "; wait until it has ended, or choose another destination");
    }
    Status clear_record();
    Status finish_replacing(const FoundJournal & found, const PublishRecord & record);
    Status give_back(const std::optional<Known> & moved);
    // Whether this run goes on with what the journal describes. Fails if it cannot, but another run could.
    Result<bool> goes_on_with(const FoundJournal & found) const;
    Status clear_partial(bool & has_moved);
    Status clear_without_journal(const EntryInfo & info, bool & has_moved);
    Status refuse(const std::string & what) const { return fail(Code::already_exists, what); }

    const GuardedDestination & to_;
    const bool remove_;
    bool is_known_ = false; // the journal beside DST.partial records it
    std::optional<FoundJournal> goes_on_;
};

Result<bool> Clearing::goes_on_with(const FoundJournal & found) const {
    if (!to_.resumes() || !found.has_identity()) return false;
    const std::string differences = found.differences(to_.identity());
    if (differences.empty()) return true;
    if (!found.has_work()) return false;
    return fail(Code::already_exists, to_.partial(), " is the unfinished result of a run that differs: ", differences,
                "; give the same to go on with it, choose another destination, or begin anew without it "
                "(--no-resume --overwrite)");
}

// DST.journal belongs to a run that was stopped in its last step.
Status Clearing::clear_record() {
    is_known_ = false;
    GNV_ASSIGN(FoundJournal found, find_journal(to_.record(), remove_));
    switch (found.state) {
    case FoundJournal::State::absent: return {};
    case FoundJournal::State::in_use: return in_use();
    case FoundJournal::State::foreign:
        return refuse(to_.record() + " is in the way: a run needs this name for its journal; rename it");
    case FoundJournal::State::ours: break;
    }
    const std::optional<PublishRecord> record = found.published();
    if (record) GNV_TRY(finish_replacing(found, *record));
    if (!remove_ || goes_on_) {
        if (remove_) goes_on_.reset(); // clear_partial() finds it again, in its place
        return {};
    }
    GNV_TRY(remove_file(to_.record()));
    return sync_directory(parent_path(to_.folder()));
}

// DST holds a checkpoint again, and the journal is in DST.partial: the run only has to give the name.
Status Clearing::give_back(const std::optional<Known> & moved) {
    if (moved) GNV_TRY(rename_path(moved->path, to_.folder()));
    GNV_TRY(rename_path(to_.record(), join_path(to_.partial(), journal_name)));
    GNV_TRY(sync_directory(to_.partial()));
    return sync_directory(parent_path(to_.folder()));
}

Status Clearing::finish_replacing(const FoundJournal & found, const PublishRecord & record) {
    const std::set<std::string> content = found.content();
    GNV_ASSIGN(const std::optional<Known> complete, find_known(to_.partial(), record.made));
    GNV_ASSIGN(const std::optional<Known> replaced, find_known(to_.partial(), record.replaced));
    GNV_ASSIGN(const std::optional<Known> moved, find_known(to_.old(), record.replaced));
    const bool is_named = path_exists(to_.folder());
    if (complete && (to_.overwrite() || !moved || is_named)) {
        GNV_ASSIGN(const bool goes_on, goes_on_with(found));
        if (goes_on) {
            is_known_ = true;
            goes_on_.emplace();
            return remove_ ? give_back(is_named ? std::nullopt : moved) : Status();
        }
    }
    if (!to_.overwrite()) {
        if (moved && !is_named)
            return refuse(concat("a run was stopped while it replaced ", to_.folder(),
                                 ": the old checkpoint is complete at ", moved->path,
                                 complete ? ", the new one at " + complete->path : std::string(),
                                 "; rename the one that you want, or ask to overwrite (--overwrite)"));
        if (complete)
            return refuse(concat(complete->path, " is complete, but its run was stopped before it got the name ",
                                 to_.folder(), "; rename it, or ask to overwrite it (--overwrite)"));
        if (replaced)
            return refuse(concat(replaced->path, " is the checkpoint that ", to_.folder(),
                                 " replaced; its run was stopped while it removed the old one: remove it, or ask to "
                                 "overwrite (--overwrite)"));
    }
    is_known_ = complete || replaced;
    for (const std::optional<Known> & known : {complete, replaced, moved})
        if (known && (known->path != to_.old() || is_named))
            GNV_TRY(to_.check_removable(known->path, known->info, content));
    if (!remove_) return {};
    if (moved && !is_named) { // DST must hold a checkpoint again before the first removal
        GNV_TRY(rename_path(moved->path, to_.folder()));
        GNV_TRY(sync_directory(parent_path(to_.folder())));
    }
    for (const std::optional<Known> & known : {complete, replaced, moved})
        if (known && (known->path != to_.old() || is_named)) GNV_TRY(to_.remove(known->path, known->info, content));
    return {};
}

Status Clearing::clear_partial(bool & has_moved) {
    const std::string & partial = to_.partial();
    if (is_known_ && !remove_) return {}; // already checked
    GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(partial));
    if (!info) return {};
    if (info->kind != FileKind::folder)
        return refuse(partial + " is in the way: it is no folder that a run made; rename it");
    const bool may_lock = remove_ && (to_.overwrite() || to_.resumes());
    GNV_ASSIGN(FoundJournal found, find_journal(join_path(partial, journal_name), may_lock));
    switch (found.state) {
    case FoundJournal::State::in_use: return in_use();
    case FoundJournal::State::absent: return clear_without_journal(*info, has_moved);
    case FoundJournal::State::foreign:
        return refuse(concat(join_path(partial, journal_name), " is no journal of a run: ", partial,
                             " will not be removed; rename it"));
    case FoundJournal::State::ours: break;
    }
    GNV_ASSIGN(const bool goes_on, goes_on_with(found));
    if (goes_on) {
        GNV_TRY(to_.check_removable(partial, *info, found.content())); // nothing of another program becomes part of DST
        if (!remove_) found.file.reset();
        goes_on_ = std::move(found);
        return {};
    }
    const bool may_begin_anew = to_.overwrite() || (to_.resumes() && !found.has_work());
    if (!may_begin_anew)
        return refuse(partial +
                      " is left from a run that did not finish; remove it, or ask to overwrite it (--overwrite)");
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(partial));
    if (found.text.find('\n') == std::string::npos && entries.size() > 1) // a run first writes a whole line
        return refuse(
            concat(join_path(partial, journal_name), " has no line: ", partial, " will not be removed; rename it"));
    GNV_TRY(to_.check_removable(partial, *info, found.content()));
    if (!remove_) return {};
    GNV_TRY(found.take_back_claims());
    return to_.remove(partial, *info, found.content());
}

Status Clearing::clear_without_journal(const EntryInfo & info, bool & has_moved) {
    const std::string & partial = to_.partial();
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(partial));
    if (!entries.empty()) {
        GNV_ASSIGN(const std::optional<EntryInfo> record, find_entry(to_.record()));
        GNV_ASSIGN(const std::optional<EntryInfo> again, find_entry(partial));
        const bool has_journal = std::any_of(entries.begin(), entries.end(),
                                             [](const DirectoryEntry & entry) { return entry.name == journal_name; });
        has_moved = has_journal || record || !again || again->id != info.id; // a run's first or last step came between
        if (has_moved) return {};
        return refuse(concat(partial, " holds ", entries.front().name,
                             " and no journal: it is no leftover of a run, and will not be removed; rename it"));
    }
    if (!to_.overwrite() && !to_.resumes())
        return refuse(partial + " is in the way: remove the empty folder, or ask to overwrite it (--overwrite)");
    GNV_TRY(to_.check_removable(partial, info, {}));
    if (!remove_) return {};
    // Only if it is still empty: a run that just made it may have put its journal there.
    Status removed = remove_empty_folder(partial);
    has_moved = removed.code() == Code::already_exists;
    return has_moved ? Status() : std::move(removed);
}

} // namespace

Result<std::optional<FoundJournal>> clear_leftovers(const GuardedDestination & destination, bool remove) {
    return Clearing(destination, remove).run();
}

Result<bool> check_destination(const Destination & wanted) {
    GNV_ASSIGN(const GuardedDestination destination, GuardedDestination::create(wanted));
    GNV_TRY(destination.check_names());
    GNV_TRY(destination.check_replaced());
    GNV_ASSIGN(const std::optional<FoundJournal> goes_on, clear_leftovers(destination, false));
    return goes_on.has_value();
}

} // namespace gnv
