#include "output/state_folder.h"

#include "formats/json_writer.h"

namespace gnv {

static std::string journal_in(const std::string & path) { return join_path(path, journal_name); }
static std::string states_in(const std::string & path) { return join_path(path, state_file_name); }

static constexpr const char * without_it = "remove that folder, or begin anew without it (--no-resume)";

// Only the names that this code makes.
static Status remove_content(const std::string & path) {
    for (const std::string & name : {states_in(path), journal_in(path)}) {
        GNV_ASSIGN(const std::optional<EntryInfo> there, find_entry(name)); // a failure is no absence
        if (there) GNV_TRY(remove_file(name));
    }
    return {};
}

// What is there; a journal of a stopped run is locked on request.
static Result<FoundJournal> look_at(const std::string & path, bool lock) {
    GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(path));
    if (!info) return FoundJournal();
    const auto refuse = [&](const char * why) {
        return fail(Code::already_exists, path, why, ": a run needs this name for its state; ", without_it);
    };
    if (info->kind != FileKind::folder) return refuse(" is no folder");
    GNV_ASSIGN(FoundJournal found, find_journal(journal_in(path), lock));
    if (found.state == FoundJournal::State::in_use)
        return fail(Code::already_exists, "another run keeps its state in ", path,
                    "; wait until it has ended, or give this one another place (--scratch) or none (--no-resume)");
    if (found.state == FoundJournal::State::foreign) return refuse(" holds a journal that no run wrote");
    if (found.state == FoundJournal::State::absent) {
        GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(path));
        if (!entries.empty()) return refuse(" holds files that no run made");
    }
    return found;
}

Result<bool> StateFolder::check(const std::string & path) {
    GNV_ASSIGN(const FoundJournal found, look_at(path, false));
    if (found.state == FoundJournal::State::absent && !path_exists(path)) GNV_TRY(check_new_file(path));
    return found.state == FoundJournal::State::ours && found.has_identity();
}

Result<std::unique_ptr<StateFolder>> StateFolder::open(const std::string & path, const RunIdentity & identity) {
    GNV_ASSIGN(FoundJournal found, look_at(path, true));
    if (found.state == FoundJournal::State::ours && found.has_identity()) {
        const std::string differences = found.differences(identity);
        std::optional<StateRecord> state = found.saved_state();
        GNV_ASSIGN(const std::optional<EntryInfo> states, find_entry(states_in(path)));
        if (!states) state.reset(); // the run was stopped while it removed them
        if (!differences.empty() && state)
            return fail(Code::already_exists, path, " is the state of a stopped run with another ", differences,
                        ": give the same to go on with it; else ", without_it);
        if (differences.empty()) {
            const std::set<std::string> files = found.content();
            GNV_ASSIGN(Journal journal, Journal::adopt(std::move(found)));
            std::unique_ptr<StateFolder> self(new StateFolder(path, std::move(journal)));
            self->state_ = state;
            self->files_ = files;
            return self;
        }
    }
    // A remainder without a state is of no use.
    if (found.state == FoundJournal::State::ours) GNV_TRY(remove_content(path));
    if (!path_exists(path)) {
        Status made = make_directory(path);
        if (!made.ok() && made.code() != Code::already_exists) return made;
    }
    GNV_ASSIGN(Journal journal, Journal::create(journal_in(path), identity_records(identity)));
    GNV_TRY(sync_directory(path));
    return std::unique_ptr<StateFolder>(new StateFolder(path, std::move(journal)));
}

StateFolder::StateFolder(std::string path, Journal journal)
    : path_(std::move(path)), journal_(std::make_unique<Journal>(std::move(journal))) {}

Result<const File *> StateFolder::file(uint64_t bytes) {
    const std::string name = states_in(path_);
    Result<File> file = path_exists(name) ? File::open_own(name) : File::create(name);
    if (!file.ok()) return file.take_status();
    file_ = file.take();
    GNV_TRY(file_->reserve(bytes).add_context(
        concat("the state of the run, ", bytes_text(bytes), " to go on with if it is stopped (--no-resume)")));
    GNV_TRY(sync_directory(path_));
    const File * const out = &*file_;
    return out;
}

Status StateFolder::record(const StateRecord & record) {
    GNV_TRY(journal_->append(state_record(record)));
    state_ = record;
    return {};
}

static std::string file_record(const std::string & path) { return "file " + json_quote(path); }

Status StateFolder::record_file(const std::string & path) {
    if (!files_.insert(file_record(path)).second) return {};
    return journal_->append(file_record(path) + "\n");
}

bool StateFolder::is_known(const std::string & path) const { return files_.count(file_record(path)) > 0; }

Status StateFolder::remove() {
    file_.reset();
    GNV_TRY(remove_content(path_)); // the lock lasts until this is destroyed
    Status removed = remove_empty_folder(path_);
    if (removed.code() == Code::already_exists) return {};
    GNV_TRY(std::move(removed));
    return sync_directory(parent_path(path_));
}

} // namespace gnv
