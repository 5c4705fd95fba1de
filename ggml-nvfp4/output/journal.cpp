#include "output/journal.h"

#include "formats/json_writer.h"

#include <algorithm>
#include <cstdio>

namespace gnv {

static constexpr const char * first_line = "ggml-nvfp4 journal 1\n";
static constexpr uint64_t most_journal_bytes = 256 << 20;

// --- Records --------------------------------------------------------------------------------------------------------------

std::vector<std::string> content_records(const std::vector<std::string> & files) {
    std::vector<std::string> records;
    for (const std::string & name : files) {
        for (size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1))
            records.push_back("folder " + json_quote(name.substr(0, slash)));
        records.push_back("file " + json_quote(name));
    }
    std::sort(records.begin(), records.end());
    records.erase(std::unique(records.begin(), records.end()), records.end());
    return records;
}

static constexpr std::string_view identity_line = "with ";
static constexpr std::string_view identity_end = "\nwith all\n";

static std::string identity_begin(const std::string & name) { return concat(identity_line, json_quote(name), " "); }

std::string identity_records(const RunIdentity & identity) {
    std::string text;
    for (const auto & [name, value] : identity) text += identity_begin(name) + json_quote(value) + "\n";
    return text + std::string(identity_end.substr(1));
}

std::string state_record(const StateRecord & record) {
    return concat("state ", record.place, " layers ", record.layers, " tail ", record.tail_bytes, " checksum ",
                  record.checksum, "\n");
}

FolderMark mark_of(const EntryInfo & folder) { return {folder.id.inode, folder.born_ns}; }

std::string publish_record(const PublishRecord & record) {
    std::string text = concat("publish ", record.made.inode, " ", record.made.born_ns);
    if (record.replaced) text += concat(" replaces ", record.replaced->inode, " ", record.replaced->born_ns);
    return text + "\n";
}

static std::vector<std::string> complete_lines(const std::string & text) {
    std::vector<std::string> lines;
    for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
        lines.push_back(text.substr(at, end - at));
    return lines;
}

std::set<std::string> FoundJournal::content() const {
    std::set<std::string> records;
    for (const std::string & line : complete_lines(text))
        if (starts_with(line, "file ") || starts_with(line, "folder ")) records.insert(line);
    return records;
}

std::optional<PublishRecord> FoundJournal::published() const {
    std::optional<PublishRecord> found;
    for (const std::string & line : complete_lines(text)) {
        unsigned long long made = 0, replaced = 0;
        long long made_born = 0, replaced_born = 0;
        const int fields =
            sscanf(line.c_str(), "publish %llu %lld replaces %llu %lld", &made, &made_born, &replaced, &replaced_born);
        if (fields != 2 && fields != 4) continue;
        found = PublishRecord{{made, made_born}, {}};
        if (fields == 4) found->replaced = FolderMark{replaced, replaced_born};
    }
    return found;
}

bool FoundJournal::has_identity() const { return text.find(identity_end) != std::string::npos; }

std::string FoundJournal::differences(const RunIdentity & identity) const {
    const std::vector<std::string> lines = complete_lines(text);
    std::string out;
    for (const auto & [name, value] : identity) {
        const std::string begin = identity_begin(name), now = json_quote(value);
        std::string was = "\"\"";
        for (const std::string & line : lines)
            if (starts_with(line, begin)) was = line.substr(begin.size());
        if (was == now) continue;
        out += concat(out.empty() ? "" : ", ", name, " (was ", was, ", now ", now, ")");
    }
    return out;
}

std::vector<uint32_t> FoundJournal::done() const {
    std::vector<uint32_t> tensors;
    for (const std::string & line : complete_lines(text))
        if (unsigned tensor = 0; sscanf(line.c_str(), "done %u", &tensor) == 1) tensors.push_back(tensor);
    return tensors;
}

std::optional<StateRecord> FoundJournal::saved_state() const {
    std::optional<StateRecord> found;
    for (const std::string & line : complete_lines(text)) {
        int place = 0, layers = 0;
        unsigned long long tail = 0, checksum = 0;
        if (sscanf(line.c_str(), "state %d layers %d tail %llu checksum %llu", &place, &layers, &tail, &checksum) == 4)
            found = StateRecord{place, layers, checksum, tail};
    }
    return found;
}

Status FoundJournal::take_back_claims() const {
    const size_t first = text.find("\ndone ");
    return first == std::string::npos ? Status() : file->cut(first + 1);
}

// --- The journal of this run ------------------------------------------------------------------------------------------------

static Result<FileId> id_of(const File & file) {
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    return FileId{stamp.device, stamp.inode};
}

Result<Journal> Journal::create(const std::string & path, const std::string & lines) {
    const auto too_late = [&] {
        return fail(Code::already_exists, "another run began to write ", parent_path(path), " at the same time");
    };
    Result<File> file = File::create(path);
    if (!file.ok() && (file.status().code() == Code::already_exists || file.status().code() == Code::not_found))
        return too_late(); // the other run made a journal in this folder, or removed the empty folder as a leftover
    if (!file.ok()) return file.take_status();
    GNV_ASSIGN(const File::Lock lock, file.value().lock());
    if (lock == File::Lock::held_elsewhere) return too_late();
    GNV_ASSIGN(const FileId id, id_of(file.value()));
    // Before the lock another run could remove the journal as a leftover.
    GNV_ASSIGN(const std::optional<EntryInfo> there, find_entry(path));
    if (!there || there->id != id) return too_late();
    Journal journal(file.take(), lock == File::Lock::taken, id);
    GNV_TRY(journal.append(first_line + lines));
    return journal;
}

Result<Journal> Journal::adopt(FoundJournal found) {
    GNV_ASSIGN(const FileId id, id_of(*found.file));
    Journal journal(std::move(*found.file), found.is_locked, id);
    journal.size_ = found.text.rfind('\n') + 1;
    GNV_TRY(journal.file_.cut(journal.size_));
    return journal;
}

Status Journal::append(const std::string & lines) {
    GNV_TRY(file_.write(lines.data(), lines.size(), size_));
    size_ += lines.size();
    return file_.sync();
}

// --- Existing journals --------------------------------------------------------------------------------------------------------

Result<FoundJournal> find_journal(const std::string & path, bool lock) {
    FoundJournal found;
    GNV_ASSIGN(const std::optional<EntryInfo> entry, find_entry(path));
    if (!entry) return found;
    found.state = FoundJournal::State::foreign;
    if (entry->kind != FileKind::file) return found;
    Result<File> file = File::open_own(path);
    if (!file.ok() && file.status().code() == Code::not_found) return FoundJournal();
    if (!file.ok()) return file.take_status();
    if (lock) {
        GNV_ASSIGN(const File::Lock taken, file.value().lock());
        if (taken == File::Lock::held_elsewhere) found.state = FoundJournal::State::in_use;
        found.is_locked = taken == File::Lock::taken;
    } else if (file.value().is_locked_elsewhere()) {
        found.state = FoundJournal::State::in_use;
    }
    if (found.state == FoundJournal::State::in_use) return found;
    // Its run may have ended before the lock, and moved or removed it.
    GNV_ASSIGN(const FileId id, id_of(file.value()));
    GNV_ASSIGN(const std::optional<EntryInfo> there, find_entry(path));
    if (!there || there->id != id) return FoundJournal();
    GNV_ASSIGN(const FileStamp stamp, file.value().stamp());
    if (stamp.size > most_journal_bytes) return found;
    found.text.resize(stamp.size);
    GNV_TRY(file.value().read(found.text.data(), found.text.size(), 0));
    const std::string_view magic = first_line;
    if (found.text.substr(0, magic.size()) != magic.substr(0, found.text.size())) return found;
    found.state = FoundJournal::State::ours; // without a whole line: its run was stopped at the start
    found.file = file.take();
    return found;
}

} // namespace gnv
