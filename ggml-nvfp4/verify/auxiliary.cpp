#include "verify/auxiliary.h"

#include "formats/json.h"
#include "verify/subject.h"

#include <algorithm>
#include <map>

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

using Members = std::map<std::string_view, JsonValue>;

static Result<Members> members_of(const JsonValue & object) {
    Members members;
    GNV_TRY(object.for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
        members.emplace(key, value);
        return {};
    }));
    return members;
}

static Result<std::vector<JsonValue>> elements_of(const JsonValue & array) {
    std::vector<JsonValue> elements;
    GNV_TRY(array.for_each_element([&](size_t, const JsonValue & value) -> Status {
        elements.push_back(value);
        return {};
    }));
    return elements;
}

// Equal but for blanks, the order of keys and the spelling of numbers.
static Result<bool> same_meaning(const JsonValue & a, const JsonValue & b) {
    if (a.is_object() && b.is_object()) {
        GNV_ASSIGN(const Members ours, members_of(a));
        GNV_ASSIGN(const Members theirs, members_of(b));
        if (ours.size() != theirs.size()) return false;
        for (auto x = ours.begin(), y = theirs.begin(); x != ours.end(); ++x, ++y) {
            if (x->first != y->first) return false;
            GNV_ASSIGN(const bool same, same_meaning(x->second, y->second));
            if (!same) return false;
        }
        return true;
    }
    if (a.is_array() && b.is_array()) {
        GNV_ASSIGN(const std::vector<JsonValue> ours, elements_of(a));
        GNV_ASSIGN(const std::vector<JsonValue> theirs, elements_of(b));
        if (ours.size() != theirs.size()) return false;
        for (size_t i = 0; i < ours.size(); i++) {
            GNV_ASSIGN(const bool same, same_meaning(ours[i], theirs[i]));
            if (!same) return false;
        }
        return true;
    }
    if (a.type() != JsonType::real && b.type() != JsonType::real) return a.text() == b.text();
    const Result<double> x = a.as_double(), y = b.as_double();
    return x.ok() && y.ok() && x.value() == y.value();
}

static Status compare_json(AuxiliaryFile & file, const JsonValue & ours, std::string original) {
    const Result<JsonDocument> document = JsonDocument::parse(std::move(original), file.name);
    if (!document.ok()) return {}; // the source's file is damaged: it differs
    const JsonValue theirs = document.value().root();
    GNV_ASSIGN(const bool same, same_meaning(ours, theirs));
    file.differs_in_meaning = !same;
    if (same || !ours.is_object() || !theirs.is_object()) return {};
    GNV_ASSIGN(const Members a, members_of(ours));
    GNV_ASSIGN(const Members b, members_of(theirs));
    const auto note = [&](std::string_view key) {
        if (file.keys.size() < listed_keys) file.keys.push_back(printable(key, 60));
    };
    for (const auto & [key, value] : a) {
        const auto found = b.find(key);
        if (found == b.end()) {
            note(key);
            continue;
        }
        GNV_ASSIGN(const bool same_value, same_meaning(value, found->second));
        if (!same_value) note(key);
    }
    for (const auto & [key, value] : b)
        if (a.count(key) == 0) note(key);
    return {};
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
        Result<JsonDocument> document = JsonDocument::parse(content, known.name);
        if (!document.ok() && is_machine_failure(document.status())) return document.take_status();
        if (!document.ok()) file.problem = message_about(document.status(), known.name);
    }
    if (!file.in_source) return file;
    GNV_ASSIGN(std::string original, read_file(*source, known.name, size_limit));
    file.differs = file.differs_in_meaning = content != original;
    if (file.differs && known.is_json && file.problem.empty()) {
        GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(content, known.name));
        GNV_TRY(compare_json(file, document.root(), std::move(original)));
    }
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
