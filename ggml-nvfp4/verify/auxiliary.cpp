#include "verify/auxiliary.h"

#include "formats/json.h"
#include "verify/subject.h"

#include <algorithm>
#include <nlohmann/json.hpp>

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
    const auto found = std::find_if(files.begin(), files.end(), [&](const AuxiliaryFile & file) { return file.name == name; });
    GNV_CHECK(found != files.end());
    return *found;
}

static void compare_json(AuxiliaryFile & file, const std::string & ours, const std::string & theirs) {
    const nlohmann::json a = nlohmann::json::parse(ours, nullptr, false), b = nlohmann::json::parse(theirs, nullptr, false);
    file.differs_in_meaning = a != b;
    if (!a.is_object() || !b.is_object()) return;
    const auto note_missing = [&](const nlohmann::json & object, const nlohmann::json & other, bool also_changed) {
        for (const auto & [key, value] : object.items()) {
            const auto found = other.find(key);
            if (file.keys.size() < listed_keys && (found == other.end() || (also_changed && *found != value)))
                file.keys.push_back(printable(key, 60));
        }
    };
    note_missing(a, b, true);
    note_missing(b, a, false);
}

static Result<AuxiliaryFile> read_one(const KnownFile & known, const Folder & folder, const Folder * source,
                                      std::string & content) {
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
    content = text.take();
    if (known.is_json) {
        const Result<JsonDocument> document = JsonDocument::parse(content, known.name);
        if (!document.ok()) file.problem = message_about(document.status(), known.name);
    }
    if (!file.in_source) return file;
    GNV_ASSIGN(const std::string original, read_file(*source, known.name, size_limit));
    file.differs = file.differs_in_meaning = content != original;
    if (file.differs && known.is_json && file.problem.empty()) compare_json(file, content, original);
    return file;
}

Result<AuxiliaryFiles> read_auxiliary_files(const Folder & folder, const Folder * source) {
    AuxiliaryFiles out;
    for (const KnownFile & known : known_files) {
        std::string content;
        GNV_ASSIGN(AuxiliaryFile file, read_one(known, folder, source, content));
        if (known.kind == AuxiliaryKind::tokenizer_config && file.present && file.problem.empty()) {
            GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::move(content), known.name));
            JsonValue value;
            out.template_in_tokenizer_config = document.root().find("chat_template", value) && !value.is_null();
        }
        out.files.push_back(std::move(file));
    }
    return out;
}

} // namespace gnv::verify
