#include "tokenizer/tokenizer_model.h"

#include <algorithm>

namespace gnv {

namespace {

// Of Qwen3_5Tokenizer in Transformers (src/transformers/models/qwen3_5/tokenization_qwen3_5.py), as the tokenizer.json that
// is published with these models has it.
constexpr std::string_view qwen35_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Classes with other steps give other ids from the same two files.
constexpr std::string_view known_classes[] = {"Qwen2Tokenizer",       "Qwen2TokenizerFast", "Qwen3_5Tokenizer",
                                              "Qwen3_5TokenizerFast", "TokenizersBackend",  "PreTrainedTokenizerFast"};

Status check_config(const JsonValue & config) {
    JsonValue value;
    if (config.find("tokenizer_class", value) && !value.is_null()) {
        GNV_ASSIGN(const std::string_view name, value.as_string());
        bool known = false;
        for (const std::string_view one : known_classes) known = known || name == one;
        if (!known)
            return fail(Code::unsupported, value.where(), ": vocab.json and merges.txt of the class ", printable(name),
                        " are not supported; save the tokenizer with Transformers, which writes a tokenizer.json");
    }
    if (config.find("add_prefix_space", value) && !value.is_null()) {
        GNV_ASSIGN(const bool prefix, value.as_bool());
        if (prefix) return fail(Code::unsupported, value.where(), ": a space before the text is not supported");
    }
    return {};
}

// Lines "left right" in the order of their ranks, behind a line "#version: 0.2".
Status read_merges(std::string_view text, const std::string & name, TokenizerModel & model) {
    size_t number = 0;
    std::string unknown;
    while (!text.empty()) {
        number++;
        const size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        if (line.empty() || line.substr(0, 8) == "#version") continue;
        const size_t space = line.find(' ');
        if (space == line.npos || line.find(' ', space + 1) != line.npos)
            return fail(Code::format, name, ":", number, ": \"", printable(line, 60),
                        "\" is not two tokens with a space between");
        if (!add_merge(line.substr(0, space), line.substr(space + 1), model, unknown))
            return fail(Code::format, name, ":", number, ": \"", printable(unknown, 60), "\" is not in vocab.json");
    }
    return {};
}

} // namespace

Status read_tokenizer_parts(const JsonValue & vocab, std::string_view merges, const std::string & merges_name,
                            const JsonValue & config, TokenizerModel & model) {
    if (!vocab.is_object()) return fail(Code::format, vocab.where(), ": expected an object");
    GNV_TRY(check_config(config));
    GNV_TRY(read_trained_vocabulary(vocab, model));
    GNV_TRY(read_merges(merges, merges_name, model));
    GNV_ASSIGN(SplitPattern pattern, SplitPattern::compile(qwen35_pattern));
    model.patterns.push_back(std::move(pattern));
    model.nfc = true;
    return {};
}

} // namespace gnv
