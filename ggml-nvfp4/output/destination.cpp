#include "output/destination.h"

#include "checkpoint/checkpoint_names.h"
#include "formats/file.h"
#include "formats/json_writer.h"

#include <algorithm>

namespace gnv {

// --- Names ------------------------------------------------------------------------------------------------------------------

Result<GuardedDestination> GuardedDestination::create(const Destination & destination) {
    GuardedDestination self(destination);
    Result<std::string> resolved = canonical_path(destination.folder);
    if (!resolved.ok() && !path_exists(parent_path(destination.folder)))
        return fail(Code::not_found, "cannot create ", destination.folder, ": its parent folder ",
                    parent_path(destination.folder), " does not exist; make it first");
    if (!resolved.ok()) return resolved.take_status().add_context("cannot use this destination");
    self.folder_ = resolved.take();
    self.partial_ = self.folder_ + ".partial";
    self.record_ = self.folder_ + ".journal";
    self.old_ = self.folder_ + ".old";
    const std::string parent = parent_path(self.folder_);
    GNV_ASSIGN(self.parent_trail_, lookup_trail(parent));
    GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(parent));
    if (!info || info->kind != FileKind::folder) return fail(Code::not_found, parent, " is not a folder");
    self.parent_ = *info;

    GNV_ASSIGN(self.source_trail_, lookup_trail(destination.source));
    for (const std::string & path : destination.reads) GNV_TRY(self.inputs_.add(path));
    for (const std::string & path : destination.writes)
        GNV_TRY(self.outputs_.add(path_exists(path) ? path : parent_path(path)));
    return self;
}

std::string GuardedDestination::describe(const std::string & name) const {
    if (name == folder_) return "the destination " + wanted_.folder;
    return concat(name, " (which a run to ", wanted_.folder, " may remove)");
}

static bool contains(const std::vector<FileId> & ids, const FileId & id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
}

Status GuardedDestination::check_apart(const std::string & name, const FileId & id) const {
    if (id == source_trail_.back()) return fail(Code::invalid_argument, describe(name), " is the source");
    if (contains(source_trail_, id)) return fail(Code::invalid_argument, "the source lies inside ", describe(name));
    if (const std::string * const input = inputs_.find(id))
        return fail(Code::invalid_argument, describe(name), " holds ", *input, ", which this run reads");
    if (const std::string * const output = outputs_.find(id))
        return fail(Code::invalid_argument, describe(name), " holds ", *output, ", where this run writes");
    return {};
}

Status GuardedDestination::check_names() const {
    if (contains(parent_trail_, source_trail_.back()))
        return fail(Code::invalid_argument, "the destination ", wanted_.folder, " lies inside the source");
    for (const std::string & name : {folder_, partial_, old_}) {
        if (name == old_ && !wanted_.overwrite) continue;
        GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(name));
        if (!info) continue;
        GNV_TRY(check_apart(name, info->id));
        if (info->kind == FileKind::link) { // its target is for the message only: a link is never followed
            const Result<std::vector<FileId>> target = lookup_trail(name);
            if (target.ok()) GNV_TRY(check_apart(name, target.value().back()));
        }
    }
    if (parent_.is_fixed)
        return fail(Code::io, parent_path(folder_), " is immutable: nothing can be made or renamed in it");
    return check_may_write(parent_path(folder_));
}

// --- Removal --------------------------------------------------------------------------------------------------------------------

static bool is_part_of(const TreeEntry & entry, const std::set<std::string> & content) {
    if (entry.info.kind == FileKind::other) return false;
    if (entry.info.kind != FileKind::folder)
        return is_checkpoint_file(entry.name) || content.count("file " + json_quote(entry.name));
    return entry.name == "additional_chat_templates" || content.count("folder " + json_quote(entry.name));
}

MayRemove GuardedDestination::may_remove(const std::string & folder, const std::set<std::string> & content) const {
    std::set<std::string> all = content;
    for (const std::string & record : content_records(wanted_.files)) all.insert(record);
    return [this, folder, all](const TreeEntry & entry) -> Status {
        const std::string path = join_path(folder, entry.name);
        const auto refuse = [&](const auto &... why) {
            return fail(Code::already_exists, path, why..., "; ", folder, " will not be removed: move that away first");
        };
        if (contains(source_trail_, entry.info.id)) return refuse(" is part of the source's path");
        if (const std::string * const input = inputs_.find(entry.info.id))
            return refuse(" is what this run reads as ", *input);
        if (outputs_.find(entry.info.id)) return refuse(" is where this run writes");
        const bool is_own = (entry.name == journal_name || entry.name == state_file_name) &&
                            entry.info.kind == FileKind::file && folder == partial_;
        if (is_own || is_part_of(entry, all)) return {};
        return refuse(" is no part of a checkpoint that a run to ", wanted_.folder, " would make or replace");
    };
}

Status GuardedDestination::check_removable(const std::string & folder, const EntryInfo & info,
                                           const std::set<std::string> & content) const {
    const MayRemove may_go = may_remove(folder, content);
    GNV_TRY(check_may_remove(parent_, info, folder));
    // A repository is the worst loss: it is named first.
    GNV_ASSIGN(const std::optional<EntryInfo> repository, find_entry(join_path(folder, ".git")));
    if (repository) GNV_TRY(may_go({".git", *repository}));
    return check_tree(folder, info.id, may_go);
}

Status GuardedDestination::remove(const std::string & folder, const EntryInfo & info,
                                  const std::set<std::string> & content) const {
    return remove_tree(folder, info.id, may_remove(folder, content), journal_name);
}

Result<bool> GuardedDestination::holds_nothing() const {
    GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(folder_));
    if (!info || info->kind != FileKind::folder) return false;
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(folder_));
    return entries.empty();
}

Status GuardedDestination::check_replaced() const {
    GNV_ASSIGN(const std::optional<EntryInfo> info, find_entry(folder_));
    if (!info) return {};
    if (info->is_mount)
        return fail(Code::already_exists, "the destination ", wanted_.folder,
                    " is a mount point, whose place nothing can take; give a folder in it, such as ",
                    join_path(wanted_.folder, "model"));
    GNV_ASSIGN(const bool is_empty, holds_nothing());
    if (!wanted_.overwrite && !is_empty)
        return fail(Code::already_exists, "output folder ", wanted_.folder,
                    " already exists; choose another or ask to overwrite it (--overwrite)");
    if (info->kind != FileKind::folder)
        return fail(Code::already_exists, "the destination ", wanted_.folder, " is not a folder");
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(folder_));
    const bool is_checkpoint = std::any_of(entries.begin(), entries.end(), [](const auto & entry) {
        return entry.name == "config.json" || ends_with(entry.name, ".safetensors");
    });
    GNV_TRY(check_removable(folder_, *info, {}));
    if (entries.empty() || is_checkpoint) return {};
    return fail(Code::already_exists, "the destination ", wanted_.folder,
                " holds files that are no checkpoint; it will not be overwritten: remove it yourself");
}

} // namespace gnv
