// The content of a tokenizer.json, checked and ready to run.
#pragma once

#include "formats/json.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/split_pattern.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

#include <array>
#include <string>
#include <unordered_map>
#include <vector>

namespace gnv {

struct TokenizerModel {
    std::string name; // the file, for messages
    Vocabulary vocabulary;
    TokenId trained_size = 0; // later ids are added tokens, which merging never gives
    MergeTable merges;
    std::array<TokenId, 256> byte_tokens = {}; // no_token for bytes outside UTF-8 without a token
    bool ignore_merges = false;                // a piece that is a token as a whole is not merged
    bool nfc = false;
    std::vector<SplitPattern> patterns;              // applied in turn, each to the pieces of the one before
    std::vector<AddedToken> added_tokens;            // each content once
    std::unordered_map<TokenId, size_t> added_by_id; // positions while the file is read
    AddedTokenFinder raw_tokens;                     // matched in the given text
    AddedTokenFinder normalized_tokens;              // matched in the normalized rest
    TokenRoles roles;
};

// tokenizer/tokenizer_file.cpp: `root` of a tokenizer.json; fills everything except the finders and the special tokens.
Status read_tokenizer_file(const JsonValue & root, TokenizerModel & model);
// The member "vocab" of the model: ids by token in the byte-level alphabet, with one for every byte.
Status read_trained_vocabulary(const JsonValue & vocab, TokenizerModel & model);
// The next merge; false where a token of it, which `unknown` becomes, is not in the vocabulary.
bool add_merge(std::string_view left, std::string_view right, TokenizerModel & model, std::string & unknown);
// tokenizer/tokenizer_parts.cpp: `vocab` is the root of vocab.json, `merges` the text of merges.txt, `config` the root of
// tokenizer_config.json. All but the added tokens, which read_tokenizer_config() reads.
Status read_tokenizer_parts(const JsonValue & vocab, std::string_view merges, const std::string & merges_name,
                            const JsonValue & config, TokenizerModel & model);
// tokenizer/tokenizer_steps.cpp: the members normalizer, pre_tokenizer, post_processor and decoder.
Status read_tokenizer_steps(const JsonValue & root, TokenizerModel & model);
// tokenizer/tokenizer_added.cpp: the member added_tokens, and `root` of a tokenizer_config.json.
Status read_added_tokens(const JsonValue & root, TokenizerModel & model);
Status read_tokenizer_config(const JsonValue & root, TokenizerModel & model);
// Fills the finders, after all added tokens are known.
void index_added_tokens(TokenizerModel & model);

} // namespace gnv
