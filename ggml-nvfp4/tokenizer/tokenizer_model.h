// What a tokenizer.json says, checked and made ready to run.
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
    TokenId trained_size = 0; // ids from here on are added tokens, which merging never gives
    MergeTable merges;
    std::array<TokenId, 256> byte_tokens = {}; // no_token for bytes that UTF-8 does not use, where the file has none
    bool ignore_merges = false;                // a piece that is a token as a whole is not merged
    bool nfc = false;
    std::vector<SplitPattern> patterns;              // applied in turn, each to the pieces of the one before
    std::vector<AddedToken> added_tokens;            // each content once
    std::unordered_map<TokenId, size_t> added_by_id; // positions while the file is read
    AddedTokenFinder raw_tokens;                     // looked for in the text as given
    AddedTokenFinder normalized_tokens;              // looked for in the normalized rest
    TokenRoles roles;
};

// tokenizer/tokenizer_file.cpp: `root` of a tokenizer.json; fills everything but the finders and the roles.
Status read_tokenizer_file(const JsonValue & root, TokenizerModel & model);
// tokenizer/tokenizer_steps.cpp: the members normalizer, pre_tokenizer, post_processor and decoder.
Status read_tokenizer_steps(const JsonValue & root, TokenizerModel & model);
// tokenizer/tokenizer_added.cpp: the member added_tokens, and `root` of a tokenizer_config.json.
Status read_added_tokens(const JsonValue & root, TokenizerModel & model);
Status read_tokenizer_config(const JsonValue & root, TokenizerModel & model);
// Fills the finders, when all added tokens are known.
void index_added_tokens(TokenizerModel & model);

} // namespace gnv
