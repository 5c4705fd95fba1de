#include "output/output_folder.h"

#include "core/clock.h"
#include "output/leftovers.h"

#include <algorithm>

namespace gnv {

static Status not_ours(const std::string & path, const char * what) {
    return fail(Code::io, path, what, " during the run: another program works in this folder; stop it and run again");
}

// --- Making it ----------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<OutputFolder>> OutputFolder::create(const Destination & destination,
                                                           const std::string & records) {
    GNV_ASSIGN(GuardedDestination guarded, GuardedDestination::create(destination));
    std::unique_ptr<OutputFolder> self(new OutputFolder(std::move(guarded)));
    const GuardedDestination & to = self->destination_;
    GNV_TRY(to.check_names());
    GNV_TRY(to.check_replaced());
    GNV_TRY(self->make());
    std::string lines = records;
    for (const std::string & record : content_records(to.files())) lines += record + "\n";
    if (to.resumes()) lines += identity_records(to.identity());
    if (self->found_) {
        GNV_TRY(self->go_on());
    } else {
        GNV_ASSIGN(Journal journal, Journal::create(join_path(self->path(), journal_name), lines));
        self->journal_ = std::make_unique<Journal>(std::move(journal));
    }
    if (!self->journal_->is_locked())
        self->notes_.push_back("the file system of " + self->path() +
                               " has no locks: start no other run to this destination before this one has ended");
    GNV_TRY(self->check_made());
    return self;
}

Status OutputFolder::make() {
    const std::string & partial = destination_.partial();
    constexpr int most_attempts = 4; // an attempt fails only if another run interferes
    for (int attempt = 1;; attempt++) {
        GNV_ASSIGN(found_, clear_leftovers(destination_, true));
        if (found_) {
            GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(partial));
            if (!info) return not_ours(partial, " was moved or removed");
            folder_ = *info;
            return destination_.check_replaced();
        }
        Status made = make_directory(partial);
        if (!made.ok() && (made.code() != Code::already_exists || attempt == most_attempts)) return made;
        if (!made.ok()) continue;
        GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(partial));
        if (!info) continue; // another run removed it as an empty leftover
        folder_ = *info;
        return destination_.check_replaced(); // of a checkpoint that was renamed back
    }
}

// --- Going on with that of a stopped run ------------------------------------------------------------------------------

Status OutputFolder::go_on() {
    goes_on_ = true;
    earlier_ = {found_->done(), found_->saved_state(), false};
    const std::optional<PublishRecord> published = found_->published();
    earlier_.is_complete = published && published->made == mark_of(folder_);
    const std::set<std::string> known = found_->content();
    GNV_ASSIGN(Journal journal, Journal::adopt(std::move(*found_)));
    found_.reset();
    journal_ = std::make_unique<Journal>(std::move(journal));
    std::string lines; // the source may have got files since
    for (const std::string & record : content_records(destination_.files()))
        if (!known.count(record)) lines += record + "\n";
    return lines.empty() ? Status() : append_journal(lines);
}

Result<std::optional<File>> OutputFolder::find(const std::string & name) {
    GNV_TRY(check_made());
    const std::string file_path = join_path(path(), name);
    if (!path_exists(file_path)) return std::optional<File>();
    GNV_ASSIGN(File file, File::open_own(file_path));
    return std::optional<File>(std::move(file));
}

Status OutputFolder::remove_others(const std::set<std::string> & kept) {
    GNV_TRY(check_made());
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(path()));
    for (const DirectoryEntry & entry : entries) {
        if (entry.name == journal_name || kept.count(entry.name)) continue;
        const std::string entry_path = join_path(path(), entry.name);
        GNV_TRY(entry.is_directory && !entry.is_link ? remove_tree(entry_path) : remove_file(entry_path));
    }
    return {};
}

Status OutputFolder::keep_all() {
    GNV_TRY(check_made());
    return keep_all("");
}

Status OutputFolder::keep_all(const std::string & folder) {
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(join_path(path(), folder)));
    for (const DirectoryEntry & entry : entries) {
        const std::string name = folder.empty() ? entry.name : join_path(folder, entry.name);
        GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(join_path(path(), name)));
        if (!info || name == journal_name || name == temporary_) continue;
        if (info->kind == FileKind::folder) {
            folders_.insert(name);
            GNV_TRY(keep_all(name));
        } else {
            files_[name] = {info->id, info->size};
        }
    }
    return {};
}

// --- Files ------------------------------------------------------------------------------------------------------------

Result<File> OutputFolder::add(const std::string & name) {
    GNV_TRY(check_made()); // not into another folder of this name
    for (size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1))
        if (folders_.insert(name.substr(0, slash)).second)
            GNV_TRY(make_directory(join_path(path(), name.substr(0, slash))));
    return File::create(join_path(path(), name));
}

Status OutputFolder::keep(const std::string & name, const File & file) {
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    files_[name] = {{stamp.device, stamp.inode}, stamp.size};
    return {};
}

// --- Giving it its name -------------------------------------------------------------------------------------------------------

Status OutputFolder::check_made() const {
    GNV_ASSIGN(const std::optional<EntryInfo> folder, find_entry(path()));
    if (!folder) return not_ours(path(), " was moved or removed");
    if (folder->id != folder_.id) return not_ours(path(), " was replaced");
    const std::string journal_path = join_path(path(), journal_name);
    GNV_ASSIGN(const std::optional<EntryInfo> journal, find_entry(journal_path));
    if (!journal) return not_ours(journal_path, " was moved or removed");
    if (journal->id != journal_->id()) return not_ours(journal_path, " was replaced");
    return {};
}

// The deepest first: a folder is synced after its content.
Status OutputFolder::sync_folders() const {
    std::vector<std::string> names(folders_.begin(), folders_.end());
    const auto depth = [](const std::string & name) { return std::count(name.begin(), name.end(), '/'); };
    std::stable_sort(names.begin(), names.end(),
                     [&](const std::string & a, const std::string & b) { return depth(a) > depth(b); });
    for (const std::string & name : names) GNV_TRY(sync_directory(join_path(path(), name)));
    return sync_directory(path());
}

Status OutputFolder::publish() {
    GNV_TRY(sync_folders());
    GNV_TRY(check_made());
    for (const auto & [name, made] : files_) {
        const std::string file_path = join_path(path(), name);
        GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(file_path));
        if (!info) return not_ours(file_path, " was moved or removed");
        if (info->id != made.id) return not_ours(file_path, " was replaced");
        if (info->size != made.size) return not_ours(file_path, " got another size");
    }
    const auto stays = [&] { return "the result is complete in " + path(); };
    GNV_ASSIGN(const std::optional<EntryInfo> replaced, find_entry(destination_.folder()));
    GNV_ASSIGN(const bool is_empty, destination_.holds_nothing());
    if (replaced && !destination_.overwrite() && !is_empty)
        return fail(Code::already_exists, destination_.folder(), " appeared during the run; ", stays());
    GNV_TRY(destination_.check_names().add_context(stays()));
    GNV_TRY(destination_.check_replaced().add_context(stays()));

    PublishRecord record{mark_of(folder_), {}};
    if (replaced) record.replaced = mark_of(*replaced);
    GNV_TRY(append_journal(publish_record(record)));
    if (!temporary_.empty()) {
        const std::string temporary = join_path(path(), temporary_);
        Result<std::optional<EntryInfo>> found = find_entry(temporary); // a failure is no absence
        if (!found.ok()) return found.take_status().add_context(stays());
        if (found.value()) GNV_TRY(remove_file(temporary).add_context(stays()));
    }
    const std::string inside = join_path(path(), journal_name);
    GNV_TRY(rename_path(inside, destination_.record()).add_context(stays()));
    Status named = sync_directory(path());
    if (named.ok()) named = sync_directory(parent_path(path()));
    if (named.ok()) named = give_name(replaced);
    if (!named.ok()) {
        // If the folder still has its old name, the journal inside identifies it.
        const Result<std::optional<EntryInfo>> there = find_entry(path());
        if (there.ok() && there.value() && there.value()->id == folder_.id)
            (void)rename_path(destination_.record(), inside).ok();
        return named;
    }
    GNV_TRY(remove_file(destination_.record()).add_context(destination_.folder() + " is complete"));
    return sync_directory(parent_path(path())).add_context(destination_.folder() + " is complete");
}

Status OutputFolder::give_name(const std::optional<EntryInfo> & replaced) {
    GNV_ASSIGN(const std::optional<EntryInfo> made, find_entry(path()));
    if (!made || made->id != folder_.id) return not_ours(path(), " was replaced");
    if (replaced) return replace(*replaced);
    GNV_TRY(rename_path(path(), destination_.folder()).add_context("the result is complete in " + path()));
    GNV_ASSIGN(const std::optional<EntryInfo> there, find_entry(destination_.folder()));
    if (!there || there->id != folder_.id) return not_ours(destination_.folder(), " was replaced");
    return sync_directory(parent_path(path()));
}

// Exchanges the complete folder and the old one, and removes the old one once the new name is on disk.
Status OutputFolder::replace(const EntryInfo & replaced) {
    const std::string &folder = destination_.folder(), &old = destination_.old();
    const std::string stays = "the result is complete in " + path();
    const Status exchanged = exchange_paths(path(), folder);
    if (!exchanged.ok() && exchanged.code() != Code::unsupported) return copy_of(exchanged).add_context(stays);
    if (!exchanged.ok() && !destination_.overwrite()) { // an empty folder: nothing is lost where it goes first
        GNV_TRY(remove_empty_folder(folder).add_context(stays));
        GNV_TRY(rename_path(path(), folder).add_context(stays));
        return sync_directory(parent_path(folder));
    }
    if (!exchanged.ok()) {
        GNV_TRY(rename_path(folder, old).add_context(stays));
        Status renamed = rename_path(path(), folder);
        if (!renamed.ok()) {
            const Status restored = rename_path(old, folder);
            return std::move(renamed).add_context(stays + (restored.ok() ? "; the old checkpoint is untouched"
                                                                         : "; the old checkpoint is now at " + old));
        }
    }
    GNV_ASSIGN(const std::optional<EntryInfo> there, find_entry(folder));
    if (!there || there->id != folder_.id) return not_ours(folder, " was replaced");
    GNV_TRY(sync_directory(parent_path(folder)));
    return remove_replaced(exchanged.ok() ? path() : old, replaced);
}

Status OutputFolder::remove_replaced(const std::string & path, const EntryInfo & replaced) {
    const Clock::time_point start = Clock::now();
    Status removed = destination_.remove(path, replaced, {});
    removal_seconds_ = seconds_since(start);
    return std::move(removed).add_context(destination_.folder() +
                                          " is complete, but the old checkpoint is not removed yet");
}

} // namespace gnv
