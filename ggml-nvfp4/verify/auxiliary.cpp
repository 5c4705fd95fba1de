#include "verify/auxiliary.h"

#include "chat/chat_template.h"
#include "core/strings.h"
#include "formats/json.h"
#include "formats/json_writer.h"
#include "verify/subject.h"

#include <algorithm>
#include <map>
#include <optional>

namespace gnv::verify {

static constexpr uint64_t size_limit = 256 << 20;
static constexpr size_t listed_keys = 5;

struct KnownFile {
    const char * name;
    AuxiliaryKind kind;
    bool is_json;
};
static const KnownFile known_files[] = {
    {"added_tokens.json", AuxiliaryKind::tokenizer_part, true},
    {"chat_template.jinja", AuxiliaryKind::chat_template, false},
    {"chat_template.json", AuxiliaryKind::chat_template, true},
    {"generation_config.json", AuxiliaryKind::generation, true},
    {"merges.txt", AuxiliaryKind::tokenizer_part, false},
    {"preprocessor_config.json", AuxiliaryKind::preprocessor, true},
    {"processor_config.json", AuxiliaryKind::preprocessor, true},
    {"special_tokens_map.json", AuxiliaryKind::tokenizer_part, true},
    {"tokenizer.json", AuxiliaryKind::tokenizer, true},
    {"tokenizer_config.json", AuxiliaryKind::tokenizer_config, true},
    {"video_preprocessor_config.json", AuxiliaryKind::preprocessor, true},
    {"vocab.json", AuxiliaryKind::tokenizer_part, true},
};

const AuxiliaryFile & AuxiliaryFiles::operator[](const std::string & name) const {
    const auto found =
        std::find_if(files.begin(), files.end(), [&](const AuxiliaryFile & file) { return file.name == name; });
    GNV_CHECK(found != files.end());
    return *found;
}

// JSON text that is the same for every order of keys.
static std::string canonical(const JsonValue & value) {
    if (value.is_array()) {
        std::string out = "[";
        (void)value
            .for_each_element([&](size_t, const JsonValue & item) -> Status {
                out += canonical(item) + ",";
                return {};
            })
            .ok();
        return out + "]";
    }
    if (!value.is_object()) return value.text();
    std::vector<std::pair<std::string, std::string>> members;
    (void)value
        .for_each_member([&](std::string_view key, const JsonValue & member) -> Status {
            members.emplace_back(key, canonical(member));
            return {};
        })
        .ok();
    std::sort(members.begin(), members.end());
    std::string out = "{";
    for (const auto & [key, text] : members) out += json_quote(key) + ":" + text + ",";
    return out + "}";
}

using Members = std::map<std::string, std::string>;

static Members top_members(const JsonValue & root) {
    Members members;
    if (!root.is_object()) return {{"", canonical(root)}};
    (void)root
        .for_each_member([&](std::string_view key, const JsonValue & member) -> Status {
            members[std::string(key)] = canonical(member);
            return {};
        })
        .ok();
    return members;
}

static Status compare_json(AuxiliaryFile & file, const JsonDocument & ours, const std::string & original) {
    Result<JsonDocument> theirs = JsonDocument::parse(original, file.name, JsonKeys::last_wins);
    if (!theirs.ok() && is_machine_failure(theirs.status())) return theirs.take_status();
    if (!theirs.ok()) return {}; // a damaged file of the source differs
    const Members a = top_members(ours.root()), b = top_members(theirs.value().root());
    file.differs_in_meaning = a != b;
    const auto note = [&](const Members & members, const Members & others, bool also_changed) {
        for (const auto & [key, text] : members) {
            const auto found = others.find(key);
            if (file.keys.size() < listed_keys && (found == others.end() || (also_changed && found->second != text)))
                file.keys.push_back(printable(key, 60));
        }
    };
    note(a, b, true);
    note(b, a, false);
    return {};
}

// What a tokenizer.json cuts and pads texts to.
static std::string limits_of(const JsonValue & root) {
    JsonValue value, length;
    std::string out;
    if (root.find("truncation", value) && !value.is_null())
        out = concat("truncation", value.find("max_length", length) ? concat(" to ", length.text(), " tokens") : "");
    if (root.find("padding", value) && !value.is_null()) out += out.empty() ? "padding" : " and padding";
    return out;
}

// Both sides' texts of a file that differs in meaning.
static Status judge_tokenizer(AuxiliaryFile & file, std::string ours, std::string theirs, const Folder & folder,
                              const Folder & source) {
    constexpr const char * config_name = "tokenizer_config.json";
    std::string configs[2];
    const Folder * const sides[] = {&folder, &source};
    for (int i = 0; i < 2; i++) {
        GNV_ASSIGN(const bool present, has_file(*sides[i], config_name));
        if (!present) continue;
        GNV_ASSIGN(configs[i], read_file(*sides[i], config_name, size_limit));
    }
    GNV_ASSIGN(file.tokenizers,
               compare_tokenizers(std::move(ours), std::move(configs[0]), std::move(theirs), std::move(configs[1])));
    return {};
}

// `document` receives a JSON file that can be read.
static Result<AuxiliaryFile> read_one(const KnownFile & known, const Folder & folder, const Folder * source,
                                      std::optional<JsonDocument> & document) {
    AuxiliaryFile file;
    file.name = known.name;
    file.kind = known.kind;
    GNV_ASSIGN(file.present, has_file(folder, known.name));
    if (source) {
        GNV_ASSIGN(file.in_source, has_file(*source, known.name));
    }
    if (!file.present) return file;
    Result<std::string> text = read_file(folder, known.name, size_limit);
    if (!text.ok()) {
        if (is_machine_failure(text.status())) return text.take_status();
        file.problem = text.status().message();
        return file;
    }
    const std::string content = text.take();
    if (known.is_json) {
        Result<JsonDocument> parsed = JsonDocument::parse(content, known.name, JsonKeys::last_wins);
        if (parsed.ok()) {
            document = parsed.take();
        } else if (is_machine_failure(parsed.status())) {
            return parsed.take_status();
        } else {
            file.problem = message_about(parsed.status(), known.name);
        }
    }
    if (known.kind == AuxiliaryKind::chat_template && !known.is_json) {
        const Result<ChatTemplate> parsed = ChatTemplate::parse(content, known.name);
        if (!parsed.ok() && is_machine_failure(parsed.status())) return copy_of(parsed.status());
        // What this library alone does not know is no fault of the file.
        if (!parsed.ok() && parsed.status().code() == Code::format)
            file.problem = concat("cannot be parsed: ", parsed.status().message());
    }
    if (known.kind == AuxiliaryKind::tokenizer && document) file.limits = limits_of(document->root());
    if (!file.in_source) return file;
    GNV_ASSIGN(const std::string original, read_file(*source, known.name, size_limit));
    file.differs = file.differs_in_meaning = content != original;
    if (file.differs && document) GNV_TRY(compare_json(file, *document, original));
    if (known.kind != AuxiliaryKind::tokenizer || !document) return file;
    const Result<JsonDocument> theirs = JsonDocument::parse(original, known.name, JsonKeys::last_wins);
    if (!theirs.ok() && is_machine_failure(theirs.status())) return copy_of(theirs.status());
    if (theirs.ok()) file.source_limits = limits_of(theirs.value().root());
    if (file.differs_in_meaning) GNV_TRY(judge_tokenizer(file, content, original, folder, *source));
    return file;
}

Result<AuxiliaryFiles> read_auxiliary_files(const Folder & folder, const Folder * source) {
    AuxiliaryFiles out;
    for (const KnownFile & known : known_files) {
        std::optional<JsonDocument> document;
        GNV_ASSIGN(AuxiliaryFile file, read_one(known, folder, source, document));
        JsonValue value;
        if (known.kind == AuxiliaryKind::tokenizer_config && document)
            out.template_in_tokenizer_config = document->root().find("chat_template", value) && !value.is_null();
        out.files.push_back(std::move(file));
    }
    return out;
}

} // namespace gnv::verify
