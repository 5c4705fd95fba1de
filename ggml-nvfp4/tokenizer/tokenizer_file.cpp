#include "core/utf8.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/tokenizer_model.h"

namespace gnv {

namespace {

// Members of "model" that must be absent, null, or as if absent, for BPE over bytes to be all that happens.
Status check_plain(const JsonValue & bpe) {
    JsonValue value;
    const auto refuse = [&](const char * what) { return fail(Code::unsupported, value.where(), ": ", what); };
    if (bpe.find("type", value)) {
        GNV_ASSIGN(const std::string_view type, value.as_string());
        if (type != "BPE") return refuse("only the type BPE is supported");
    }
    for (const char * const key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        if (!bpe.find(key, value) || value.is_null()) continue;
        GNV_ASSIGN(const std::string_view affix, value.as_string());
        if (!affix.empty()) return refuse("affixes of subwords are not supported");
    }
    if (bpe.find("dropout", value) && !value.is_null()) {
        GNV_ASSIGN(const double dropout, value.as_double());
        if (dropout != 0) return refuse("dropout would make the tokens random");
    }
    if (bpe.find("byte_fallback", value)) {
        GNV_ASSIGN(const bool fallback, value.as_bool());
        if (fallback) return refuse("byte fallback is not byte-level BPE");
    }
    return {};
}

Status read_vocabulary(const JsonValue & vocab, Vocabulary & vocabulary) {
    const std::string where = vocab.where();
    return vocab.for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
        GNV_ASSIGN(const int64_t id, value.as_int());
        return vocabulary.add(id, key).add_context(where);
    });
}

// Bytes that no valid UTF-8 has; a vocabulary trained on text need not know them.
bool never_in_text(int byte) { return byte == 0xc0 || byte == 0xc1 || byte >= 0xf5; }

Status find_byte_tokens(const JsonValue & vocab, TokenizerModel & model) {
    for (int byte = 0; byte < 256; byte++) {
        std::string written;
        utf8_append(written, byte_level_character(uint8_t(byte)));
        const TokenId id = model.vocabulary.find_written(written);
        if (id == no_token && !never_in_text(byte))
            return fail(Code::unsupported, vocab.where(), ": no token for the byte ", byte,
                        "; only complete byte-level vocabularies are supported");
        model.byte_tokens[size_t(byte)] = id;
    }
    return {};
}

// "left right", or ["left", "right"].
Status merge_halves(const JsonValue & merge, std::string_view (&halves)[2]) {
    if (merge.is_string()) {
        GNV_ASSIGN(const std::string_view text, merge.as_string());
        const size_t space = text.find(' ');
        if (space == text.npos || text.find(' ', space + 1) != text.npos)
            return fail(Code::format, merge.where(), ": \"", printable(text, 60),
                        "\" is not two tokens with a space between");
        halves[0] = text.substr(0, space), halves[1] = text.substr(space + 1);
        return {};
    }
    GNV_ASSIGN(const size_t size, merge.array_size());
    if (size != 2) return fail(Code::format, merge.where(), ": a merge has two tokens, not ", size);
    return merge.for_each_element([&](size_t index, const JsonValue & half) -> Status {
        GNV_ASSIGN(halves[index], half.as_string());
        return {};
    });
}

Status read_merges(const JsonValue & merges, TokenizerModel & model) {
    GNV_ASSIGN(const size_t count, merges.array_size());
    model.merges = MergeTable(count);
    return merges.for_each_element([&](size_t, const JsonValue & merge) -> Status {
        std::string_view halves[2];
        GNV_TRY(merge_halves(merge, halves));
        std::string unknown;
        if (add_merge(halves[0], halves[1], model, unknown)) return {};
        return fail(Code::format, merge.where(), ": \"", printable(unknown, 60), "\" is not in the vocabulary");
    });
}

Status read_model(const JsonValue & bpe, TokenizerModel & model) {
    if (!bpe.is_object()) return fail(Code::format, bpe.where(), ": expected an object");
    GNV_TRY(check_plain(bpe));
    GNV_ASSIGN(const JsonValue vocab, bpe.get("vocab"));
    GNV_TRY(read_trained_vocabulary(vocab, model));
    GNV_ASSIGN(const JsonValue merges, bpe.get("merges"));
    GNV_TRY(read_merges(merges, model));
    JsonValue value;
    if (bpe.find("ignore_merges", value)) {
        GNV_ASSIGN(model.ignore_merges, value.as_bool());
    }
    // With a token for every byte the unknown token is never used; it only must exist.
    if (bpe.find("unk_token", value) && !value.is_null()) {
        GNV_ASSIGN(const std::string_view unknown, value.as_string());
        if (model.vocabulary.find_written(unknown) == no_token)
            return fail(Code::format, value.where(), ": \"", printable(unknown, 60), "\" is not in the vocabulary");
    }
    return {};
}

} // namespace

Status read_trained_vocabulary(const JsonValue & vocab, TokenizerModel & model) {
    GNV_TRY(read_vocabulary(vocab, model.vocabulary));
    model.trained_size = model.vocabulary.size();
    return find_byte_tokens(vocab, model);
}

bool add_merge(std::string_view left, std::string_view right, TokenizerModel & model, std::string & unknown) {
    TokenId ids[3]; // left, right, both
    const std::string both = concat(left, right);
    const std::string_view written[3] = {left, right, both};
    for (int i = 0; i < 3; i++) {
        ids[i] = model.vocabulary.find_written(written[i]);
        if (ids[i] != no_token) continue;
        unknown = written[i];
        return false;
    }
    model.merges.add(ids[0], ids[1], ids[2]);
    return true;
}

Status read_tokenizer_file(const JsonValue & root, TokenizerModel & model) {
    GNV_ASSIGN(const JsonValue bpe, root.get("model"));
    GNV_TRY(read_model(bpe, model));
    GNV_TRY(read_tokenizer_steps(root, model));
    return read_added_tokens(root, model);
}

} // namespace gnv
