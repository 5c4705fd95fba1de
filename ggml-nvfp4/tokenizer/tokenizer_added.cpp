#include "tokenizer/tokenizer_model.h"
#include "tokenizer/unicode.h"

#include <algorithm>
#include <charconv>

namespace gnv {

namespace {

constexpr size_t longest_added_token = 4096;

Status read_flag(const JsonValue & object, const char * key, bool & flag) {
    JsonValue value;
    if (!object.find(key, value)) return {};
    GNV_ASSIGN(flag, value.as_bool());
    return {};
}

// {"content": "<|im_end|>", "special": true, ...}
Result<AddedToken> read_token(const JsonValue & value) {
    AddedToken token;
    GNV_ASSIGN(const JsonValue content_value, value.get("content"));
    GNV_ASSIGN(const std::string_view content, content_value.as_string());
    if (content.size() > longest_added_token)
        return fail(Code::unsupported, content_value.where(), ": an added token of ", content.size(),
                    " bytes; at most ", longest_added_token, " are accepted");
    token.content = content;
    GNV_TRY(read_flag(value, "special", token.special));
    token.normalized = !token.special; // the library's default
    GNV_TRY(read_flag(value, "normalized", token.normalized));
    GNV_TRY(read_flag(value, "single_word", token.single_word));
    GNV_TRY(read_flag(value, "lstrip", token.strip_left));
    GNV_TRY(read_flag(value, "rstrip", token.strip_right));
    return token;
}

// Ids of added tokens are not free: the published library ignores the number in the file and gives a token that the
// vocabulary does not have the next free id. A file whose numbers say otherwise would mean different tokens to
// different readers.
Status add_token(const JsonValue & value, int64_t id, AddedToken token, TokenizerModel & model) {
    if (token.content.empty()) return {}; // the library passes over it too
    const TokenId known = model.vocabulary.find_written(token.content);
    const int64_t expected = known == no_token ? model.vocabulary.size() : known;
    if (id != expected)
        return fail(Code::format, value.where(), ": the added token \"", printable(token.content, 60), "\" has the id ",
                    id, known == no_token ? ", but the next free id is " : ", but the vocabulary says ", expected);
    GNV_TRY(model.vocabulary.add(id, token.content).add_context(value.where()));
    token.id = TokenId(id);
    model.vocabulary.set_special(token.id, token.special);
    const auto [place, is_new] = model.added_by_id.try_emplace(token.id, model.added_tokens.size());
    if (is_new) {
        model.added_tokens.push_back(std::move(token));
    } else {
        model.added_tokens[place->second] = std::move(token); // a later entry has the last word on the flags
    }
    return {};
}

// The id of a token that tokenizer_config.json names as a string or as {"content": ...}; unknown ones are passed over.
Status read_role(const JsonValue & root, const char * key, const Vocabulary & vocabulary, TokenId & role) {
    JsonValue value, content;
    if (!root.find(key, value) || value.is_null()) return {};
    GNV_ASSIGN(const std::string_view text, value.find("content", content) ? content.as_string() : value.as_string());
    role = vocabulary.find_written(text);
    return {};
}

} // namespace

Status read_added_tokens(const JsonValue & root, TokenizerModel & model) {
    JsonValue tokens;
    if (!root.find("added_tokens", tokens) || tokens.is_null()) return {};
    return tokens.for_each_element([&](size_t, const JsonValue & value) -> Status {
        GNV_ASSIGN(AddedToken token, read_token(value));
        GNV_ASSIGN(const JsonValue id_value, value.get("id"));
        GNV_ASSIGN(const int64_t id, id_value.as_int());
        return add_token(value, id, std::move(token), model);
    });
}

Status read_tokenizer_config(const JsonValue & root, TokenizerModel & model) {
    struct Entry {
        int64_t id;
        JsonValue value;
    };
    std::vector<Entry> entries;
    JsonValue decoder;
    if (root.find("added_tokens_decoder", decoder) && !decoder.is_null()) {
        GNV_TRY(decoder.for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
            int64_t id = 0;
            const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
            if (error != std::errc() || end != key.data() + key.size())
                return fail(Code::format, value.where(), ": the key is not an id");
            entries.push_back({id, value});
            return {};
        }));
    }
    std::sort(entries.begin(), entries.end(), [](const Entry & a, const Entry & b) { return a.id < b.id; });
    for (const Entry & entry : entries) {
        GNV_ASSIGN(AddedToken token, read_token(entry.value));
        GNV_TRY(add_token(entry.value, entry.id, std::move(token), model));
    }
    GNV_TRY(read_role(root, "bos_token", model.vocabulary, model.roles.bos));
    GNV_TRY(read_role(root, "eos_token", model.vocabulary, model.roles.eos));
    return read_role(root, "pad_token", model.vocabulary, model.roles.pad);
}

void index_added_tokens(TokenizerModel & model) {
    std::vector<AddedToken> raw, normalized;
    // Special tokens come first: where two have one content after normalization, the first counts.
    std::stable_sort(model.added_tokens.begin(), model.added_tokens.end(),
                     [](const AddedToken & a, const AddedToken & b) { return a.special > b.special; });
    for (AddedToken token : model.added_tokens) {
        if (token.normalized && model.nfc) { // found in normalized text, and decoded as it was found
            std::string buffer;
            token.content = std::string(nfc(token.content, buffer));
            model.vocabulary.set_written(token.id, token.content);
        }
        (token.normalized ? normalized : raw).push_back(std::move(token));
    }
    model.raw_tokens = AddedTokenFinder(std::move(raw));
    model.normalized_tokens = AddedTokenFinder(std::move(normalized));
}

} // namespace gnv
